"""The GPEN backend as a process of its own."""

import uvicorn

from gpen_backend.app import create_app
from gpen_backend.settings import BackendSettings


def serve(settings: BackendSettings) -> None:
    """Run the backend until it is told to stop. Blocks. Finishes the requests in flight before it returns."""
    uvicorn.run(create_app(settings), host=settings.host, port=settings.port)
