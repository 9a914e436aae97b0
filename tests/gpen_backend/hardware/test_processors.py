import os

import pytest

from gpen_backend.hardware import processors
from gpen_backend.hardware.processors import usable_processors


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ("max 100000", 16),
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("10000 100000", 1),
        ("odd", 16),
    ],
)
def test_a_containers_quota_limits_the_processors(monkeypatch, tmp_path, quota, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    monkeypatch.setattr(processors, "_QUOTA", tmp_path / "cpu.max")
    assert usable_processors() == 16
    (tmp_path / "cpu.max").write_text(quota + "\n")
    assert usable_processors() == expected


def test_counts_all_processors_without_affinity(monkeypatch, tmp_path):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(processors, "_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_processors() == 1
