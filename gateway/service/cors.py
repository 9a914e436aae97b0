"""CORS, the Fetch standard's protocol for requests from web pages of other origins."""

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.errors import CorsRefused
from gateway.service.problem import problem_response


class Cors(CORSMiddleware):
    """Starlette's middleware, but with a problem document for refused requests."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        try:
            await super().__call__(scope, receive, send)
        except CorsRefused as refused:
            await problem_response(Request(scope), refused)(scope, receive, send)

    def preflight_response(self, request_headers: Headers) -> Response:
        """Respond to a preflight request. Raises CorsRefused."""
        response = super().preflight_response(request_headers)
        if response.status_code != 200:
            reason = bytes(response.body).decode()
            raise CorsRefused(f"{reason}; GATEWAY_CORS_ORIGINS lists the origins that may call")
        return response
