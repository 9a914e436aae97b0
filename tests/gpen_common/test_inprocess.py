"""An app in this process is asked as one behind a socket is, but for copies."""

import httpx
import pytest

from gpen_common.inprocess import VIEWS, InProcess

pytestmark = pytest.mark.anyio


async def test_an_answer_comes_as_the_app_sent_it():
    picture = memoryview(bytes(1000))

    async def app(scope, receive, send):
        assert VIEWS in scope["extensions"]
        asked = await receive()
        await send({"type": "http.response.start", "status": 201, "headers": [(b"x-asked", asked["body"])]})
        await send({"type": "http.response.body", "body": b"head", "more_body": True})
        await send({"type": "http.response.body", "body": picture})

    async with httpx.AsyncClient(transport=InProcess(app), base_url="http://inside") as client:
        async with client.stream("POST", "/", content=b"picture") as answer:
            pieces = [piece async for piece in answer.aiter_bytes()]
        assert (answer.status_code, answer.headers["X-Asked"]) == (201, "picture")
        assert pieces[0] == b"head"
        assert pieces[1] is picture
        assert (await client.post("/", content=b"again")).content == b"head" + bytes(1000)


@pytest.mark.parametrize("begun", [False, True])
async def test_a_defect_of_the_app_is_an_answer(begun):
    async def app(scope, receive, send):
        if begun:
            await send({"type": "http.response.start", "status": 500, "headers": []})
        raise RuntimeError("a defect")

    async with httpx.AsyncClient(transport=InProcess(app), base_url="http://inside") as client:
        answer = await client.get("/")
    assert (answer.status_code, answer.content) == (500, b"")
