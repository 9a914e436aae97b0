import dataclasses
import logging
import shutil

import pytest

from gateway.faces import FinderUnavailable, finder, make_finder

REFUSING = "http://127.0.0.1:1/weights"
# TEST-NET-1 (RFC 5737) is never reachable.
UNROUTABLE = "http://192.0.2.1/weights"


@pytest.fixture
def models(tmp_path, yunet_path):
    shutil.copy(yunet_path, tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def nothing_to_fetch(monkeypatch, tmp_path_factory):
    """Downloads fail at once, and torch.hub has no weights."""
    monkeypatch.setattr(finder, "YUNET", dataclasses.replace(finder.YUNET, url=REFUSING))
    monkeypatch.setattr(finder, "FAN", dataclasses.replace(finder.FAN, url=REFUSING))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("torch")))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def test_makes_haar_without_files(tmp_path):
    assert make_finder("haar", tmp_path).name == "haar"


def test_makes_yunet_from_its_file(models):
    assert make_finder("yunet", models).name == "yunet"


@pytest.mark.parametrize("name", ["yunet", "fan"])
def test_error_for_missing_weights_says_what_to_do(name, tmp_path):
    with pytest.raises(FinderUnavailable, match=r"(?s)by hand.*GATEWAY_FACE_FINDER=auto") as raised:
        make_finder(name, tmp_path)
    assert name in str(raised.value)
    assert REFUSING in str(raised.value)


def test_named_finder_does_not_fall_back(models):
    with pytest.raises(FinderUnavailable, match="2DFAN4"):
        make_finder("fan", models)


def test_auto_uses_yunet_if_its_file_exists(models, caplog):
    with caplog.at_level(logging.INFO):
        assert make_finder("auto", models).name == "yunet"
    assert "using the face finder yunet" in caplog.text


@pytest.mark.parametrize("url", [REFUSING, UNROUTABLE, "http://no-such-host.invalid/", "ftp://nowhere/"])
def test_auto_falls_back_to_haar_if_the_download_fails(monkeypatch, tmp_path, caplog, url):
    monkeypatch.setattr(finder, "YUNET", dataclasses.replace(finder.YUNET, url=url))
    assert make_finder("auto", tmp_path).name == "haar"
    assert "haar, which misses turned heads" in caplog.text


def test_auto_falls_back_to_haar_if_the_folder_cannot_be_created(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    assert make_finder("auto", tmp_path / "file" / "models").name == "haar"


def test_ignores_a_damaged_weights_file(models):
    path = models / finder.YUNET.name
    path.write_bytes(path.read_bytes()[:-1])
    assert make_finder("auto", models).name == "haar"
    with pytest.raises(FinderUnavailable):
        make_finder("yunet", models)


def test_every_available_finder_finds_a_face(models, astronaut):
    for name in ("auto", "yunet", "haar"):
        assert make_finder(name, models).find(astronaut)
