"""The limit of a request's body."""

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.support.backend import INFER, error_of, run_backend

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("declared", [True, False])
async def test_rejects_a_body_over_the_limit_before_reading_it(declared):
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 1
            yield bytes(1000)

    headers = {"Content-Length": "1000000"} if declared else {}
    async with run_backend(max_body_bytes=10_000) as (client, _):
        answer = await client.post(INFER, content=endless(), headers=headers)
        assert answer.status_code == 413
        assert "10000 bytes" in error_of(answer)
        assert sent <= (1 if declared else 11)


async def test_answers_413_over_a_socket_with_and_without_a_declared_length(backend_process):
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield bytes(100_000)

    async with httpx.AsyncClient(base_url=backend_process) as client:
        for content in (bytes(300_000), chunks()):
            answer = await client.post(INFER, content=content)
            assert answer.status_code == 413
            error_of(answer)
