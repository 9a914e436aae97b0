"""Answers are checked against the request."""

import numpy as np
import pytest

from gpen_client.errors import BackendProtocolError
from gpen_client.wire.messages import InferResponse, Tensor
from tests.support.negative_backend import IMAGE, PARAMETERS, answering, restore

pytestmark = pytest.mark.anyio


PICTURE = [Tensor("image", IMAGE[np.newaxis])]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (InferResponse("m", []), "no tensor 'image'"),
        (InferResponse("m", [Tensor("image", IMAGE)]), "picture is"),
        (InferResponse("m", [Tensor("image", IMAGE[np.newaxis, :3])]), "picture is"),
        (InferResponse("m", [Tensor("image", IMAGE.transpose(1, 0, 2)[np.newaxis])]), "picture is"),
        (InferResponse("m", [Tensor("image", np.stack([IMAGE, IMAGE]))]), "picture is"),
        (InferResponse("m", [Tensor("image", IMAGE[np.newaxis].astype(np.int8))]), "picture is"),
        (InferResponse("m", PICTURE, PARAMETERS, id="another"), "request 'another', not 'mine'"),
        (InferResponse("m", PICTURE, PARAMETERS | {"engine": 1}), "engine"),
        (InferResponse("m", PICTURE, PARAMETERS | {"model": True}), "model"),
        (InferResponse("m", PICTURE, PARAMETERS | {"faces": "two"}), "faces"),
        (InferResponse("m", PICTURE, PARAMETERS | {"faces": True}), "faces"),
        (InferResponse("m", PICTURE, PARAMETERS | {"batch_size": 1.5}), "batch_size"),
        (InferResponse("m", PICTURE, PARAMETERS | {"network_ms": "fast"}), "network_ms"),
        (InferResponse("m", PICTURE, PARAMETERS | {"network_ms": -1.0}), "network_ms"),
    ],
)
async def test_rejects_an_answer_that_does_not_fit_the_request(answer, said):
    async with answering(answer) as client:
        with pytest.raises(BackendProtocolError, match=said):
            await restore(client, request_id="mine")
