"""Measures used and free memory, for the choice of a batch size."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_CGROUP = Path("/sys/fs/cgroup")
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory in bytes. used: peak use of this process so far. free: None if unknown."""

    used: int
    free: int | None


def device_memory(device: "torch.device") -> Memory:
    """Memory of a torch device: the GPU's own for CUDA, else the machine's."""
    if device.type != "cuda":
        return process_memory()
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    # Memory that torch's allocator holds but does not use is free for this process too.
    held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return Memory(torch.cuda.max_memory_allocated(device), free + held)


def process_memory() -> Memory:
    """Memory of the machine, or of the container (cgroup v2) if its limit leaves less."""
    used = _kilobytes(_PROC / "self" / "status", "VmHWM:") or 0
    limits = [_kilobytes(_PROC / "meminfo", "MemAvailable:"), _left_in_container()]
    return Memory(used, min((limit for limit in limits if limit is not None), default=None))


def _left_in_container() -> int | None:
    limit, used = _number(_CGROUP / "memory.max"), _number(_CGROUP / "memory.current")
    return None if limit is None or used is None else max(0, limit - used)


def _number(path: Path) -> int | None:
    """Read a number from a file; None without a file, or if it holds "max"."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _kilobytes(path: Path, name: str) -> int | None:
    """Read the line `name` of a /proc file, in bytes; None if it is missing."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), None)
