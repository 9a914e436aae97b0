"""The gateway that a command works with: one in its own process, or one at a URL."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx

from gateway.app import create_app
from gateway.params import EnhanceParams, PreprocessParams
from gateway.settings import AccessSettings, Settings

# The gateway keeps deadlines itself; this ends what a dead connection would keep for ever. Seconds.
_TIMEOUT = httpx.Timeout(600.0, connect=10.0, pool=None)
_ASK_EVERY_S = 0.2
_REFUSALS = (401, 403, 404, 405)


class GatewayGone(Exception):
    """The gateway does not answer, is not ready, or is busy for longer than anybody waits."""


class Refused(Exception):
    """The gateway would refuse every request: a key is missing, or there is no gateway at that URL."""


@asynccontextmanager
async def embedded(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a gateway in this process, without a port. Keys and rates are for callers, not for us."""
    access = AccessSettings(keys_file=None, rate=None, concurrency=None)
    app = create_app(settings.model_copy(update={"access": access}))
    # A server, too, answers 500 to a defect.
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://gateway", timeout=_TIMEOUT) as client,
    ):
        yield client


@asynccontextmanager
async def at_url(url: str, key: str | None) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the gateway at `url`. key: an API key, where that gateway asks for one."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=_TIMEOUT) as client:
        yield client


async def made_by(
    client: httpx.AsyncClient, params: PreprocessParams, patience_s: float, tell: Callable[[str], None]
) -> dict[str, str]:
    """What decides about results beside picture and parameters, once the gateway is ready.

    Its version and face finder, and for what is enhanced the model and its engine. tell: what it waits for.
    Raises GatewayGone, Refused.
    """
    ready = await _ready(client, patience_s, tell)
    health = await _asked(client, "/healthz")
    told = {"version": str(health["version"]), "finder": str(ready["finder"])}
    if not isinstance(params, EnhanceParams):
        return told
    model, engine = params.model or str(ready["model"]), str(ready["engine"])
    if params.model is not None:
        models = (await _asked(client, "/v1/models"))["models"]
        engine = next((one["engine"] for one in models if one["name"] == model), "none")
    return {**told, "model": model, "engine": engine}


def problem_text(answer: httpx.Response) -> str:
    """What the problem document in `answer` says, or its status where it holds none."""
    try:
        problem = answer.json()
        return f"{problem['title']}: {problem['detail']}"
    except (ValueError, KeyError, TypeError):
        return f"HTTP {answer.status_code} {answer.reason_phrase}"


def check_refusal(answer: httpx.Response) -> None:
    """Raises Refused where every other request would be answered alike."""
    if answer.status_code in _REFUSALS:
        hint = " (GPEN_GATEWAY_KEY, or --api-key)" if answer.status_code == httpx.codes.UNAUTHORIZED else ""
        raise Refused(f"{answer.url.copy_with(query=None)}: {problem_text(answer)}{hint}")


async def _ready(client: httpx.AsyncClient, patience_s: float, tell: Callable[[str], None]) -> dict[str, Any]:
    waited_for, until = "", time.monotonic() + patience_s
    while True:
        try:
            answer = await client.get("/readyz", timeout=10)
        except httpx.TransportError as error:
            detail = f"no connection to {client.base_url}: {error or type(error).__name__}"
        else:
            check_refusal(answer)
            if answer.is_success:
                document: dict[str, Any] = answer.json()
                return document
            detail = problem_text(answer)
        if detail != waited_for:
            # A checkpoint that is being fetched may take its time as long as it comes.
            waited_for, until = detail, time.monotonic() + patience_s
            tell(detail)
        if time.monotonic() > until:
            raise GatewayGone(detail)
        await asyncio.sleep(_ASK_EVERY_S)


async def _asked(client: httpx.AsyncClient, path: str) -> dict[str, Any]:
    try:
        answer = await client.get(path)
    except httpx.TransportError as error:
        raise GatewayGone(f"no connection to {client.base_url}: {error}") from error
    check_refusal(answer)
    if not answer.is_success:
        raise GatewayGone(problem_text(answer))
    document: dict[str, Any] = answer.json()
    return document
