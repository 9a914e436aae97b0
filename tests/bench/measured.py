"""What every bench tells beside its figures, and where the figures go."""

import json
import os
import platform
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def hardware() -> dict[str, Any]:
    """The machine, its load, and what runs the network."""
    import torch

    told = {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load": [round(load, 1) for load in os.getloadavg()],
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    if torch.cuda.is_available():
        told["gpu"] = torch.cuda.get_device_name()
    return told


def keep(
    name: str,
    results: dict[str, Any],
    table: Sequence[Sequence[object]],
    told: dict[str, Any],
    page: str = "performance.md",
) -> None:
    """Write out/bench/NAME.json, print the table, and put it between NAME's marks in a page of docs.

    table: rows of cells, the first of them the head.
    """
    folder = ROOT / "out" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps({"hardware": told, **results}, indent=1) + "\n")
    text = markdown(table) + "\n" + caption(told)
    print(text)
    path = ROOT / "docs" / page
    marked = re.compile(rf"(<!-- measured: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    path.write_text(marked.sub(lambda match: f"{match[1]}{text}{match[2]}", path.read_text()))


def markdown(table: Sequence[Sequence[object]]) -> str:
    head, *rows = ([str(cell) for cell in row] for row in table)
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def caption(told: dict[str, Any]) -> str:
    device = told.get("gpu") or f"{told['cores']} cores of {told['cpu']}"
    return (
        f"Measured {told['date']} on {device}, torch {told['torch']}, load {told['load'][0]} at the start.\n"
    )


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
    return found[1] if found else platform.processor()
