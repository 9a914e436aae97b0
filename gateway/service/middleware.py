"""What wraps every request: its id, and the limit on its body."""

import re
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.errors import TooLarge

# What may stand in logs and headers of others without quoting.
_SANE_ID = re.compile(r"[A-Za-z0-9._\-]{1,128}")
# No length of a body has more digits.
_MAX_DIGITS = 18


class RequestId:
    """Gives each request an id, the caller's own where that is sane, and tells it in every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        own_id = request_id(scope)

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Request-ID"] = own_id
            await send(message)

        await self.app(scope, receive, send_with_id)


class BodyLimit:
    """Stops reading a body at `max_bytes`, whether or not its length was told: raises TooLarge in the app."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        told = Headers(scope=scope).get("content-length", "0")
        too_large = TooLarge(f"the body has more than the {self.max_bytes:,} bytes that are allowed")
        received = 0

        async def limited_receive() -> Message:
            nonlocal received
            # Python reads no number of thousands of digits.
            if told.isdecimal() and (len(told) > _MAX_DIGITS or int(told) > self.max_bytes):
                raise too_large
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.max_bytes:
                raise too_large
            return message

        await self.app(scope, limited_receive, send)


def request_id(scope: Scope) -> str:
    """The id of the request in `scope`; made on first use."""
    state = scope.setdefault("state", {})
    if "request_id" not in state:
        asked = Headers(scope=scope).get("x-request-id", "")
        state["request_id"] = asked if _SANE_ID.fullmatch(asked) else uuid.uuid4().hex
    made: str = state["request_id"]
    return made
