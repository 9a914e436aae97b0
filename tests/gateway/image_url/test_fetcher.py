"""Downloads from real sockets: allowed addresses only, with limits on size and time."""

import asyncio
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

import pytest

from gateway.errors import DeadlinePassed, ImageUrlRefused, ImageUrlUnreachable, TooLarge
from gateway.image_url.addresses import REFUSED, Address, is_public
from gateway.image_url.fetcher import ImageFetcher
from gateway.settings import FetchSettings

pytestmark = pytest.mark.anyio

LOOPBACK = ip_address("127.0.0.1")
PUBLIC = ip_address("93.184.215.14")


@dataclass
class NameServer:
    """A name server with a sequence of answers for each name; the last one repeats."""

    answers: dict[str, list[list[Address]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def __call__(self, host: str, port: int) -> list[Address]:
        self.asked.append(host)
        answers = self.answers.get(host, [[LOOPBACK]])
        return answers.pop(0) if len(answers) > 1 else answers[0]


Answer = bytes | Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Site:
    """A server of raw answers by path. heads: the heads of its requests."""

    port: int = 0
    answers: dict[str, Answer] = field(default_factory=dict)
    heads: list[str] = field(default_factory=list)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.heads.append(head)
            answer = self.answers.get(head.split()[1], b"HTTP/1.1 404 Not Found\r\n\r\n")
            if isinstance(answer, bytes):
                writer.write(answer)
                await writer.drain()
            else:
                await answer(writer)
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        finally:
            writer.close()

    def url(self, path: str = "/", host: str = "pictures.test", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.port}{path}"


def ok(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def found(where: str, status: str = "302 Found") -> bytes:
    return ok(b"", f"Location: {where}", status=status)


@asynccontextmanager
async def site(tls: ssl.SSLContext | None = None, **answers: Answer) -> AsyncIterator[Site]:
    """answers: by path without its slash; `root` is `/`."""
    made = Site(answers={"/" if path == "root" else f"/{path}": answer for path, answer in answers.items()})
    server = await asyncio.start_server(made.handle, "127.0.0.1", 0, ssl=tls)
    made.port = server.sockets[0].getsockname()[1]
    async with server:
        yield made


async def fetched(
    site: Site,
    url: str,
    *,
    names: NameServer | None = None,
    allowed: Callable[[Address], bool] = lambda address: True,
    most: int = 1000,
    seconds: float = 30,
    tls: ssl.SSLContext | None = None,
    **settings: object,
) -> bytes:
    chosen = FetchSettings(
        **{
            "image_url_http": "on",
            "image_url_ports": (site.port, 80, 443),
            "image_url_timeout_s": 20,
            **settings,
        }
    )
    fetcher = ImageFetcher(chosen, resolve=names or NameServer(), allowed=allowed, tls=tls)
    try:
        return await fetcher.fetch(url, most, time.monotonic() + seconds)
    finally:
        fetcher.close()


async def test_downloads_any_content_type():
    async with site(root=ok(b"pixels", "Content-Type: text/html")) as server:
        assert await fetched(server, server.url()) == b"pixels"
    (head,) = server.heads
    assert head.startswith("GET / HTTP/1.1\r\n")
    assert f"Host: pictures.test:{server.port}\r\n" in head
    assert "Accept-Encoding: identity\r\n" in head


async def test_sends_path_and_query_but_not_the_fragment():
    async with site(**{"a%20b/%C3%A9?x=1&y=%2F": ok(b"pixels")}) as server:
        assert await fetched(server, server.url("/a%20b/é?x=1&y=%2F#there")) == b"pixels"


async def test_reads_a_chunked_body():
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\npix\r\n3\r\nels\r\n0\r\n\r\n"
    async with site(root=chunked) as server:
        assert await fetched(server, server.url()) == b"pixels"


async def test_never_connects_to_a_private_address():
    async with site(root=ok(b"secret")) as server:
        with pytest.raises(ImageUrlRefused) as refused:
            await fetched(server, server.url(), allowed=is_public)
        assert str(refused.value) == REFUSED
    assert server.heads == []


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.1", "2130706433", "0x7f.1", "0177.1", "0177.0.0.1", "[::ffff:127.0.0.1]", "localhost",
     "localhost.", "127。0。0。1"],
)  # fmt: skip
async def test_system_resolver_rejects_every_notation_of_loopback(host):
    async with site(root=ok(b"secret")) as server:
        fetcher = ImageFetcher(FetchSettings(image_url_http="on", image_url_ports=(server.port,)))
        with pytest.raises(ImageUrlRefused, match=r"no public address|not a valid URL"):
            await fetcher.fetch(server.url(host=host), 1000, time.monotonic() + 30)
        fetcher.close()
    assert server.heads == []


@pytest.mark.parametrize(
    "addresses", [[PUBLIC, LOOPBACK], [LOOPBACK, PUBLIC], [ip_address("fd00::1"), PUBLIC], []]
)
async def test_one_private_address_rejects_the_host(addresses):
    async with site(root=ok(b"secret")) as server:
        with pytest.raises(ImageUrlRefused, match="no public address"):
            await fetched(
                server, server.url(), names=NameServer({"pictures.test": [addresses]}), allowed=is_public
            )
    assert server.heads == []


async def test_connects_to_the_checked_address_without_resolving_again():
    """The name is resolved once, which defeats DNS rebinding."""
    names = NameServer({"pictures.test": [[LOOPBACK], [ip_address("127.0.0.66")]]})
    async with site(root=ok(b"pixels")) as server:
        assert await fetched(server, server.url(), names=names, allowed=lambda a: a == LOOPBACK) == b"pixels"
        assert names.asked == ["pictures.test"]
        with pytest.raises(ImageUrlRefused):
            await fetched(server, server.url(), names=names, allowed=lambda a: a == LOOPBACK)


async def test_rejects_dns_rebinding_after_a_redirect():
    names = NameServer({"pictures.test": [[LOOPBACK], [ip_address("127.0.0.66")]]})
    async with site(root=found("/again"), again=ok(b"secret")) as server:
        with pytest.raises(ImageUrlRefused, match="no public address"):
            await fetched(server, server.url(), names=names, allowed=lambda a: a == LOOPBACK)
    assert len(server.heads) == 1


@pytest.mark.parametrize(
    "where",
    ["http://inside.test:{port}/", "//inside.test:{port}/", "http://10.0.0.1/", "file:///etc/passwd",
     "http://pictures.test:22/", "http://me:secret@pictures.test:{port}/"],
)  # fmt: skip
async def test_checks_the_target_of_a_redirect(where):
    names = NameServer({"inside.test": [[ip_address("127.0.0.66")]], "10.0.0.1": [[ip_address("10.0.0.1")]]})
    async with site() as server:
        server.answers["/"] = found(where.format(port=server.port))
        with pytest.raises(ImageUrlRefused):
            await fetched(server, server.url(), names=names, allowed=lambda address: address == LOOPBACK)
    assert len(server.heads) == 1


@pytest.mark.parametrize("status", ["301 A", "302 B", "303 C", "307 D", "308 E"])
async def test_follows_at_most_three_redirects(status):
    three = {"root": found("/a", status), "a": found("b", status), "b": found("?c=1", status)}
    async with site(**three, **{"b?c=1": ok(b"pixels")}) as server:
        assert await fetched(server, server.url()) == b"pixels"
        server.answers["/b?c=1"] = found("/d", status)
        with pytest.raises(ImageUrlUnreachable, match="more than 3"):
            await fetched(server, server.url())


async def test_redirect_to_an_invalid_url_is_unreachable():
    async with site(root=found("http://0177.0.0.1/")) as server:
        with pytest.raises(ImageUrlUnreachable, match="invalid URL"):
            await fetched(server, server.url())


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://pictures.test/", "https://"),
        ("ftp://pictures.test/", "https://"),
        ("file:///etc/passwd", "https://"),
        ("pictures.test/a.jpg", "https://"),
        ("", "https://"),
        ("https://me@pictures.test/", "password"),
        ("https://me:secret@pictures.test/", "password"),
        ("https://pictures.test:22/", "port 22"),
        ("https://pictures.test:6379/", "port 6379"),
        ("https://", "host"),
        ("https:///path", "host"),
        ("https://0177.0.0.1/", "URL"),
        ("https://pictures.test/\r\nHost: inside", "URL"),
        ("https://" + "a" * 70_000, "URL"),
        ("https://pictures.test:99999/", "port"),
    ],
)
async def test_rejects_a_forbidden_url_before_resolving(url, why):
    names = NameServer()
    fetcher = ImageFetcher(FetchSettings(), resolve=names)
    with pytest.raises(ImageUrlRefused, match=why):
        await fetcher.fetch(url, 1000, time.monotonic() + 30)
    fetcher.close()
    assert names.asked == []


@pytest.mark.parametrize(
    ("host", "good"),
    [
        ("pictures.test", True),
        ("PICTURES.test", True),
        ("pictures.test.", True),
        ("a.cdn.test", True),
        ("cdn.test", False),
        ("evilcdn.test", False),
        ("pictures.test.evil", False),
        ("xpictures.test", False),
    ],
)
async def test_host_list_allows_only_its_hosts(host, good):
    async with site(root=ok(b"pixels")) as server:
        coming = fetched(server, server.url(host=host), image_url_hosts="Pictures.test, *.cdn.test")
        if good:
            assert await coming == b"pixels"
        else:
            with pytest.raises(ImageUrlRefused, match="list of allowed hosts"):
                await coming


async def test_rejects_a_declared_length_over_the_limit():
    async def only_a_head(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n")
        await asyncio.sleep(60)

    async with site(root=only_a_head) as server:
        with pytest.raises(TooLarge, match="1,000"):
            await fetched(server, server.url())


async def test_stops_reading_at_the_size_limit():
    async def endless(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 4096)
            await writer.drain()

    async with site(root=endless) as server:
        with pytest.raises(TooLarge, match="1,000"):
            await fetched(server, server.url())


async def test_slow_body_times_out():
    async def dripping(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with site(root=dripping) as server:
        with pytest.raises(ImageUrlUnreachable, match=r"longer than 0\.2 seconds"):
            await fetched(server, server.url(), most=10**9, image_url_timeout_s=0.2)


async def test_request_deadline_applies_if_sooner():
    async def silent(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    async with site(root=silent) as server:
        with pytest.raises(DeadlinePassed):
            await fetched(server, server.url(), seconds=0.2)


async def test_hanging_name_server_times_out():
    async def hanging(host: str, port: int) -> list[Address]:
        await asyncio.sleep(60)
        return []

    async with site() as server:
        with pytest.raises(ImageUrlUnreachable, match=r"longer than 0\.2 seconds"):
            await fetched(server, server.url(), names=hanging, image_url_timeout_s=0.2)


@pytest.mark.parametrize("status", ["204 No Content", "206 Partial", "304 Same", "404 Not Found", "500 Oops"])
async def test_other_status_is_unreachable(status):
    async with site(root=ok(b"", status=status)) as server:
        with pytest.raises(ImageUrlUnreachable, match=status[:3]):
            await fetched(server, server.url())


async def test_rejects_a_compressed_body():
    async with site(root=ok(b"bomb", "Content-Encoding: gzip")) as server:
        with pytest.raises(ImageUrlUnreachable, match="compressed"):
            await fetched(server, server.url())


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npix",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 99_999,
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: \xff\xfe\r\n\r\n",
    ],
    ids=["nothing", "garbage", "half", "headers without end", "a length of many digits", "a strange place"],
)  # fmt: skip
async def test_broken_response_is_rejected(answer):
    async with site(root=answer) as server:
        with pytest.raises((ImageUrlUnreachable, TooLarge, ImageUrlRefused)):
            await fetched(server, server.url())


async def test_connection_error_does_not_reveal_the_address():
    async with site() as server:
        pass
    with pytest.raises(ImageUrlUnreachable, match="connection failed") as caught:
        await fetched(server, server.url())
    assert "127.0.0.1" not in str(caught.value)


async def test_tries_the_next_address_after_a_failed_connection():
    names = NameServer({"pictures.test": [[ip_address("127.0.0.66"), LOOPBACK]]})
    async with site(root=ok(b"pixels")) as server:
        assert await fetched(server, server.url(), names=names) == b"pixels"


async def test_ignores_proxy_variables(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with site(root=ok(b"pixels")) as server:
        assert await fetched(server, server.url()) == b"pixels"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for pictures.test and its key."""
    folder = tmp_path_factory.mktemp("tls")
    files = folder / "cert.pem", folder / "key.pem"
    command = [
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
        *("-days", "2", "-subj", "/CN=pictures.test", "-addext", "subjectAltName=DNS:pictures.test"),
        *("-out", files[0], "-keyout", files[1]),
    ]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"openssl cannot create a certificate: {error}")
    return files


@pytest.fixture
def serving_tls(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


@pytest.fixture
def trusting(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=certificate[0])


async def test_verifies_the_certificate_of_the_host(serving_tls, trusting):
    async with site(serving_tls, root=ok(b"pixels")) as server:
        url = server.url(scheme="https")
        assert await fetched(server, url, tls=trusting) == b"pixels"
        with pytest.raises(ImageUrlUnreachable, match="certificate"):
            await fetched(server, server.url(scheme="https", host="other.test"), tls=trusting)
        with pytest.raises(ImageUrlUnreachable, match="certificate"):
            await fetched(server, url)


async def test_rejects_a_redirect_from_https_to_http(serving_tls, trusting):
    async with site(serving_tls, root=found("http://pictures.test/"), more=found("/root")) as server:
        with pytest.raises(ImageUrlRefused, match="from https to http"):
            await fetched(server, server.url(scheme="https"), tls=trusting)
