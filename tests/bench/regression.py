"""Records the gateway's responses for real portraits, and compares a later version with the recording.

./run bench regression record FILE [--portraits N]
./run bench regression compare FILE

Reads the portraits of GPEN_GATEWAY_SHARED and runs the gateway in this process (YuNet, classical engine, no
cache). For each portrait and each parameter set of CASES the recording holds the status, the SHA-256 of the
picture and the numbers of the report. Timings and sentences are left out: a refactoring may change them.
"""

import argparse
import asyncio
import base64
import csv
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from gateway.app import create_app

# (route, form fields); together they cover every stage and every linkage rule.
CASES: dict[str, tuple[str, dict[str, str]]] = {
    "default": ("/v1/enhance", {}),
    "article": ("/v1/enhance", {"clahe": "always", "exposure": "off", "brightness": "40", "contrast": "40"}),
    "face": ("/v1/enhance", {"framing": "face", "strength": "auto", "format": "png", "faces": "best"}),
    "strong": ("/v1/enhance", {"mode": "strong", "skin_protect": "false", "denoise": "30", "sharpen": "30",
                               "detail_enhance": "true", "format": "webp", "quality": "80"}),
    "photo": ("/v1/enhance", {"output": "photo"}),
    "larger": ("/v1/enhance", {"output": "photo", "upscale": "2", "mode": "detail", "sharpen": "20",
                               "brightness": "20", "keep_metadata": "all", "format": "jpeg"}),
    "strict": ("/v1/enhance", {"no_face": "reject", "yaw": "reject", "linkage": "false"}),
    "preprocess": ("/v1/preprocess", {}),
    "recipe": ("/preprocess", {}),
}  # fmt: skip
SENTENCES = {"because", "reason", "detail", "title"}
LEFT_OUT = {"timings_ms", "request_id", "image_base64"}


def numbers(value: Any) -> Any:
    """Return `value` without timings and sentences; of a warning keep the word before its colon."""
    if isinstance(value, dict):
        kept = {name: numbers(inner) for name, inner in value.items() if name not in LEFT_OUT | SENTENCES}
        if "warnings" in kept:
            kept["warnings"] = [warning.partition(":")[0] for warning in value["warnings"]]
        return kept
    return [numbers(inner) for inner in value] if isinstance(value, list) else value


@contextmanager
def environment(weights: Path) -> Iterator[None]:
    """Replace the caller's settings in the environment by fixed ones."""
    for name in [name for name in os.environ if name.startswith(("GATEWAY_", "GPEN_"))]:
        del os.environ[name]
    with tempfile.TemporaryDirectory() as folder:
        for file in weights.glob("face_detection_yunet_*.onnx"):
            Path(folder, file.name).write_bytes(file.read_bytes())
        os.environ |= {
            "GATEWAY_CACHE": "off", "GATEWAY_FACE_FINDER": "yunet", "GPEN_BACKEND_ENGINE": "classical",
            "GPEN_BACKEND_FETCH": "off", "GPEN_MODELS_DIR": folder, "GATEWAY_TIMEOUT_S": "600",
        }  # fmt: skip
        yield


async def answers(files: list[Path]) -> dict[str, Any]:
    """Send every portrait with every case. Returns status, picture digest and report numbers of each."""
    app = create_app()
    found: dict[str, Any] = {}
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://gateway", timeout=600) as client,
    ):
        for count, file in enumerate(files, 1):
            for case, (route, fields) in CASES.items():
                answer = await client.post(
                    route, files={"image": (file.name, file.read_bytes())}, data=fields,
                    headers={"Accept": "application/json"},
                )  # fmt: skip
                body = answer.json()
                picture = base64.b64decode(body.get("image_base64", ""))
                found[f"{file.name} {case}"] = {
                    "status": answer.status_code,
                    "sha256": hashlib.sha256(picture).hexdigest() if picture else None,
                    "answer": numbers(body),
                }
            print(f"\r{count}/{len(files)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("verb", choices=("record", "compare"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--portraits", type=int, help="only the first so many; by default all")
    options = parser.parse_args()
    shared = Path(os.environ["GPEN_GATEWAY_SHARED"])
    with (shared / "portraits" / "catalog.tsv").open() as catalog:
        names = [row["file"] for row in csv.DictReader(catalog, delimiter="\t")][: options.portraits]
    with environment(shared / "models"):
        found = asyncio.run(answers([shared / "portraits" / name for name in names]))
    if options.verb == "record":
        options.file.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
        print(f"recorded {len(found)} answers in {options.file}")
        return
    recorded = json.loads(options.file.read_text())
    known = {key: recorded[key] for key in found if key in recorded}
    other = [key for key in known if known[key] != json.loads(json.dumps(found[key]))]
    print(f"{len(known) - len(other)} of {len(known)} answers are equal")
    for key in other[:20]:
        print(f"differs: {key}\n  was {json.dumps(known[key])[:600]}\n  is  {json.dumps(found[key])[:600]}")
    sys.exit(bool(other) or not known)


if __name__ == "__main__":
    main()
