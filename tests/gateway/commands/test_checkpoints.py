"""`gpen-gateway models` as a process, with a local file server."""

import io
import os
import subprocess
import sys

import pytest


@pytest.fixture
def models(tmp_path, file_server):
    """Runs the command with a temporary folder. Returns its exit status, output and errors."""

    def run(*arguments, **environment):
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("GATEWAY_", "GPEN_"))}
        environment = {"GPEN_MODELS_DIR": str(tmp_path), "GPEN_MODELS_MIRROR": file_server.url, **environment}
        done = subprocess.run(
            [sys.executable, "-m", "gateway", "models", *arguments],
            env={**inherited, **environment}, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    return run


def test_list_shows_every_model_and_the_licence_once(models, tmp_path):
    status, out, _ = models("list")
    assert status == 0
    assert str(tmp_path) in out
    assert out.count("non-commercial") == 1
    for name in ("gpen-bfr-256", "gpen-bfr-2048", "gpen-colorization-1024", "gpen-inpainting-1024"):
        assert name in out
    assert out.count("missing") == 11


def test_failed_pull_prints_the_reason(models, file_server):
    file_server.files["GPEN-BFR-256.pth"] = b"<html>hotel</html>"
    status, out, error = models("pull", "gpen-bfr-256", "gpen-bfr-512")
    assert status == 1
    assert "non-commercial" in out
    assert "gpen-bfr-256: " in error
    assert "is text" in error
    assert "gpen-bfr-512: " in error
    assert "404" in error
    assert "Traceback" not in error


def test_url_option_overrides_the_mirror_variable(models, file_server):
    status, _, error = models(
        "pull",
        "gpen-bfr-256",
        "--url",
        f"{file_server.url}/elsewhere",
        GPEN_MODELS_MIRROR="http://127.0.0.1:1",
    )
    assert status == 1
    assert "/elsewhere/GPEN-BFR-256.pth answered 404" in error


def test_verify_without_checkpoints_fails_with_a_hint(models):
    status, _, error = models("verify")
    assert status == 1
    assert "gpen-gateway models pull" in error


def test_verify_reports_broken_files(models, tmp_path):
    (tmp_path / "GPEN-BFR-256.onnx").write_bytes(b"x")
    status, out, error = models("verify", "gpen-bfr-256")
    assert status == 1
    assert "GPEN-BFR-256.onnx" in out
    assert "broken" in out
    assert "the published one has 75715262" in error


def test_unknown_model_or_invalid_setting_is_a_usage_error(models):
    assert models("pull", "gpen-bfr-9000")[0] == 2
    status, _, error = models("list", GPEN_MODELS_MIRROR="nowhere")
    assert status == 2
    assert "GPEN_MODELS_MIRROR" in error
    assert "Traceback" not in error


@pytest.mark.slow
def test_pulls_verifies_and_lists_a_checkpoint(models, file_server, tmp_path):
    torch = pytest.importorskip("torch")
    from gpen_backend.network.generator import Generator

    torch.manual_seed(1)
    # Scaled down, else the output of an untrained network leaves the range of pictures.
    state = {
        name: tensor * 0.2 if "to_rgb" in name and name.endswith("conv.weight") else tensor
        for name, tensor in Generator(256, 1, 0.5).state_dict().items()
    }
    written = io.BytesIO()
    torch.save(state, written)
    file_server.files["GPEN-BFR-256.pth"] = written.getvalue()
    status, out, error = models("pull", "gpen-bfr-256")
    assert (status, error) == (0, "")
    assert str(tmp_path / "GPEN-BFR-256.pth") in out
    status, out, error = models("verify")
    assert "mean " in out
    assert "sha256 " in out
    assert (status, error) == (0, ""), out
    assert "verified" in models("list")[1]
