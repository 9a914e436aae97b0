"""Serialise a portrait for the cache, so that requests with other GPEN parameters can reuse it."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from gateway.faces import Face, Pose
from gateway.standardise.light import Light, LightPlan
from gateway.standardise.portrait import Portrait
from gateway.standardise.quality import Quality


def to_head(portrait: Portrait) -> dict[str, Any]:
    """Convert everything but the pixels of `portrait` to values that JSON can represent."""
    return {
        "shape": portrait.pixels.shape,
        "matrix": portrait.matrix.tolist(),
        "faces": [_face_to_stored(face) for face in portrait.faces],
        "has_face": portrait.face is not None,
        "off_centre_px": portrait.off_centre_px,
        "short_edge": portrait.short_edge,
        "light_before": asdict(portrait.light_before),
        "light_after": asdict(portrait.light_after),
        "light_plan": asdict(portrait.light_plan),
        "quality": asdict(portrait.quality),
        "warnings": portrait.warnings,
    }


def to_bytes(portrait: Portrait) -> memoryview:
    """Return a view of the pixels of `portrait`, without a copy."""
    return np.ascontiguousarray(portrait.pixels).data.cast("B").toreadonly()


def from_stored(head: Mapping[str, Any], pixels: bytes | memoryview) -> Portrait:
    """Restore the portrait from the results of `to_head` and `to_bytes`."""
    faces = tuple(_face_from_stored(face) for face in head["faces"])
    return Portrait(
        pixels=np.frombuffer(pixels, np.uint8).reshape(head["shape"]),
        matrix=np.array(head["matrix"], np.float64),
        # A portrait is centred on the first of its faces.
        face=faces[0] if head["has_face"] else None,
        faces=faces,
        off_centre_px=head["off_centre_px"],
        short_edge=head["short_edge"],
        light_before=Light(**head["light_before"]),
        light_after=Light(**head["light_after"]),
        light_plan=LightPlan(**head["light_plan"]),
        quality=Quality(**head["quality"]),
        warnings=tuple(head["warnings"]),
    )


def _face_to_stored(face: Face) -> dict[str, Any]:
    return {
        "bbox": face.bbox,
        "landmarks5": face.landmarks5.tolist(),
        "score": face.score,
        "pose": face.pose and asdict(face.pose),
    }


def _face_from_stored(face: dict[str, Any]) -> Face:
    x0, y0, x1, y1 = face["bbox"]
    return Face(
        bbox=(x0, y0, x1, y1),
        landmarks5=np.array(face["landmarks5"], np.float32),
        score=face["score"],
        pose=face["pose"] and Pose(**face["pose"]),
    )
