"""Finding inputs and planning outputs."""

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


def test_mirrors_the_content_of_one_folder():
    touch("in/a.JPG", "in/x/b.tiff", "in/x/.thumbs/c.png", "in/Thumbs.db", "in/x/._a.jpg", "in/notes.txt")
    assert outputs("in") == ["a.JPG", "x/b.png"]


def test_several_folders_keep_their_names():
    touch("one/a.png", "two/a.png", "c.gif")
    assert outputs("one", "two/", "c.gif") == ["c.png", "one/a.png", "two/a.png"]


def test_explicitly_named_file_may_have_any_extension():
    touch("scan.dat", "in/scan.dat", "in/b.png")
    assert outputs("scan.dat") == ["scan.png"]
    assert outputs("in") == ["b.png"]


def test_pattern_mirrors_the_tree_below_its_fixed_prefix():
    touch("p/2020/a.jpg", "p/2021/x/a.jpg", "p/2021/b.txt")
    assert outputs("p/**/*.jpg") == ["2020/a.jpg", "2021/x/a.jpg"]
    assert outputs("p/*") == ["2020/a.jpg", "2021/x/a.jpg"]
    assert outputs("p/202[0]/*") == ["2020/a.jpg"]


def test_processes_a_picture_named_twice_once():
    touch("in/a.png")
    assert outputs("in/a.png", "in/../in/a.png", "in/*.png") == ["a.png"]


def test_ignores_the_folder_of_results():
    touch("in/a.png", "in/out/a.png", "in/out/deep/b.png")
    assert outputs("in", out="in/out") == ["a.png"]
    assert outputs("in/**/*.png", out="in/out") == ["a.png"]


def test_inputs_that_differ_only_in_extension_keep_it_in_the_result():
    touch("in/a.jpg", "in/a.png", "in/a.tif", "in/b.jpg")
    assert outputs("in") == ["a.jpg", "a.png.png", "a.tif.png", "b.jpg"]
    assert outputs("in", output_format="jpeg") == ["a.jpg.jpg", "a.png.jpg", "a.tif.jpg", "b.jpg"]


def test_rejects_names_that_differ_only_in_case():
    touch("in/a.png", "in/A.png")
    with pytest.raises(Clash, match="would both become"):
        outputs("in")


def test_rejects_a_disambiguated_name_that_is_taken():
    touch("in/a.png", "in/a.tif", "in/a.tif.png")
    with pytest.raises(Clash, match=r"would both become out/a\.tif\.png"):
        outputs("in")


def test_rejects_two_files_of_the_same_name():
    touch("x/a.png", "y/a.png")
    with pytest.raises(Clash, match=r"x/a\.png and y/a\.png would both become out/a\.png"):
        outputs("x/a.png", "y/a.png")


@pytest.mark.parametrize("out", ["in", "in/../in", "link"])
def test_never_overwrites_an_input(out):
    touch("in/a.png")
    Path("link").symlink_to("in")
    with pytest.raises(Clash, match="is one of the inputs"):
        outputs("in/a.png", out=out)


@pytest.mark.parametrize("path", ["nowhere", "in", "in/*.png"])
def test_rejects_a_path_without_pictures(path):
    touch("in/notes.txt")
    with pytest.raises(NothingFound, match="no picture found"):
        outputs(path)
