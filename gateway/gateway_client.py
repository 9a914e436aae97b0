"""The gateway that a command uses, in this process or at a URL, and the one retry loop of all commands."""

import itertools
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import stamina

from gateway.app import create_app
from gateway.params import EnhanceParams, PreprocessParams
from gateway.settings import AccessSettings, Settings

# The gateway enforces deadlines itself; this ends requests on a dead connection. Seconds.
_TIMEOUT = httpx.Timeout(600.0, connect=10.0, pool=None)
_READY_TIMEOUT_S = 10.0
_READY_POLL_S = 0.2
_QUIET_WAIT_S = 1.0
_BUSY = (429, 503)
_SHORTEST_RETRY_AFTER_S = 0.1
# Waits between tries when nothing answers, seconds; the last one repeats.
_BACKOFF_S = (1.0, 2.0, 4.0, 8.0, 10.0)
# Every request gets the same answer from a gateway that needs another key, or from another server.
_REFUSALS = (401, 403, 404, 405)


class GatewayGone(Exception):
    """The gateway was unreachable, not ready or busy for longer than the caller's patience."""


class Refused(Exception):
    """The gateway refuses every request: the API key is missing, or the URL is not a gateway's."""


class _Unavailable(Exception):
    """One attempt failed temporarily. wait_s: seconds until the next one; None backs off."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class PatientClient:
    """An HTTP client that retries while the gateway is busy (429, 503) or unreachable.

    Retry-After is honoured; without a response the wait grows to 10 seconds. patience_s: how long a request
    is retried, counted from its start or from the last response to any other request of this client.
    All methods raise GatewayGone and Refused.
    """

    def __init__(self, client: httpx.AsyncClient, patience_s: float) -> None:
        self._client = client
        self._patience_s = patience_s
        self._answered_at = time.monotonic()

    async def post(self, path: str, **request: Any) -> httpx.Response:  # noqa: ANN401
        """Send a POST request with httpx's keyword arguments; returns any response but 429 and 503."""
        return await self._retry(lambda: self._receive(self._client.post(path, **request)))

    async def get_json(self, path: str) -> dict[str, Any]:
        """Return the JSON object at `path`."""
        answer = await self._retry(lambda: self._receive(self._client.get(path)))
        if not answer.is_success:
            raise GatewayGone(problem_text(answer))
        document: dict[str, Any] = answer.json()
        return document

    async def wait_until_ready(self, report: Callable[[str], None]) -> dict[str, Any]:
        """Poll /readyz until it succeeds; returns its document.

        report: receives each new reason to wait, after the first second.
        """
        started, reason, reported = time.monotonic(), "", ""

        async def ask() -> httpx.Response:
            nonlocal reason, reported
            try:
                answer = await self._receive(self._client.get("/readyz", timeout=_READY_TIMEOUT_S))
                if answer.is_success:
                    return answer
                current = problem_text(answer)
            except _Unavailable as error:
                current = str(error)
            if current != reason:
                # A new reason is progress, for instance of a download: patience starts again.
                reason, self._answered_at = current, time.monotonic()
            if reason != reported and time.monotonic() - started > _QUIET_WAIT_S:
                reported = reason
                report(reason)
            raise _Unavailable(reason, _READY_POLL_S)

        document: dict[str, Any] = (await self._retry(ask)).json()
        return document

    async def _receive(self, response: Awaitable[httpx.Response]) -> httpx.Response:
        try:
            answer = await response
        except httpx.TransportError as error:
            reason = f"no connection to {self._client.base_url}: {error or type(error).__name__}"
            raise _Unavailable(reason) from error
        if answer.status_code in _REFUSALS:
            hint = "; set GPEN_GATEWAY_KEY or --api-key" if answer.status_code == 401 else ""
            raise Refused(f"{answer.url.copy_with(query=None)}: {problem_text(answer)}{hint}")
        if answer.status_code in _BUSY:
            raise _Unavailable(problem_text(answer), _retry_after_s(answer))
        return answer

    async def _retry(self, ask: Callable[[], Awaitable[httpx.Response]]) -> httpx.Response:
        started = time.monotonic()
        backoff_s = itertools.chain(_BACKOFF_S, itertools.repeat(_BACKOFF_S[-1]))

        def next_wait_s(error: Exception) -> float | bool:
            if not isinstance(error, _Unavailable):
                return False
            # Jitter, else all workers that were refused together retry together.
            wait_s = (error.wait_s or next(backoff_s)) * random.uniform(1.0, 1.25)  # noqa: S311 - no secret
            waited_s = time.monotonic() - max(started, self._answered_at)
            return wait_s if waited_s + wait_s <= self._patience_s else False

        try:
            async for attempt in stamina.retry_context(on=next_wait_s, attempts=None, timeout=None):
                with attempt:
                    answer = await ask()
        except _Unavailable as error:
            raise GatewayGone(str(error)) from error
        self._answered_at = time.monotonic()
        return answer


@asynccontextmanager
async def open_embedded(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """Run a gateway in this process, without a port, and open a client of it. Needs no API key."""
    access = AccessSettings(keys_file=None, rate=None, concurrency=None)
    app = create_app(settings.model_copy(update={"access": access}))
    # As over a socket, an unexpected error is a 500 response.
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://gateway", timeout=_TIMEOUT) as client,
    ):
        yield client


@asynccontextmanager
async def open_url(url: str, api_key: str | None) -> AsyncIterator[httpx.AsyncClient]:
    """Open a client of the gateway at `url`."""
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=_TIMEOUT) as client:
        yield client


async def fetch_provenance(
    client: PatientClient, params: PreprocessParams, report: Callable[[str], None]
) -> dict[str, str]:
    """Wait until the gateway is ready; return what its results depend on besides picture and parameters.

    These are the version and the face finder, and for EnhanceParams also the model and its engine.
    report: receives the reasons to wait.
    Raises GatewayGone, Refused.
    """
    ready = await client.wait_until_ready(report)
    version = (await client.get_json("/healthz"))["version"]
    provenance = {"version": str(version), "finder": str(ready["finder"])}
    if not isinstance(params, EnhanceParams):
        return provenance
    model, engine = params.model or str(ready["model"]), str(ready["engine"])
    if params.model is not None:
        models = (await client.get_json("/v1/models"))["models"]
        engine = next((one["engine"] for one in models if one["name"] == model), "none")
    return {**provenance, "model": model, "engine": engine}


def problem_document(answer: httpx.Response) -> dict[str, Any]:
    """Return the problem document in `answer`; one with its status if it holds none."""
    try:
        document = answer.json()
    except ValueError:
        document = None
    if isinstance(document, dict) and {"title", "detail"} <= document.keys():
        return document
    return {"title": f"HTTP {answer.status_code}", "detail": answer.reason_phrase}


def problem_text(answer: httpx.Response) -> str:
    """Return the problem in `answer` as one line."""
    problem = problem_document(answer)
    return f"{problem['title']}: {problem['detail']}"


def _retry_after_s(answer: httpx.Response) -> float:
    try:
        return max(_SHORTEST_RETRY_AFTER_S, float(answer.headers["Retry-After"]))
    except (KeyError, ValueError):
        return 1.0
