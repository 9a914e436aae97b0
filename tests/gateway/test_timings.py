import re

import pytest

from gateway.timings import Timings, server_timing


def test_stages_add_up_in_the_order_in_which_they_first_ran():
    timings = Timings()
    timings.add("decode", 2)
    timings.add("light", 1)
    timings.add("decode", 3)
    assert timings.stages_ms == {"decode": 5, "light": 1}
    assert list(timings.with_total()) == ["decode", "light", "total"]


def test_a_stage_that_fails_is_timed_too():
    timings = Timings()
    with pytest.raises(RuntimeError), timings.stage("decode"):
        raise RuntimeError
    assert timings.stages_ms["decode"] >= 0


def test_the_total_is_no_less_than_its_stages():
    timings = Timings()
    for name in ("decode", "frame"):
        with timings.stage(name):
            sum(range(10_000))
    told = timings.with_total()
    assert told["total"] >= told["decode"] + told["frame"] > 0


def test_asking_for_the_total_adds_no_stage():
    timings = Timings()
    timings.with_total()
    assert timings.stages_ms == {}


def test_the_header_is_as_the_standard_has_it():
    header = server_timing({"find_faces": 12.345, "gpen_network": 0.04})
    assert header == "find_faces;dur=12.3, gpen_network;dur=0.0"
    # W3C Server Timing: a list of tokens, each with parameters.
    assert all(re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+;dur=[0-9.]+", item) for item in header.split(", "))


def test_no_stages_make_an_empty_header():
    assert server_timing({}) == ""
