"""PatientClient: retries, Retry-After, patience and readiness."""

import asyncio
import time
from collections.abc import Callable

import httpx
import pytest

from gateway.gateway_client import GatewayGone, PatientClient, Refused, fetch_provenance
from gateway.params import EnhanceParams, PreprocessParams

pytestmark = pytest.mark.anyio

Respond = Callable[[httpx.Request], httpx.Response]


def patient(respond: Respond, patience_s: float = 5.0) -> PatientClient:
    transport = httpx.MockTransport(respond)
    return PatientClient(httpx.AsyncClient(transport=transport, base_url="http://gateway"), patience_s)


def busy(retry_after: str | None = None, detail: str = "try again later") -> httpx.Response:
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return httpx.Response(503, json={"title": "Not ready", "detail": detail}, headers=headers)


async def wait_of(response: httpx.Response) -> float:
    """Seconds that a request waits after `response` before its second try."""
    responses = iter([response, httpx.Response(200)])
    started = time.monotonic()
    await patient(lambda request: next(responses)).post("/v1/enhance")
    return time.monotonic() - started


async def test_waits_as_long_as_retry_after_with_jitter():
    assert 0.3 <= await wait_of(busy("0.3")) < 0.3 * 1.25 + 0.2


@pytest.mark.parametrize("value", [None, "soon", ""])
async def test_waits_a_second_without_a_usable_retry_after(value):
    assert 1.0 <= await wait_of(busy(value)) < 1.5


@pytest.mark.parametrize("value", ["0", "-5", "nan"])
async def test_never_retries_without_a_pause(value):
    assert await wait_of(busy(value)) >= 0.1


async def test_gives_up_before_a_wait_that_exceeds_the_patience():
    started = time.monotonic()
    with pytest.raises(GatewayGone, match="Not ready: try again later"):
        await patient(lambda request: busy("60"), patience_s=1).post("/v1/enhance")
    assert time.monotonic() - started < 0.5


async def test_a_response_to_another_request_renews_the_patience():
    """A busy gateway that still answers other requests is not gone."""
    tries = 0

    def respond(request: httpx.Request) -> httpx.Response:
        nonlocal tries
        tries += request.url.path == "/starved"
        return busy("0.2") if request.url.path == "/starved" and tries < 6 else httpx.Response(200)

    client = patient(respond, patience_s=0.6)

    async def keep_answering() -> None:
        while True:
            await client.post("/served")
            await asyncio.sleep(0.05)

    served = asyncio.create_task(keep_answering())
    assert (await client.post("/starved")).status_code == 200
    served.cancel()


async def test_returns_other_errors_without_a_retry():
    requests = []

    def respond(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(422, json={})

    assert (await patient(respond).post("/v1/enhance")).status_code == 422
    assert len(requests) == 1


@pytest.mark.parametrize("status", [401, 403, 404, 405])
async def test_refusals_are_not_retried(status):
    with pytest.raises(Refused, match=rf"http://gateway/v1/enhance: HTTP {status}"):
        await patient(lambda request: httpx.Response(status)).post("/v1/enhance")


async def test_progress_while_waiting_for_readiness_renews_the_patience():
    """A download may take as long as it needs if it proceeds."""
    steps = iter([busy(detail=f"{percent} %") for percent in range(0, 100, 10)])
    ready = {"finder": "haar", "model": "gpen-bfr-512", "engine": "torch"}
    reports: list[str] = []

    def respond(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/readyz":
            return next(steps, httpx.Response(200, json=ready))
        return httpx.Response(200, json={"version": "1.2.3"})

    provenance = await fetch_provenance(patient(respond, patience_s=0.5), EnhanceParams(), reports.append)
    assert provenance == {"version": "1.2.3", "finder": "haar", "model": "gpen-bfr-512", "engine": "torch"}
    assert reports
    assert reports[-1] == "Not ready: 90 %"
    assert len(set(reports)) == len(reports)


async def test_gives_up_on_a_gateway_that_does_not_become_ready():
    with pytest.raises(GatewayGone, match="stuck"):
        await fetch_provenance(
            patient(lambda request: busy(detail="stuck"), patience_s=0.5), PreprocessParams(), print
        )
