"""The experiment's client of a gateway: encoded pictures in, decoded pictures and reports out."""

import asyncio
import base64
from dataclasses import dataclass

import numpy as np

from gateway.gateway_client import PatientClient, problem_text
from gateway.imaging.decoder import PixelLimits, decode
from gateway.schemas.reports import EnhanceReport, PreprocessReport
from gpen_common.types import Matrix, Pixels, Points

LIMITS = PixelLimits(max_pixels=64_000_000, max_side=32_000)
"""Limits of the pictures that the experiment itself decodes."""


class UnusablePicture(Exception):
    """The gateway rejected the picture, or it does not suit the experiment; the message says why."""


@dataclass(frozen=True, slots=True, eq=False)
class ProcessedPicture:
    """A picture from the gateway, pixels (H, W, 3) uint8 RGB, and its report."""

    pixels: Pixels
    report: PreprocessReport

    @property
    def face(self) -> Points | None:
        """Landmarks of the best face, (5, 2), in px of the photo that was sent."""
        face = self.report.face
        return None if face is None else np.array(face.landmarks5, np.float32)

    @property
    def matrix(self) -> Matrix:
        """The transform from px of the photo that was sent to px of this picture, (2, 3)."""
        portrait = self.report.portrait
        return np.eye(2, 3) if portrait is None else np.array(portrait.matrix)


class PictureClient:
    """Sends pictures through `client`. Its methods raise UnusablePicture, GatewayGone and Refused."""

    def __init__(self, client: PatientClient) -> None:
        self._client = client

    async def preprocess(self, picture: bytes, params: dict[str, str]) -> ProcessedPicture:
        """Standardise an encoded `picture`."""
        return await self._process("/v1/preprocess", PreprocessReport, picture, params)

    async def enhance(self, picture: bytes, params: dict[str, str]) -> ProcessedPicture:
        """Enhance an encoded `picture`."""
        return await self._process("/v1/enhance", EnhanceReport, picture, params)

    async def _process(
        self, path: str, schema: type[PreprocessReport], picture: bytes, params: dict[str, str]
    ) -> ProcessedPicture:
        answer = await self._client.post(
            path,
            content=picture,
            params={**params, "format": "png"},
            headers={"Accept": "application/json", "Content-Type": "image/*"},
        )
        if not answer.is_success:
            raise UnusablePicture(problem_text(answer))
        document = answer.json()
        photo = await asyncio.to_thread(decode, base64.b64decode(document["image_base64"]), LIMITS)
        return ProcessedPicture(photo.pixels, schema.model_validate(document["report"]))
