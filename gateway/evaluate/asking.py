"""A gateway as the experiment asks it: pictures in, pictures and reports out."""

import asyncio
import base64
import time
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np

from gateway.imaging.photo import PixelLimits, decode
from gateway.remote import GatewayGone, check_refusal, problem_text
from gateway.schemas.reports import EnhanceReport, PreprocessReport
from gpen_common.types import Matrix, Pixels, Points

LIMITS = PixelLimits(max_pixels=64_000_000, max_side=32_000)
"""Of pictures that the experiment itself opens."""

_BUSY = (429, 503)
_SHORTEST_WAIT_S = 0.2


class Unusable(Exception):
    """A picture that the gateway would not take; the message says why."""


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """A picture that came back: pixels (H, W, 3), and what is told of it."""

    pixels: Pixels
    report: PreprocessReport

    @property
    def face(self) -> Points | None:
        """The best face in the px of the photo that was sent, (5, 2)."""
        face = self.report.face
        return None if face is None else np.array(face.landmarks5, np.float32)

    @property
    def matrix(self) -> Matrix:
        """From the px of the photo that was sent to these, (2, 3)."""
        portrait = self.report.portrait
        return np.eye(2, 3) if portrait is None else np.array(portrait.matrix)


class Gateway:
    """A gateway behind `client`. patience_s: for how long it may be busy or away."""

    def __init__(self, client: httpx.AsyncClient, patience_s: float) -> None:
        self._client = client
        self._patience_s = patience_s

    async def preprocess(self, picture: bytes, params: dict[str, str]) -> Answer:
        """The standardised portrait of an encoded `picture`. Raises Unusable, GatewayGone, Refused."""
        document = await self._post("/v1/preprocess", picture, params)
        return await self._answer(document, PreprocessReport.model_validate(document["report"]))

    async def enhance(self, picture: bytes, params: dict[str, str]) -> Answer:
        """The enhanced picture. Raises as `preprocess`."""
        document = await self._post("/v1/enhance", picture, params)
        return await self._answer(document, EnhanceReport.model_validate(document["report"]))

    async def _answer(self, document: dict[str, Any], report: PreprocessReport) -> Answer:
        data = base64.b64decode(document["image_base64"])
        photo = await asyncio.to_thread(decode, data, LIMITS)
        return Answer(photo.pixels, report)

    async def _post(self, path: str, picture: bytes, params: dict[str, str]) -> dict[str, Any]:
        asked = {**params, "format": "png"}
        headers = {"Accept": "application/json", "Content-Type": "image/*"}
        until = time.monotonic() + self._patience_s
        while True:
            try:
                answer = await self._client.post(path, content=picture, params=asked, headers=headers)
            except httpx.TransportError as error:
                raise GatewayGone(f"no connection to {self._client.base_url}: {error}") from error
            if answer.is_success:
                document: dict[str, Any] = answer.json()
                return document
            check_refusal(answer)
            if answer.status_code not in _BUSY:
                raise Unusable(problem_text(answer))
            if time.monotonic() > until:
                raise GatewayGone(problem_text(answer))
            await asyncio.sleep(_wait_s(answer))


def _wait_s(answer: httpx.Response) -> float:
    try:
        return max(float(answer.headers["Retry-After"]), _SHORTEST_WAIT_S)
    except (KeyError, ValueError):
        return 1.0
