"""Listing, pulling and verifying files, with a small network in place of a published one."""

import dataclasses

import pytest
import torch

from gpen_backend.models import inventory as module
from gpen_backend.models.inventory import CannotPull, list_model_files, pull, verify
from gpen_backend.network.generator import Generator
from gpen_backend.weights.catalog import KNOWN_MODELS
from gpen_backend.weights.store import WeightStore

NAME = "gpen-bfr-256"
FILE = "GPEN-BFR-256.pth"


@pytest.fixture
def small(monkeypatch, tiny_state, tmp_path_factory):
    """The bytes of a small checkpoint that passes the self-check; patches the catalog to match it."""
    state = {
        name: tensor * 0.2 if "to_rgb" in name and name.endswith((".conv.weight", "to_rgb1.bias")) else tensor
        for name, tensor in tiny_state.items()
    }
    path = tmp_path_factory.mktemp("small") / FILE
    torch.save(state, path)
    generator = Generator(16, narrow=1 / 128, style_dim=8, mlp_layers=2)
    known = dataclasses.replace(
        KNOWN_MODELS[NAME], size=16, parameters=sum(p.numel() for p in generator.parameters())
    )
    monkeypatch.setattr(module, "KNOWN_MODELS", {**KNOWN_MODELS, NAME: known})
    return path.read_bytes()


@pytest.fixture
def store(tmp_path, file_server):
    return WeightStore(tmp_path, mirror=file_server.url)


def test_verifies_a_first_pull(store, file_server, small):
    file_server.files[FILE] = small
    pull(store, NAME, "pth")
    (seen,) = verify(store, NAME)
    assert seen.faults == ()
    assert seen.sha256 == store.trust_records()[FILE].sha256
    assert seen.check.std > 0.01


def test_does_not_keep_a_download_that_is_no_checkpoint(store, file_server):
    file_server.files[FILE] = b"<html>hotel</html>"
    with pytest.raises(Exception, match="is text"):
        pull(store, NAME, "pth")
    assert store.trust_records() == {}


@pytest.mark.parametrize("name", ["gpen-colorization-1024", "gpen-inpainting-1024"])
def test_cannot_pull_an_unpublished_format(store, name):
    with pytest.raises(CannotPull, match="not published as onnx"):
        pull(store, name, "onnx")


def test_lists_every_published_file_with_its_state(store, file_server, small):
    (store.folder / FILE).write_bytes(small)
    (store.folder / "gpen_bfr_512.onnx").write_bytes(b"another")
    entries = {entry.file: entry for entry in list_model_files(store)}
    assert set(entries) == {f.name for model in KNOWN_MODELS.values() for f in model.files if f.urls}
    assert (entries[FILE].state, entries[FILE].size) == ("present", len(small))
    assert entries["gpen_bfr_512.onnx"].state == "broken"
    assert entries["gpen_bfr_1024.onnx"].state == "missing"
    assert entries["gpen_bfr_1024.onnx"].size == 285_203_703
    assert entries["GPEN-Colorization-1024.pth"].task == "colorize"


def test_a_network_of_another_size_than_its_name_says_is_a_fault(store, tiny_state):
    torch.save(dict(tiny_state), store.folder / "GPEN-BFR-512.pth")
    (seen,) = verify(store, "gpen-bfr-512")
    assert "network of 16 px; gpen-bfr-512 has 512" in seen.faults[0]
    assert store.trust_records() == {}


def test_an_untrained_network_is_a_fault_and_is_not_trusted(store, small, tiny_state):
    torch.save({name: tensor * 3 for name, tensor in tiny_state.items()}, store.folder / FILE)
    (seen,) = verify(store, NAME)
    assert "not a trained generator" in seen.faults[0]
    assert store.trust_records() == {}


def test_a_replaced_file_is_a_fault_until_it_is_accepted(store, small):
    path = store.folder / FILE
    path.write_bytes(small)
    assert next(verify(store, NAME)).faults == ()
    torch.save({"g_ema": torch.load(path, weights_only=True)}, path)
    assert "the one first used" in next(verify(store, NAME)).faults[0]
    assert next(verify(store, NAME, accept=True)).faults == ()
    assert next(verify(store, NAME)).faults == ()


def test_accept_does_not_override_a_published_checksum(store):
    (store.folder / "GPEN-BFR-256.onnx").write_bytes(b"x")
    assert "the published one" in next(verify(store, NAME, accept=True)).faults[0]
