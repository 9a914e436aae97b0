"""Counts the processors available to this process: those of its container, not of the machine."""

import math
import os
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def usable_processors() -> int:
    """Number of processors by affinity and by the container's quota (cgroup v2), at least 1."""
    affinity = getattr(os, "sched_getaffinity", None)
    present = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min(present, _quota() or present))


def _quota() -> int | None:
    """The container's CPU quota in processors, rounded up; None without a limit."""
    try:
        allowed, period = _QUOTA.read_text().split()
        return math.ceil(int(allowed) / int(period))
    except (OSError, ValueError, ZeroDivisionError):
        return None
