"""Print the dependencies of pyproject.toml that an image needs, one per line.

usage: requirements.py PYPROJECT [--without NAME]... [--extra NAME]...

OpenCV is replaced by its headless build: the other one needs libGL, which slim images lack.
"""

import argparse
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

_HEADLESS = {"opencv-python": "opencv-python-headless"}


def required(pyproject: str, without: frozenset[str], extras: list[str]) -> Iterator[str]:
    """Requirements of the project and its `extras`, except those named in `without`."""
    project = tomllib.loads(pyproject)["project"]
    optional = project["optional-dependencies"]
    for requirement in [*project["dependencies"], *(line for extra in extras for line in optional[extra])]:
        name = re.match(r"[\w.-]+", requirement)[0]
        if name not in without:
            yield _HEADLESS.get(name, name) + requirement[len(name) :]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("pyproject", type=Path)
    parser.add_argument("--without", action="append", default=[])
    parser.add_argument("--extra", action="append", default=[])
    options = parser.parse_args()
    lines = required(options.pyproject.read_text(), frozenset(options.without), options.extra)
    sys.stdout.write("\n".join(lines) + "\n")
