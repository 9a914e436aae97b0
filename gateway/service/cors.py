"""Which pages of browsers may call (the Fetch standard's CORS protocol)."""

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.errors import CorsRefused
from gateway.service.problem import problem_response


class Cors(CORSMiddleware):
    """Starlette's, but a refusal is a problem document like any other."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one connection."""
        try:
            await super().__call__(scope, receive, send)
        except CorsRefused as refused:
            await problem_response(Request(scope), refused)(scope, receive, send)

    def preflight_response(self, request_headers: Headers) -> Response:
        """The answer to a browser that asks before it calls. Raises CorsRefused."""
        answer = super().preflight_response(request_headers)
        if answer.status_code != 200:
            told = bytes(answer.body).decode()
            raise CorsRefused(f"{told}; GATEWAY_CORS_ORIGINS names the origins whose pages may call")
        return answer
