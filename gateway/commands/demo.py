"""`gpen-gateway demo`: enhance a portrait over HTTP and save pictures to compare."""

import base64
import io
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import click
import cv2
import httpx
import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from gateway.imaging.encoder import encode
from gpen_common.geometry import similarity, transform, warp

_START_TIMEOUT_S = 60.0
_REQUEST_TIMEOUT_S = 180.0
_PANEL = 640
_CAPTION = 40
# Position of the eyes in the close-ups, px.
_PANEL_EYES = np.array([(220, 260), (420, 260)], np.float32)

# Values that make linkage adjust parameters.
_FIELDS = {"strength": "80", "brightness": "20", "contrast": "20", "format": "png"}


def run_demo(folder: str, image: str | None) -> None:
    """Serve a gateway on a free port, enhance `image` and save input, portrait, result and a comparison.

    image: path of a photo; None for the built-in degraded portrait. folder: receives the pictures.
    Raises click.ClickException.
    """
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    data = Path(image).read_bytes() if image else make_degraded_portrait()
    with _run_gateway() as url, httpx.Client(base_url=url, timeout=_REQUEST_TIMEOUT_S) as client:
        ready = client.get("/readyz").json()
        portrait = _post(client, "/v1/preprocess", data, {"format": "png"})
        enhanced = _post(client, "/v1/enhance", data, _FIELDS)
    pictures: dict[str, Image.Image] = {
        "input": Image.open(io.BytesIO(data)),
        "portrait": _decode_image(portrait),
        "result": _decode_image(enhanced),
    }
    (out / f"input.{(pictures['input'].format or 'img').lower()}").write_bytes(data)
    pictures["portrait"].save(out / "portrait.png")
    pictures["result"].save(out / "result.png")
    draw_comparison(pictures, enhanced["report"]).save(out / "side-by-side.png")
    _print_summary(out, ready, enhanced["report"])


def make_degraded_portrait() -> bytes:
    """Return a JPEG of Eileen Collins (NASA, public domain; scikit-image's `data.astronaut`), degraded like
    an old phone photo: blurred, shrunk, noisy and compressed. It is the same each time."""
    from skimage import data

    sharp = data.astronaut()[:400]  # type: ignore[no-untyped-call]
    soft = cv2.GaussianBlur(sharp, (0, 0), 1.2)
    small = cv2.resize(soft, None, fx=0.8, fy=0.8, interpolation=cv2.INTER_AREA)
    noise = np.random.default_rng(7).normal(0, 5, small.shape)
    dim = np.clip(small * 0.8 + noise, 0, 255).astype(np.uint8)
    return encode(dim, "jpeg", 60)


def draw_comparison(pictures: dict[str, Image.Image], report: dict[str, Any]) -> Image.Image:
    """Draw `pictures` (`input` and portraits) side by side under their names, with close-ups of the face.

    report: of `/v1/enhance`; it has the landmarks.
    """
    sheet = Image.new(
        "RGB", (_PANEL * len(pictures), _CAPTION + _PANEL * (2 if report["face"] else 1)), "white"
    )
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=22)
    for column, (name, picture) in enumerate(pictures.items()):
        x = column * _PANEL
        draw.text((x + 8, 8), name, "black", font)
        upright = ImageOps.exif_transpose(picture).convert("RGB")
        sheet.paste(ImageOps.pad(upright, (_PANEL, _PANEL), Image.Resampling.LANCZOS, "white"), (x, _CAPTION))
        if report["face"]:
            to_picture = np.eye(2, 3) if name == "input" else np.array(report["portrait"]["matrix"])
            landmarks5 = transform(to_picture, np.array(report["face"]["landmarks5"], np.float32))
            face = warp(np.asarray(upright), similarity(landmarks5[:2], _PANEL_EYES), (_PANEL, _PANEL))
            sheet.paste(Image.fromarray(face), (x, _CAPTION + _PANEL))
    return sheet


@contextmanager
def _run_gateway() -> Iterator[str]:
    """Run a gateway process during the block; yields its URL."""
    port = _find_free_port()
    command = [sys.executable, "-m", "gateway", "serve", "--host", "127.0.0.1", "--port", str(port)]
    # A cached result has no stages to show.
    environment = {"GATEWAY_LOG_LEVEL": "warning", "GATEWAY_CACHE": "off", **os.environ}
    with subprocess.Popen(command, env=environment) as process:  # noqa: S603 - our own command
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_ready(url, process)
            yield url
        finally:
            process.terminate()


def _find_free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port: int = server.getsockname()[1]
        return port


def _wait_ready(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    detail = shown = "it does not accept connections"
    while time.monotonic() < deadline and process.poll() is None:
        if detail != shown:
            # Progress, for instance of a download, extends the deadline.
            deadline = time.monotonic() + _START_TIMEOUT_S
            click.echo(f"waiting       {detail}", err=True)
            shown = detail
        try:
            answer = httpx.get(f"{url}/readyz", timeout=5)
            if answer.is_success:
                return
            detail = answer.json()["detail"]
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise click.ClickException(f"the gateway did not become ready: {detail}; see its log above")


def _post(client: httpx.Client, path: str, data: bytes, fields: dict[str, str]) -> dict[str, Any]:
    answer = client.post(
        path, files={"image": ("photo", data)}, data=fields, headers={"Accept": "application/json"}
    )
    if not answer.is_success:
        problem = answer.json()
        raise click.ClickException(f"{path}: {problem['title']}: {problem['detail']}")
    document: dict[str, Any] = answer.json()
    return document


def _decode_image(answer: dict[str, Any]) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(answer["image_base64"])))


def _print_summary(out: Path, ready: dict[str, Any], report: dict[str, Any]) -> None:
    click.echo(f"engine        {report['engine']} ({report['model']})")
    click.echo(f"face finder   {report['finder']}, {len(report['faces'])} face(s)")
    light = report["light"]
    click.echo(
        f"light         mean {light['before']['mean']} -> {light['after']['mean']}, spread "
        f"{light['before']['spread']} -> {light['after']['spread']} (CLAHE {light['clahe']['weight']})"
    )
    for rule in report["linkage"]:
        click.echo(
            f"linked        {rule['parameter']}: {rule['asked']} -> {rule['effective']} ({rule['because']})"
        )
    for notice in [*ready["notices"], *report["warnings"]]:
        click.echo(f"note          {notice}")
    stages = ", ".join(f"{name} {value:.0f}" for name, value in report["timings_ms"].items())
    click.echo(f"times, ms     {stages}")
    for path in sorted(out.iterdir()):
        click.echo(f"saved         {path}")
