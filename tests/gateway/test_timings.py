import re
from types import SimpleNamespace

import pytest

from gateway.timings import Timings, server_timing


@pytest.fixture
def clock(monkeypatch):
    """A clock in milliseconds that tests set: `clock[0] += 5`."""
    now = [0.0]
    monkeypatch.setattr("gateway.timings.time", SimpleNamespace(perf_counter=lambda: now[0] / 1000))
    return now


def fail_after(clock, milliseconds):
    clock[0] += milliseconds
    raise RuntimeError


def test_sums_stages_in_the_order_in_which_they_first_ran():
    timings = Timings()
    timings.add("decode", 2)
    timings.add("light", 1)
    timings.add("decode", 3)
    stages_ms = timings.finish()
    assert list(stages_ms) == ["decode", "light", "total"]
    assert (stages_ms["decode"], stages_ms["light"]) == (5, 1)


def test_times_a_stage_that_fails(clock):
    timings = Timings()
    with pytest.raises(RuntimeError), timings.stage("decode"):
        fail_after(clock, 7)
    assert timings.finish() == {"decode": 7, "total": 7}


def test_the_total_covers_the_time_between_stages(clock):
    timings = Timings()
    for name in ("decode", "frame"):
        clock[0] += 1
        with timings.stage(name):
            clock[0] += 10
    assert timings.finish() == {"decode": 10, "frame": 10, "total": 22}


def test_the_remainder_is_the_time_that_no_inner_stage_has(clock):
    timings = Timings()
    timings.add("decode", 100)
    with timings.remainder("queue"):
        clock[0] += 4
        with timings.stage("decode"):
            clock[0] += 10
        with timings.stage("frame"):
            clock[0] += 20
        clock[0] += 1
    assert timings.finish() == {"decode": 110, "queue": 5, "frame": 20, "total": 35}


def test_adds_the_remainder_of_a_block_that_fails(clock):
    timings = Timings()
    timings.add("queue", 2)
    with pytest.raises(RuntimeError), timings.remainder("queue"):
        fail_after(clock, 3)
    assert timings.finish() == {"queue": 5, "total": 3}


def test_finish_stops_the_clock_once(clock):
    timings = Timings()
    clock[0] += 5
    first = timings.finish()
    clock[0] += 5
    assert timings.finish() == first == {"total": 5}


def test_finish_rounds_to_microseconds(clock):
    timings = Timings()
    timings.add("decode", 1.23456)
    assert timings.finish() == {"decode": 1.235, "total": 0}


def test_add_all_prefixes_every_stage(clock):
    timings = Timings()
    timings.add_all("gpen", {"align": 1, "network": 2})
    assert timings.finish() == {"gpen_align": 1, "gpen_network": 2, "total": 0}


def test_the_header_follows_w3c_server_timing():
    header = server_timing({"find_faces": 12.345, "gpen_network": 0.04})
    assert header == "find_faces;dur=12.3, gpen_network;dur=0.0"
    # A list of tokens, each with parameters.
    assert all(re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+;dur=[0-9.]+", item) for item in header.split(", "))


def test_no_stages_make_an_empty_header():
    assert server_timing({}) == ""
