"""How much memory there is, and how much of it a process took: measured, for the choice of a batch size."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_CGROUP = Path("/sys/fs/cgroup")
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes. used: the most this process had at once so far. free: what it still may, None if unknown."""

    used: int
    free: int | None


def device_memory(device: "torch.device") -> Memory:
    """Of a torch device: the GPU's own memory, else the machine's."""
    if device.type != "cuda":
        return process_memory()
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    # What the allocator holds and does not use is free to this process too.
    held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return Memory(torch.cuda.max_memory_allocated(device), free + held)


def process_memory() -> Memory:
    """Of the machine, or of the container (cgroup v2) where that has less."""
    used = _kilobytes(_PROC / "self" / "status", "VmHWM:") or 0
    limits = [_kilobytes(_PROC / "meminfo", "MemAvailable:"), _left_in_container()]
    return Memory(used, min((limit for limit in limits if limit is not None), default=None))


def _left_in_container() -> int | None:
    most, now = _number(_CGROUP / "memory.max"), _number(_CGROUP / "memory.current")
    return None if most is None or now is None else max(0, most - now)


def _number(path: Path) -> int | None:
    """The number in a file; None where there is no file, or "max" in it."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _kilobytes(path: Path, name: str) -> int | None:
    """Bytes in the line `name` of a file of /proc."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), None)
