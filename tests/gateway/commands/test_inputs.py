"""What people name, and where it goes."""

from pathlib import Path

import pytest

from gateway.commands.inputs import Clash, NothingFound, find, plan


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"x")


def outputs(*paths: str, output_format=None, out: str = "out") -> list[str]:
    return [job.output.as_posix() for job in plan(find(paths, Path(out)), Path(out), output_format)]


def test_the_content_of_one_folder_is_mirrored():
    touch("in/a.JPG", "in/x/b.tiff", "in/x/.thumbs/c.png", "in/Thumbs.db", "in/x/._a.jpg", "in/notes.txt")
    assert outputs("in") == ["a.JPG", "x/b.png"]


def test_several_folders_keep_their_names():
    touch("one/a.png", "two/a.png", "c.gif")
    assert outputs("one", "two/", "c.gif") == ["c.png", "one/a.png", "two/a.png"]


def test_a_file_that_is_named_may_have_any_extension():
    touch("scan.dat", "in/scan.dat", "in/b.png")
    assert outputs("scan.dat") == ["scan.png"]
    assert outputs("in") == ["b.png"]


def test_a_pattern_mirrors_what_lies_below_its_fixed_part():
    touch("p/2020/a.jpg", "p/2021/x/a.jpg", "p/2021/b.txt")
    assert outputs("p/**/*.jpg") == ["2020/a.jpg", "2021/x/a.jpg"]
    assert outputs("p/*") == ["2020/a.jpg", "2021/x/a.jpg"]
    assert outputs("p/202[0]/*") == ["2020/a.jpg"]


def test_a_picture_that_is_named_twice_is_made_once():
    touch("in/a.png")
    assert outputs("in/a.png", "in/../in/a.png", "in/*.png") == ["a.png"]


def test_results_are_no_inputs():
    touch("in/a.png", "in/out/a.png", "in/out/deep/b.png")
    assert outputs("in", out="in/out") == ["a.png"]
    assert outputs("in/**/*.png", out="in/out") == ["a.png"]


def test_inputs_that_differ_in_their_extension_alone_are_told_apart_where_they_would_share_a_result():
    touch("in/a.jpg", "in/a.png", "in/a.tif", "in/b.jpg")
    assert outputs("in") == ["a.jpg", "a.png.png", "a.tif.png", "b.jpg"]
    assert outputs("in", output_format="jpeg") == ["a.jpg.jpg", "a.png.jpg", "a.tif.jpg", "b.jpg"]


def test_names_that_differ_in_case_alone_are_refused():
    touch("in/a.png", "in/A.png")
    with pytest.raises(Clash, match="would both become"):
        outputs("in")


def test_a_name_that_was_made_to_tell_apart_may_be_taken():
    touch("in/a.png", "in/a.tif", "in/a.tif.png")
    with pytest.raises(Clash, match=r"would both become out/a\.tif\.png"):
        outputs("in")


def test_two_files_of_the_same_name_are_refused_by_both_names():
    touch("x/a.png", "y/a.png")
    with pytest.raises(Clash, match=r"x/a\.png and y/a\.png would both become out/a\.png"):
        outputs("x/a.png", "y/a.png")


@pytest.mark.parametrize("out", ["in", "in/../in", "link"])
def test_an_input_is_never_written_over(out):
    touch("in/a.png")
    Path("link").symlink_to("in")
    with pytest.raises(Clash, match="is one of the inputs"):
        outputs("in/a.png", out=out)


@pytest.mark.parametrize("path", ["nowhere", "in", "in/*.png"])
def test_nothing_is_told(path):
    touch("in/notes.txt")
    with pytest.raises(NothingFound, match="no picture is there"):
        outputs(path)
