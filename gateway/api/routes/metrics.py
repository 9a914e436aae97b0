"""`/metrics` for Prometheus."""

import httpx
from fastapi import APIRouter, Request
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.responses import Response

from gateway.runtime import Gateway

router = APIRouter(tags=["health"])


class _Exposition(Response):
    """The media type in the OpenAPI document."""

    media_type = "text/plain"


@router.get("/metrics", summary="Metrics for Prometheus", operation_id="metrics", response_class=_Exposition)
async def metrics(request: Request) -> Response:
    """Return all counters, gauges and histograms in Prometheus's text format.

    Those of an embedded backend are included; a separate one has a `/metrics` of its own. The documentation
    describes every metric, under observability.
    """
    gateway: Gateway = request.app.state.gateway
    text = gateway.metrics.text()
    if gateway.embedded is not None:
        text += await _read_backend(gateway.embedded, gateway.backend)
    return _Exposition(text, media_type=CONTENT_TYPE_PLAIN_0_0_4)


async def _read_backend(transport: httpx.AsyncBaseTransport, name: str) -> bytes:
    """Return the metrics of the embedded backend; nothing where it has none."""
    # Not through a client, which would close the gateway's transport.
    request = httpx.Request("GET", f"http://{name}/metrics")
    answer = await transport.handle_async_request(request)
    body = await answer.aread()
    await answer.aclose()
    return body if answer.status_code == httpx.codes.OK else b""
