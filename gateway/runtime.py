"""A running gateway: what its routes need, made in one place and closed again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import httpx

from gateway.cache.tiers import make_cache
from gateway.faces import FaceFinder, make_finder
from gateway.image_url.fetcher import ImageFetcher
from gateway.pipeline.caching import CachedEnhancer
from gateway.pipeline.measured import MeasuredEnhancer, MeasuredStore
from gateway.service.admission import Admission
from gateway.service.gauges import Gauges, shown
from gateway.service.metrics import Metrics
from gateway.settings import FetchSettings, Settings
from gateway.upstream.models import Models
from gpen_client.client import GpenClient
from gpen_common.allocator import keep_large_buffers
from gpen_common.threads import Threads
from gpen_common.tracing import Tracing, untraced


@dataclass(frozen=True, slots=True)
class Gateway:
    """Everything that requests share.

    backend: `embedded`, or the backend's URL. metrics: what is counted. embedded: the way to a backend in
    this process, where there is one. fetcher: None where `image_url` is off.
    """

    settings: Settings
    threads: Threads
    finder: FaceFinder
    client: GpenClient
    models: Models
    enhancer: CachedEnhancer
    admission: Admission
    backend: str
    metrics: Metrics
    embedded: httpx.AsyncBaseTransport | None = None
    fetcher: ImageFetcher | None = None


@asynccontextmanager
async def running(
    settings: Settings,
    finder: FaceFinder | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
    metrics: Metrics | None = None,
    tracing: Tracing | None = None,
) -> AsyncIterator[Gateway]:
    """A gateway until the block ends. finder, transport, metrics: in place of those that would be made.
    tracing: what traces, which is closed with the gateway.

    Raises FinderUnavailable where the named face finder cannot run here.
    """
    keep_large_buffers()
    counted = metrics or Metrics()
    async with AsyncExitStack() as stack:
        if tracing is not None:
            stack.push_async_callback(tracing.close)
        threads = Threads(settings.server.threads)
        stack.callback(threads.close)
        if finder is None:
            # It may read, or even fetch, files.
            finder = await asyncio.to_thread(
                make_finder, settings.faces.face_finder, settings.faces.models_dir
            )
        url, transport = await _backend(settings, transport, stack)
        client = await stack.enter_async_context(
            GpenClient(
                url,
                transport=transport,
                connect_timeout_s=settings.upstream.connect_timeout_s,
                resilience=settings.upstream.resilience,
                trace=tracing.call if tracing else untraced,
            )
        )
        models = Models(client, settings.upstream.default_model)
        stack.push_async_callback(models.close)
        cache = make_cache(settings.cache, lambda store: MeasuredStore(store, counted))
        stack.push_async_callback(cache.close)
        enhancer = MeasuredEnhancer(counted, finder, client, models, threads, settings.limits.pixels, cache)
        admission = Admission(settings.limits.workers, settings.limits.queue)
        # Whoever was let in finishes before what they work with is taken away.
        stack.push_async_callback(admission.finished)
        backend = str(settings.upstream.backend_url or "embedded")
        cached = CachedEnhancer(enhancer, cache)
        fetcher = _fetcher(settings.fetch, stack)
        stack.enter_context(shown(counted.registry, Gauges(admission, client, models, finder.name)))
        yield Gateway(
            settings=settings,
            threads=threads,
            finder=finder,
            client=client,
            models=models,
            enhancer=cached,
            admission=admission,
            backend=backend,
            metrics=counted,
            embedded=transport if settings.upstream.backend_url is None else None,
            fetcher=fetcher,
        )


async def _backend(
    settings: Settings, transport: httpx.AsyncBaseTransport | None, stack: AsyncExitStack
) -> tuple[str, httpx.AsyncBaseTransport | None]:
    """The backend's address and the way to it; None is the network."""
    if settings.upstream.backend_url is not None:
        return str(settings.upstream.backend_url), transport
    # Whoever has a backend elsewhere never imports this one.
    from gateway.upstream.embed import EMBEDDED_URL, embedded_backend

    return EMBEDDED_URL, transport or await stack.enter_async_context(embedded_backend())


def _fetcher(settings: FetchSettings, stack: AsyncExitStack) -> ImageFetcher | None:
    if settings.image_url == "off":
        return None
    fetcher = ImageFetcher(settings)
    stack.callback(fetcher.close)
    return fetcher
