"""`/v1/enhance`: the steps of a request in order, from admission to the response.

The steps between taking a worker and encoding are those of `gateway.pipeline`.
"""

from contextlib import ExitStack

from fastapi import APIRouter, Request
from starlette.responses import Response

from gateway.api.disconnect import cancel_on_disconnect
from gateway.api.etag import enhance_etag, lists_any, lists_etag
from gateway.api.negotiation import parse_accept
from gateway.api.openapi.operations import BACKEND_ERRORS, UPLOAD_ERRORS, picture_body, picture_responses
from gateway.api.request_reader import read_request
from gateway.api.responses import respond_enhanced, respond_not_modified
from gateway.params import EnhanceParams
from gateway.runtime import Gateway
from gateway.schemas.answers import EnhanceAnswer

router = APIRouter(tags=["pictures"])


@router.post(
    "/v1/enhance",
    summary="Enhance a portrait",
    operation_id="enhance",
    response_class=Response,
    responses=picture_responses(EnhanceAnswer, *UPLOAD_ERRORS, *BACKEND_ERRORS, etag=True),
    openapi_extra=picture_body(EnhanceParams),
)
async def enhance(request: Request) -> Response:
    """Standardise the picture, restore its faces with GPEN and return the result.

    Returns the picture, or with `Accept: application/json` the picture in base64 and a report of what
    was found, what was corrected and which parameters were adapted.
    """
    gateway: Gateway = request.app.state.gateway
    wanted = parse_accept(request.headers.get("accept"))
    if_none_match = ", ".join(request.headers.getlist("if-none-match"))
    with ExitStack() as upload:
        upload.enter_context(gateway.admission.upload())  # admit
        asked = await read_request(request, gateway, EnhanceParams, wanted)  # read
        async with asked.until_deadline(), cancel_on_disconnect(request):
            await gateway.enhancer.choose_model(asked)  # choose the model
            gateway.enhancer.compute_key(asked)  # compute the key
            etag = enhance_etag(asked.key, wanted)
            if lists_etag(if_none_match, etag):  # answer 304
                return respond_not_modified(asked, etag)
            result = await gateway.enhancer.look_up(asked)  # look in the cache
            if result is None:
                upload.close()  # the work takes a place instead
                # join an identical request in flight; else take a worker, decode, find faces, standardise,
                # link, forward, encode, store
                result = await gateway.enhancer.make(asked)
            elif lists_any(if_none_match):
                return respond_not_modified(asked, etag)
    return await respond_enhanced(result, etag, wanted)  # respond
