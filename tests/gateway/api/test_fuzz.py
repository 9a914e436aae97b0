"""Generated requests: the API conforms to its OpenAPI document, and no body is an unexpected error."""

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import numpy as np
import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from gateway.app import create_app
from gateway.imaging.encoder import encode
from gateway.settings import LimitSettings, Settings

SIZES = ((1, 1), (7, 64), (64, 48))
PICTURES = [
    encode(np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8), name, 90)
    for height, width in SIZES
    for name in ("png", "jpeg", "webp")
]
ANY_PICTURE = st.sampled_from([*PICTURES, PICTURES[0][:40], PICTURES[1][:-9]]) | st.binary(max_size=50)


def no_server_error(
    _: schemathesis.CheckContext, answer: schemathesis.Response, case: schemathesis.Case
) -> None:
    """Only an expired deadline, which the request chose, may be a 5xx."""
    assert answer.status_code < 500 or answer.status_code == 504, answer.text


def rejects_invalid_data(
    context: schemathesis.CheckContext, answer: schemathesis.Response, case: schemathesis.Case
) -> bool | None:
    """Check `negative_data_rejection`, except for query parameters that the body overrides."""
    in_body = set(case.body) if isinstance(case.body, dict) else set()
    if in_body & set(case.query or ()):
        return None
    return negative_data_rejection(context, answer, case)


CHECKS = [
    no_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    rejects_invalid_data,
    allow_header_conformance,
    unsupported_method,
]


@contextmanager
def run_in_thread(app) -> Iterator[str]:
    """Serve `app` on a free port, in a thread; yields its URL."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, timeout_graceful_shutdown=5))
    listening = threading.Event()
    startup = server.startup

    async def start(sockets=None) -> None:
        await startup(sockets)
        listening.set()

    server.startup = start
    thread = threading.Thread(target=server.run)
    thread.start()
    assert listening.wait(30)
    try:
        yield "http://{}:{}".format(*server.servers[0].sockets[0].getsockname())
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def url(echo_backend, fixed_finder) -> Iterator[str]:
    """A gateway with an echo backend and a fixed face finder."""
    limits = LimitSettings(max_body_bytes=1_000_000, max_pixels=1_000_000)
    transport = httpx.MockTransport(echo_backend())
    app = create_app(Settings(limits=limits), finder=fixed_finder(), transport=transport)
    with run_in_thread(app) as base_url:
        yield base_url


schemathesis.openapi.format("binary", ANY_PICTURE)
schemathesis.openapi.format("byte", ANY_PICTURE.map(lambda picture: base64.b64encode(picture).decode()))
SCHEMA = schemathesis.openapi.from_dict(create_app().openapi())
OPERATIONS = {operation.ok().label: operation.ok() for operation in SCHEMA.get_all_operations()}


@st.composite
def sendable(draw: st.DrawFn, cases: st.SearchStrategy[schemathesis.Case]) -> schemathesis.Case:
    """Draw one of `cases`, without those that schemathesis cannot generate or send.

    It cannot validate its own binary values, and it leaves an empty list out of a form, so that the invalid
    value never arrives.
    """
    try:
        case = draw(cases)
    except ValueError as error:
        if "'Binary'" not in str(error):
            raise
        reject()
    in_form = case.media_type == "multipart/form-data" and isinstance(case.body, dict)
    if in_form and [] in case.body.values():
        reject()
    return case


def fuzz(url: str, label: str, examples: int) -> None:
    """Send valid and invalid requests for one operation, and check every response."""
    operation = OPERATIONS[label]
    cases = [operation.as_strategy(generation_mode=mode) for mode in schemathesis.GenerationMode]

    @given(sendable(st.one_of(cases)))
    @settings(max_examples=examples, suppress_health_check=list(HealthCheck))
    def check_case(case: schemathesis.Case) -> None:
        case.call_and_validate(base_url=url, checks=CHECKS)

    check_case()


@pytest.mark.parametrize("label", OPERATIONS)
def test_conforms_to_the_document(url, label):
    fuzz(url, label, 40 if label.startswith("POST") else 10)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("label", OPERATIONS)
def test_conforms_to_the_document_in_a_long_run(url, label):
    fuzz(url, label, 1000 if label.startswith("POST") else 100)
