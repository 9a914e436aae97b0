"""File names from uploads are sanitised and made unique."""

from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.imaging.filenames import (
    choose_format,
    choose_suffix,
    is_system_file,
    make_safe_name,
    make_unique_stems,
)


@given(st.text(st.characters(), max_size=600))
def test_safe_name_stays_below_its_folder_on_any_system(name):
    safe = make_safe_name(name)
    for path in (PurePosixPath(safe), PureWindowsPath(safe)):
        assert path.parts
        assert not path.is_absolute()
        assert not path.drive
        assert ".." not in path.parts
        assert all(len(part.encode()) <= 200 for part in path.parts)
    assert safe.isprintable() or not any(ord(letter) < 32 for letter in safe)
    assert make_safe_name(safe) == safe


@given(st.lists(st.sampled_from(["a.jpg", "a.png", "A.png", "a-2.jpg", "a-2-2.gif", "b/a.jpg", "a"])))
def test_stems_are_unique_ignoring_case(names):
    stems = make_unique_stems(names)
    assert len({stem.casefold() for stem in stems}) == len(names)


def test_first_name_keeps_its_stem():
    assert make_unique_stems(["x/a.jpg", "x/a.png", "a.png"]) == ["x/a", "x/a-2", "a"]


@pytest.mark.parametrize(
    "name", ["__MACOSX/a.jpg", "x/__MACOSX/._a.jpg", "._a.jpg", ".DS_Store", "x\\Thumbs.db", "desktop.ini"]
)
def test_recognises_files_of_operating_systems(name):
    assert is_system_file(name)


@pytest.mark.parametrize("name", ["a.jpg", "MACOSX/a.jpg", "x/Thumbs.db.jpg", "", "..."])
def test_accepts_files_of_users(name):
    assert not is_system_file(name)


@pytest.mark.parametrize(
    ("name", "output_format", "suffix"),
    [
        ("a.JPEG", "jpeg", ".JPEG"),
        ("a.png", "jpeg", ".jpg"),
        ("a", "webp", ".webp"),
        ("a.tif", "png", ".png"),
    ],
)
def test_keeps_an_extension_that_fits_the_format(name, output_format, suffix):
    assert choose_suffix(name, output_format) == suffix


@pytest.mark.parametrize(
    ("name", "output_format"),
    [("a.JPG", "jpeg"), ("a.mpo", "jpeg"), ("a.webp", "webp"), ("a.tif", "png"), ("a", "png")],
)
def test_default_format_is_that_of_the_input_if_writable(name, output_format):
    assert choose_format(name) == output_format
