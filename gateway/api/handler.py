"""From a request to its work: admitted, read, checked, and done before the deadline."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request

from gateway.api.upload import Upload, read_upload
from gateway.errors import CallerLeft, ImageUrlOff, NotReady, SlowUpload
from gateway.params import PreprocessParams
from gateway.runtime import Gateway
from gateway.service.access import caller_of

Params = TypeVar("Params", bound=PreprocessParams)
T = TypeVar("T")


async def take_in(
    request: Request,
    gateway: Gateway,
    model: type[Params],
    work: Callable[[bytes, Params, float], Awaitable[T]],
    defaults: dict[str, str] | None = None,
) -> T:
    """The result of `work(picture, parameters, deadline)` for the upload of `request`.

    model: what the parameters must be. defaults: parameters that hold unless the caller says otherwise.
    deadline: on time.monotonic's clock, seconds; it counts from the moment the upload is complete.
    Raises GatewayError.
    """
    with _unless_cut_off(request), gateway.admission.ticket() as ticket:
        upload = await _read(request, gateway)
        params = replace(upload, fields={**(defaults or {}), **upload.fields}).params(model)
        most = gateway.settings.upstream.timeout_s
        deadline = time.monotonic() + min(params.timeout_s or most, most)
        picture = upload.data
        if upload.image_url is not None:
            fetching = _fetch(request, gateway, upload.image_url, deadline)
            picture = await ticket.watch(request, fetching, deadline)
        return await ticket.run(request, lambda: work(picture, params, deadline), deadline)


@contextmanager
def _unless_cut_off(request: Request) -> Iterator[None]:
    """Raises NotReady where a server that stops cancels the request, for its grace is over."""
    try:
        yield
    except asyncio.CancelledError as error:
        if not getattr(request.app.state, "draining", False):
            raise
        raise NotReady("this process had to stop before the answer was ready; send it again") from error


async def _fetch(request: Request, gateway: Gateway, url: str, deadline: float) -> bytes:
    if gateway.fetcher is None:
        raise ImageUrlOff("`image_url` is off here (GATEWAY_IMAGE_URL); send the picture itself as `image`")
    most = gateway.settings.limits.max_body_bytes
    caller = caller_of(request.scope)
    if caller and caller.max_body_bytes:
        most = min(most, caller.max_body_bytes)
    return await gateway.fetcher.fetch(url, most, deadline)


async def _read(request: Request, gateway: Gateway) -> Upload:
    allowed = gateway.settings.limits.upload_timeout_s
    try:
        async with asyncio.timeout(allowed):
            return await read_upload(request)
    except TimeoutError as error:
        raise SlowUpload(f"the body did not arrive within {allowed:g} seconds; send a smaller one") from error
    except ClientDisconnect as error:
        raise CallerLeft("the caller left before the upload was complete") from error
