"""An app in this process: what would cross a socket is handed over, and no picture is copied for it."""

from collections.abc import AsyncIterator

import httpx

from gpen_common.asgi import App, Message, Receive, Scope, Send
from gpen_common.pieces import Piece

VIEWS = "gpen.views"
"""The ASGI extension that tells an app that the bodies it sends may be memoryviews."""


class InProcess(httpx.AsyncBaseTransport):
    """httpx's ASGITransport, but for the answer's body, which it would join: that comes as the app sent it.

    A defect of the app is a 500, as it would be over a socket.
    """

    def __init__(self, app: App) -> None:
        self._app = app

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The app's answer, once it is complete."""
        body = _Body()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            async def keep_body(message: Message) -> None:
                if message["type"] == "http.response.body":
                    body.pieces.append(message.get("body", b""))
                    message = {**message, "body": b""}
                await send(message)

            extensions = {**scope.get("extensions", {}), VIEWS: {}}
            await self._app({**scope, "extensions": extensions}, receive, keep_body)

        answer = await httpx.ASGITransport(app, raise_app_exceptions=False).handle_async_request(request)
        answer.stream = body
        return answer


class _Body(httpx.AsyncByteStream):
    def __init__(self) -> None:
        self.pieces: list[Piece] = []

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            # Decoders of httpx hand on what is not encoded.
            yield piece  # type: ignore[misc]
