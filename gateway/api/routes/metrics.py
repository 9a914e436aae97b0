"""What Prometheus asks for."""

import httpx
from fastapi import APIRouter, Request
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.responses import Response

from gateway.runtime import Gateway

router = APIRouter(tags=["health"])


class _Exposition(Response):
    """What the documentation says of the answer."""

    media_type = "text/plain"


@router.get("/metrics", summary="Metrics for Prometheus", operation_id="metrics", response_class=_Exposition)
async def metrics(request: Request) -> Response:
    """Answers with all counters, gauges and histograms, in Prometheus's text format.

    A backend inside this process is part of it; one elsewhere has a `/metrics` of its own. Every metric is
    told in the documentation, under observability.
    """
    gateway: Gateway = request.app.state.gateway
    text = gateway.metrics.text()
    if gateway.embedded is not None:
        text += await _of_backend(gateway.embedded, gateway.backend)
    return _Exposition(text, media_type=CONTENT_TYPE_PLAIN_0_0_4)


async def _of_backend(transport: httpx.AsyncBaseTransport, name: str) -> bytes:
    """The metrics of a backend in this process; nothing where it has none."""
    # The transport is the gateway's to close.
    request = httpx.Request("GET", f"http://{name}/metrics")
    answer = await transport.handle_async_request(request)
    body = await answer.aread()
    await answer.aclose()
    return body if answer.status_code == httpx.codes.OK else b""
