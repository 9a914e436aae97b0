import json
import re
from html.parser import HTMLParser

import cv2
import httpx
import numpy as np
import pytest
from click.testing import CliRunner

from gateway.cli import main
from gateway.imaging.encoder import encode

EMBEDDED = {"GATEWAY_FACE_FINDER": "haar", "GPEN_BACKEND_ENGINE": "classical", "GATEWAY_BACKEND_URL": None}


def evaluate(*arguments, **environment):
    return CliRunner(env={**EMBEDDED, **environment}).invoke(main, ["evaluate", *map(str, arguments)])


@pytest.fixture(scope="module")
def photos(tmp_path_factory, astronaut):
    """Two small portraits, a dark one in a subfolder, a wall, and a file that is not a picture."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "below").mkdir()
    small = astronaut[:300, 90:390]
    (folder / "a.png").write_bytes(encode(np.ascontiguousarray(small), "png", 100))
    (folder / "below" / "dark.png").write_bytes(encode((small * 0.45).astype(np.uint8), "png", 100))
    (folder / "wall.png").write_bytes(encode(np.full((200, 240, 3), 120, np.uint8), "png", 100))
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 but nothing more")
    return folder


@pytest.fixture(scope="module")
def sharp(tmp_path_factory, astronaut):
    folder = tmp_path_factory.mktemp("sharp")
    enlarged = cv2.resize(astronaut[:260, 90:350], None, fx=2.2, fy=2.2, interpolation=cv2.INTER_CUBIC)
    (folder / "truth.png").write_bytes(encode(enlarged, "png", 100))
    return folder


@pytest.fixture(scope="module")
def run(photos, sharp, gateway_url, tmp_path_factory):
    """The outcome of one run on all photos, and the folder of its report."""
    out = tmp_path_factory.mktemp("out")
    outcome = evaluate(photos, "-o", out, "--sharp", sharp, "--url", gateway_url, "--seed", 3)
    return outcome, out


@pytest.fixture(scope="module")
def report(run):
    return json.loads((run[1] / "report.json").read_text())


def test_reports_a_broken_file_and_processes_the_rest(run, report):
    outcome, _ = run
    assert outcome.exit_code == 1
    assert "broken.jpg" in outcome.output
    assert list(report["counts"]["broken"]) == ["broken.jpg"]
    assert report["counts"]["photos"] == 3


def test_counts_photos_without_a_face_but_does_not_measure_them(report):
    assert report["counts"]["without_face"] == ["wall.png"]
    assert len(report["spreads"]["exposure"]["input"]["values"]) == 2


def test_names_the_engine(run, report):
    assert report["made_by"]["engine"] == "classical"
    assert "classical" in run[0].output
    assert "little about GPEN" in (run[1] / "report.html").read_text()


def test_standardising_equalises_the_exposure_of_dark_and_light_photos(report):
    exposure = report["spreads"]["exposure"]
    assert exposure["ours"]["std"] < 0.3 * exposure["input"]["std"]
    assert exposure["ours"]["cut"] == pytest.approx(1 - exposure["ours"]["std"] / exposure["input"]["std"])


def test_framing_face_puts_every_face_at_the_same_position(report):
    for measure in ("eye_x", "eye_y", "scale"):
        values = report["spreads"][measure]["face"]["values"]
        assert np.ptp(values) < 1e-4


def test_compares_every_column_with_the_ground_truth(report):
    assert set(report["likeness"]["psnr"]) == {"degraded", "raw", "recipe", "ours", "face", "photo"}
    for values in report["likeness"]["psnr"].values():
        assert 5 < values["mean"] < 60
    for values in report["likeness"]["ssim"].values():
        assert 0 < values["mean"] <= 1


def test_report_is_self_contained(run):
    """Styles, scripts, fonts and pictures are embedded."""
    text = (run[1] / "report.html").read_text()
    sources = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"' )>]+)""", text)
    assert sources
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert "<script" not in text
    assert "$" not in re.sub(r"base64,[^\"]*", "", text), "a placeholder was left"


def test_report_closes_its_tags(run):
    class Balance(HTMLParser):
        void = frozenset({"meta", "img", "br"})

        def __init__(self):
            super().__init__()
            self.open = []

        def handle_starttag(self, tag, attrs):
            if tag not in self.void:
                self.open.append(tag)

        def handle_startendtag(self, tag, attrs):
            pass

        def handle_endtag(self, tag):
            assert self.open.pop() == tag

    parser = Balance()
    parser.feed((run[1] / "report.html").read_text())
    assert parser.open == []


@pytest.mark.slow
def test_same_seed_gives_the_same_numbers(photos, sharp, gateway_url, report, tmp_path):
    evaluate(photos, "-o", tmp_path, "--sharp", sharp, "--url", gateway_url, "--seed", 3, "--limit", 1)
    again = json.loads((tmp_path / "report.json").read_text())
    assert again["likeness"] == report["likeness"]
    assert again["counts"]["photos"] + len(again["counts"]["broken"]) == 1


def test_works_with_an_embedded_gateway(sharp, tmp_path):
    outcome = evaluate(sharp, "-o", tmp_path / "new")
    assert outcome.exit_code == 0, outcome.output
    assert "1 of 1 photos with a face" in outcome.output
    assert (tmp_path / "new" / "report.html").exists()


def test_rejects_a_folder_without_pictures(tmp_path):
    outcome = evaluate(tmp_path, "-o", tmp_path / "out")
    assert outcome.exit_code == 2
    assert str(tmp_path) in outcome.output


def test_unreachable_gateway_ends_the_run(photos, tmp_path):
    outcome = evaluate(photos, "-o", tmp_path, "--url", "http://127.0.0.1:9", "--patience", 0)
    assert outcome.exit_code == 1
    assert "stopped" in outcome.output


def test_gateway_lost_during_the_run_ends_it_without_a_traceback(photos, tmp_path, monkeypatch):
    async def gone(*_, **__):
        raise httpx.ConnectError("gone")

    monkeypatch.setattr("httpx.AsyncClient.post", gone)
    outcome = evaluate(photos, "-o", tmp_path, "--patience", 0)
    assert outcome.exit_code == 1
    assert "stopped" in outcome.output
    assert not (tmp_path / "report.html").exists()
