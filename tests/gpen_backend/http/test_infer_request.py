"""Validation of requests."""

import re

import numpy as np
import pytest

from tests.support.backend import INFER, LANDMARKS, PHOTO, error_of, message, run_backend

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (message(strength=101), "strength.*less than or equal to 100"),
        (message(stregth=10), "unknown parameter 'stregth'; the parameters are strength,"),
        (message(mode="wild"), "mode"),
        (message(timeout_ms=-1), "timeout_ms"),
        (message(timeout_ms=True), "timeout_ms"),
        (message(inference_size=512), "inference_size.*256"),
        (message(image=None), "image is missing"),
        (message(PHOTO[..., 0]), r"image must be UINT8 \[1, H, W, 3\]"),
        (message(PHOTO.astype(np.float32)), "image must be UINT8"),
        (message(PHOTO[:0]), "no pixels"),
        (message(np.zeros((200, 200, 3), np.uint8)), "40000 pixels.*20000"),
        (message(landmarks=LANDMARKS[0]), r"landmarks must be FP32 \[F, 5, 2\]"),
        (message(landmarks=LANDMARKS.astype(np.float64)), "landmarks must be FP32"),
        (message(landmarks=np.repeat(LANDMARKS, 9, 0)), "9 faces.*8"),
        ({"json": {"inputs": [{"name": "imago", "shape": [1], "datatype": "UINT8", "data": [1]}]}}, "imago"),
        ({"json": {"inputs": [], "outputs": [{"name": "mask"}]}}, "only output is image"),
        ({"content": b"\xff\xd8\xff not a message"}, "."),
        ({"content": b"{}", "headers": {"Inference-Header-Content-Length": "minus one"}}, "number of bytes"),
    ],
)
async def test_rejects_an_invalid_request_with_the_reason(asked, sentence):
    async with run_backend(max_pixels=20_000, max_faces=8) as (client, _):
        answer = await client.post(INFER, **asked)
        assert answer.status_code == 400
        assert re.search(sentence, error_of(answer))
