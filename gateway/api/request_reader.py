"""Read a picture request: its upload, its parameters, and the picture behind `image_url`."""

import time
from dataclasses import replace

from starlette.requests import Request

from gateway.api.disconnect import cancel_on_disconnect
from gateway.api.negotiation import Accepted
from gateway.api.upload import read_upload, upload_within
from gateway.errors import ImageUrlOff
from gateway.pipeline.picture_request import Params, PictureRequest
from gateway.runtime import Gateway
from gateway.service.access import caller_of, work_of
from gateway.service.middleware import request_id
from gateway.timings import Timings


async def read_request(
    request: Request,
    gateway: Gateway,
    model: type[Params],
    accepted: Accepted,
    defaults: dict[str, str] | None = None,
) -> PictureRequest[Params]:
    """Read the whole of `request`. Its clock and its deadline start when the upload is complete.

    model: schema of the parameters. defaults: values of parameters that the client does not send.
    Raises GatewayError for an upload that is slow, malformed, without a picture, or with invalid parameters.
    """
    async with upload_within(gateway.settings.limits.upload_timeout_s):
        upload = await read_upload(request)
    timings = Timings()
    params = replace(upload, fields={**(defaults or {}), **upload.fields}).params(model)
    timeout_s = params.limit_timeout(gateway.settings.upstream.timeout_s)
    deadline = time.monotonic() + timeout_s
    data = upload.data
    if upload.image_url is not None:
        with timings.stage("fetch"):
            data = await _fetch(request, gateway, upload.image_url, deadline)
    with timings.stage("key"):
        picture = await gateway.pictures.add(data)
    return PictureRequest(
        picture=picture,
        params=params,
        request_id=request_id(request.scope),
        timeout_s=timeout_s,
        timings=timings,
        accepted=accepted.output_format,
        work=work_of(request.scope),
        deadline=deadline,
    )


async def _fetch(request: Request, gateway: Gateway, url: str, deadline: float) -> bytes:
    if gateway.fetcher is None:
        raise ImageUrlOff
    limit = gateway.settings.limits.max_body_bytes
    caller = caller_of(request.scope)
    if caller and caller.max_body_bytes:
        limit = min(limit, caller.max_body_bytes)
    async with cancel_on_disconnect(request):
        return await gateway.fetcher.fetch(url, limit, deadline)
