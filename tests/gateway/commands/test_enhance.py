"""`enhance` and `preprocess` as separate processes, on folders of pictures."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from gateway.imaging.encoder import encode

Command = Callable[..., "subprocess.CompletedProcess[str]"]

SHADES = (60, 110, 160)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("GATEWAY_", "GPEN_"))}
    return {
        **inherited,
        "GATEWAY_FACE_FINDER": "haar",
        "GATEWAY_CACHE": "off",
        "GPEN_BACKEND_ENGINE": "classical",
        "GPEN_BACKEND_FETCH": "off",
        "GPEN_MODELS_DIR": str(tmp_path / "models"),
        "PYTHONWARNINGS": "error",
    }


@pytest.fixture
def run(tmp_path: Path, environment: dict[str, str]) -> Command:
    """Runs the console command in `tmp_path`."""

    def _run(*arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "gateway", *arguments],
            cwd=tmp_path,
            env={**environment, **more},
            capture_output=True,
            text=True,
            timeout=100,
        )

    return _run


def shade(value: int, suffix: str = "png") -> bytes:
    return encode(np.full((64, 64, 3), value, np.uint8), suffix, 90)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Three pictures in a folder and its subfolders, and two files that are ignored."""
    folder = tmp_path / "in"
    (folder / "sub" / "deep").mkdir(parents=True)
    (folder / "a.png").write_bytes(shade(SHADES[0]))
    (folder / "sub" / "b.jpeg").write_bytes(shade(SHADES[1], "jpeg"))
    (folder / "sub" / "deep" / "c.png").write_bytes(shade(SHADES[2]))
    (folder / "notes.txt").write_text("no picture")
    (folder / ".hidden.png").write_bytes(b"x")
    return folder


def results(out: Path) -> set[str]:
    return {file.relative_to(out).as_posix() for file in out.rglob("*") if file.is_file()}


HIDDEN = {".gpen-gateway.json", ".gpen-gateway.lock"}


def test_mirrors_a_folder_and_a_second_run_processes_only_changes(run: Command, tree: Path, tmp_path: Path):
    out = tmp_path / "out"
    first = run("enhance", "in", "-o", "out", "--strength", "50")
    assert (first.returncode, first.stderr) == (0, "")
    assert "3 done, 0 unchanged, 0 failed" in first.stdout
    assert results(out) == {"a.png", "sub/b.jpeg", "sub/deep/c.png"} | HIDDEN
    made = {name: (out / name).stat().st_mtime_ns for name in results(out)}

    (tree / "a.png").touch()
    (tree / "sub" / "b.jpeg").write_bytes(shade(200, "jpeg"))
    (out / "sub" / "deep" / "c.png").unlink()
    (tree / "d.png").write_bytes(shade(90))
    planned = run("enhance", "in", "-o", "out", "--param", "strength=50.0", "--dry-run")
    assert planned.returncode == 0
    assert [line.rpartition(" ")[2] for line in planned.stdout.splitlines()[:-1]] == [
        "(new)",
        "(input)",
        "(output)",
    ]
    assert "3 to do, 1 unchanged" in planned.stdout
    second = run("enhance", "in", "-o", "out", "--strength", "50")
    assert "3 done, 1 unchanged, 0 failed" in second.stdout
    assert (out / "a.png").stat().st_mtime_ns == made["a.png"]
    assert (out / "sub" / "b.jpeg").stat().st_mtime_ns > made["sub/b.jpeg"]

    third = run("enhance", "in", "-o", "out", "--strength", "51")
    assert "4 done, 0 unchanged" in third.stdout


def test_reports_broken_files_and_processes_the_rest(run: Command, tree: Path, tmp_path: Path):
    (tree / "broken.jpg").write_bytes(b"not a picture")
    (tree / "half.png").write_bytes(shade(80)[:60])
    out = tmp_path / "out"
    ran = run("enhance", "in", "-o", "out", "--report", "report.ndjson")
    assert ran.returncode == 1
    assert "3 done, 0 unchanged, 2 failed, 3 without a face" in ran.stdout
    assert "in/broken.jpg: Unsupported picture format" in ran.stderr
    assert "in/half.png: The picture is damaged" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert results(out) == {"a.png", "sub/b.jpeg", "sub/deep/c.png"} | HIDDEN
    lines = [json.loads(line) for line in (tmp_path / "report.ndjson").read_text().splitlines()]
    by_input = {Path(line["input"]).name: line for line in lines}
    assert by_input["broken.jpg"]["problem"]["type"] == "unsupported-picture"
    assert by_input["a.png"]["report"]["engine"] == "classical"
    assert len(lines) == 5


def test_ctrl_c_keeps_finished_results_and_the_next_run_continues(
    tree: Path, tmp_path: Path, environment: dict[str, str], run: Command
):
    for number in range(22):
        (tree / f"n{number}.png").write_bytes(shade(number))
    out = tmp_path / "out"
    command = [sys.executable, "-m", "gateway", "enhance", "in", "-o", "out", "--concurrency", "2"]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Processes started by a shell's background jobs ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        deadline = time.monotonic() + 60
        while not list(out.glob("*.png")):
            assert time.monotonic() < deadline
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 130, stderr
    assert stderr == "interrupted\n"
    assert " left: run the same command to continue" in stdout
    done = int(stdout.split()[0])
    assert 1 <= done < 25
    assert not [name for name in results(out) if name.endswith(".part")]
    again = run("enhance", "in", "-o", "out")
    assert f"{25 - done} done, {done} unchanged, 0 failed" in again.stdout
    assert again.returncode == 0


def test_preprocess_accepts_files_patterns_and_parameters(run: Command, tree: Path, tmp_path: Path):
    ran = run(
        "preprocess", "in/a.png", "in/sub/**/*.png", "-o", "out", "--format", "webp", "--param", "yaw=off"
    )
    assert ran.returncode == 0, ran.stderr
    assert results(tmp_path / "out") == {"a.webp", "deep/c.webp"} | HIDDEN
    kept = json.loads((tmp_path / "out" / ".gpen-gateway.json").read_text())["results"]["a.webp"]
    assert kept["parameters"] == {"route": "/v1/preprocess", "yaw": "off", "format": "webp"}
    assert set(kept["made_by"]) == {"version", "finder"}


def test_uses_the_gateway_at_a_url(run: Command, tree: Path, tmp_path: Path, gateway_url: str):
    # No gateway is started: it would reject the face finder.
    ran = run("enhance", "in", "-o", "out", "--url", gateway_url, GATEWAY_FACE_FINDER="none")
    assert ran.returncode == 0, ran.stderr
    assert "3 done" in ran.stdout


def test_without_the_internet_the_missing_checkpoint_is_reported_once(run: Command, tree: Path):
    offline = {"GPEN_BACKEND_ENGINE": "auto", "GPEN_BACKEND_FETCH": "on", "https_proxy": "http://127.0.0.1:9"}
    ran = run("enhance", "in/a.png", "-o", "out", **offline)
    assert ran.returncode == 0
    (message,) = ran.stderr.splitlines()
    assert message.startswith("gpen-gateway: gpen-bfr-512 has no checkpoint")
    assert "gpen-gateway models pull gpen-bfr-512" in message


def test_unreachable_gateway_ends_the_command_with_a_message(run: Command, tree: Path):
    ran = run("enhance", "in", "-o", "out", "--url", "http://127.0.0.1:9", "--patience", "0.1")
    assert ran.returncode == 1
    assert "stopped: no connection to http://127.0.0.1:9" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "-o", "out"], "no picture found"),
        (["in/*.tiff", "-o", "out"], "no picture found"),
        (["in", "-o", "in"], "is one of the inputs; use another folder"),
        (["in", "-o", "out", "--strength", "900"], "strength: "),
        (["in", "-o", "out", "--param", "strenght=3"], "strenght: unknown parameter; "),
        (["in", "-o", "out", "--param", "strength"], "write it as NAME=VALUE"),
        (["in/a.png", "other/a.png", "-o", "out"], "would both become out/a.png"),
    ],
)
def test_rejects_invalid_arguments_before_writing_anything(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: Sequence[str], message: str
):
    from click.testing import CliRunner

    from gateway.cli import main

    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.png").write_bytes(shade(1))
    monkeypatch.chdir(tmp_path)
    ran = CliRunner().invoke(main, ["enhance", *arguments])
    assert ran.exit_code == 2
    assert message in ran.stderr
    assert not (tmp_path / "out").exists()
    assert results(tree) == {"a.png", "sub/b.jpeg", "sub/deep/c.png", "notes.txt", ".hidden.png"}


def test_keeps_unknown_files_in_the_folder_of_results(run: Command, tree: Path, tmp_path: Path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.png").write_bytes(b"mine")
    ran = run("enhance", "in", "-o", "out")
    assert ran.returncode == 1
    assert "out/a.png is in the way" in ran.stderr
    assert "2 done, 0 unchanged, 1 failed" in ran.stdout
    assert (out / "a.png").read_bytes() == b"mine"
    forced = run("enhance", "in", "-o", "out", "--force")
    assert "3 done" in forced.stdout
    assert (out / "a.png").read_bytes().startswith(b"\x89PNG")
