"""The road of a picture request: every step in order, from admission to the response.

The steps between taking a worker and encoding are those of `gateway.pipeline`.
"""

from starlette.requests import Request
from starlette.responses import Response

from gateway.api.connection import cancel_on_disconnect
from gateway.api.negotiation import lists_any, lists_etag, parse_accept
from gateway.api.request_reader import read_request
from gateway.api.responses import (
    enhance_etag,
    respond_article,
    respond_enhanced,
    respond_not_modified,
    respond_preprocessed,
)
from gateway.params import EnhanceParams, PreprocessParams
from gateway.pipeline.picture_request import PictureRequest
from gateway.pipeline.result import Result
from gateway.runtime import Gateway
from gateway.schemas.reports import EnhanceReport, PreprocessReport

# The article's recipe, for what the client does not set.
_ARTICLE_DEFAULTS = {"clahe": "always", "exposure": "off"}


async def enhance(request: Request, gateway: Gateway) -> Response:
    """Answer POST /v1/enhance."""
    wanted, if_none_match = parse_accept(request.headers.get("accept")), request.headers.get("if-none-match")
    with gateway.admission.upload():  # admit
        asked = await read_request(request, gateway, EnhanceParams, wanted)  # read
    async with asked.until_deadline(), cancel_on_disconnect(request):
        with asked.timings.stage("model"):  # choose the model
            asked.model = await gateway.models.choose(asked.params.model, asked.params.task)
        with asked.timings.stage("key"):  # compute the key
            asked.key = gateway.enhancer.key(asked)
        etag = enhance_etag(asked.key, wanted)
        if lists_etag(if_none_match, etag):  # answer 304
            return respond_not_modified(asked, etag)
        result = await gateway.enhancer.look_up(asked)  # look in the cache
        if result is None:
            # join an identical request in flight; else take a worker, decode, find faces, standardise, link,
            # forward, encode, store
            result = await gateway.enhancer.make(asked)
        elif lists_any(if_none_match):
            return respond_not_modified(asked, etag)
    return await respond_enhanced(result, etag, wanted, gateway.threads)  # respond


async def preprocess(request: Request, gateway: Gateway) -> Response:
    """Answer POST /v1/preprocess."""
    wanted = parse_accept(request.headers.get("accept"))
    with gateway.admission.upload():
        asked = await read_request(request, gateway, PreprocessParams, wanted)
    result = await _preprocess(request, gateway, asked)
    return await respond_preprocessed(result, wanted, gateway.threads)


async def preprocess_article(request: Request, gateway: Gateway) -> Response:
    """Answer POST /preprocess, the article's form: PNG in base64."""
    with gateway.admission.upload():
        asked = await read_request(
            request, gateway, PreprocessParams, parse_accept("application/json"), _ARTICLE_DEFAULTS
        )
    asked.params = asked.params.model_copy(update={"format": "png"})
    return respond_article(await _preprocess(request, gateway, asked))


async def enhance_file(asked: PictureRequest[EnhanceParams], gateway: Gateway) -> Result[EnhanceReport]:
    """Enhance one file of POST /v1/batch: the same road without a connection of its own."""
    with asked.timings.stage("model"):
        asked.model = await gateway.models.choose(asked.params.model, asked.params.task)
    with asked.timings.stage("key"):
        asked.key = gateway.enhancer.key(asked)
    return await gateway.enhancer.look_up(asked) or await gateway.enhancer.make(asked)


async def _preprocess(
    request: Request, gateway: Gateway, asked: PictureRequest[PreprocessParams]
) -> Result[PreprocessReport]:
    async with asked.until_deadline(), cancel_on_disconnect(request):
        with asked.timings.stage("key"):
            asked.key = gateway.preprocessor.key(asked)
        return await gateway.preprocessor.look_up(asked) or await gateway.preprocessor.make(asked)
