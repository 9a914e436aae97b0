"""A backend that returns every image unchanged, as a handler for httpx.MockTransport."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import httpx

from gpen_client.wire.messages import (
    InferRequest,
    InferResponse,
    Tensor,
    decode_request,
    encode_response,
    read_header_length,
)

Handler = Callable[[httpx.Request], Awaitable[httpx.Response]]


@dataclass
class EchoBackend:
    """Returns every image unchanged, and records the requests.

    answer: replaces the answer to restorations. probe: replaces the answer to all other requests.
    """

    answer: Handler | None = None
    probe: Handler | None = None
    models: tuple[str, ...] = ("gpen-bfr-512",)
    engine: str = "echo"
    parameters: dict[str, float] = field(default_factory=dict)
    asked: list[InferRequest] = field(default_factory=list)
    request_ids: list[str | None] = field(default_factory=list)

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        *_, model, action = request.url.path.split("/")
        if action == "infer":
            return await (self.answer or self.echo)(request)
        if self.probe is not None:
            return await self.probe(request)
        name = model if action == "ready" else action
        if name not in self.models:
            return httpx.Response(404, json={"error": f"no model {name}"})
        size = {"size": int(name.rpartition("-")[2]), "default": name == self.models[0]}
        return httpx.Response(200, json={"name": name, "platform": self.engine, "parameters": size})

    def hold(self) -> asyncio.Event:
        """Keep every restoration waiting until the returned event is set."""
        go_on = asyncio.Event()

        async def answer(request: httpx.Request) -> httpx.Response:
            await go_on.wait()
            return await self.echo(request)

        self.answer = answer
        return go_on

    async def echo(self, request: httpx.Request) -> httpx.Response:
        """Answer a restoration with its image."""
        asked = decode_request(request.content, read_header_length(request.headers))
        self.asked.append(asked)
        self.request_ids.append(request.headers.get("X-Request-ID"))
        parameters = {"engine": self.engine, "model": request.url.path.split("/")[3], **self.parameters}
        upscale = int(asked.parameters.get("upscale", 1))
        pixels = asked.tensor("image").repeat(upscale, axis=1).repeat(upscale, axis=2)
        answer = InferResponse("", [Tensor("image", pixels)], parameters, asked.id)
        headers, body = encode_response(answer, binary=True)
        return httpx.Response(200, headers=headers, content=body)
