"""How many processors this process may keep busy: those of its container, not of the machine."""

import math
import os
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def usable_processors() -> int:
    """By affinity and by the container's quota (cgroup v2), 1 at least."""
    affinity = getattr(os, "sched_getaffinity", None)
    present = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min(present, _quota() or present))


def _quota() -> int | None:
    """Processors' worth of time that the container has, rounded up; None where nothing limits it."""
    try:
        allowed, period = _QUOTA.read_text().split()
        return math.ceil(int(allowed) / int(period))
    except (OSError, ValueError, ZeroDivisionError):
        return None
