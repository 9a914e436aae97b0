"""A running gateway: everything that requests share, opened in order and closed in reverse."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import httpx

from gateway.cache.tiers import make_cache
from gateway.faces import FaceFinder, make_finder
from gateway.image_url.fetcher import ImageFetcher
from gateway.pipeline.enhancer import Enhancer
from gateway.pipeline.photo_enhancer import PhotoEnhancer
from gateway.pipeline.picture_bytes import Pictures
from gateway.pipeline.portrait_enhancer import PortraitEnhancer
from gateway.pipeline.preprocessor import Preprocessor
from gateway.pipeline.standardiser import Standardiser
from gateway.service.admission import Admission
from gateway.service.gauges import Gauges, register
from gateway.service.metrics import Metrics
from gateway.settings import FetchSettings, Settings
from gateway.upstream.model_choice import Models
from gpen_client.client import GpenClient
from gpen_common.allocator import keep_large_buffers
from gpen_common.threads import Threads
from gpen_common.tracing import Tracing, no_trace


@dataclass(frozen=True, slots=True)
class Gateway:
    """What requests share.

    backend: `embedded`, or the backend's URL. embedded: the transport to a backend in this process, where
    there is one. fetcher: None where `image_url` is off.
    """

    settings: Settings
    finder: FaceFinder
    client: GpenClient
    models: Models
    pictures: Pictures
    enhancer: Enhancer
    preprocessor: Preprocessor
    admission: Admission
    metrics: Metrics
    backend: str
    embedded: httpx.AsyncBaseTransport | None = None
    fetcher: ImageFetcher | None = None


@asynccontextmanager
async def run_gateway(
    settings: Settings,
    finder: FaceFinder | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
    metrics: Metrics | None = None,
    tracing: Tracing | None = None,
) -> AsyncIterator[Gateway]:
    """Run a gateway until the block ends.

    finder, transport, metrics: used instead of those that `settings` describe. tracing: closed with the
    gateway. Raises FinderUnavailable where the configured face finder cannot run.
    """
    keep_large_buffers()
    metrics = metrics or Metrics()
    async with AsyncExitStack() as stack:
        if tracing is not None:
            stack.push_async_callback(tracing.close)
        threads = Threads(settings.server.threads)
        stack.callback(threads.close)
        if finder is None:
            # It may read files, or even download one.
            finder = await asyncio.to_thread(
                make_finder, settings.faces.face_finder, settings.faces.models_dir
            )
        client, embedded = await _open_client(settings, transport, tracing, stack)
        models = Models(client, settings.upstream.default_model)
        stack.push_async_callback(models.close)
        cache = make_cache(settings.cache, metrics.count_cache_event)
        stack.push_async_callback(cache.close)
        admission = Admission(settings.limits.workers, settings.limits.queue)
        standardiser = Standardiser(finder, threads, settings.limits.pixels, cache)
        portraits = PortraitEnhancer(standardiser, finder, threads)
        photos = PhotoEnhancer(finder, threads, settings.limits.pixels)
        enhancer = Enhancer(portraits, photos, finder, client, models, cache, admission, metrics)
        preprocessor = Preprocessor(standardiser, finder, threads, admission, metrics)
        # Work in flight ends before anything that it uses is closed.
        stack.push_async_callback(enhancer.in_flight.finish)
        stack.push_async_callback(preprocessor.in_flight.finish)
        stack.enter_context(register(metrics.registry, Gauges(admission, client, models, finder.name)))
        yield Gateway(
            settings=settings,
            finder=finder,
            client=client,
            models=models,
            pictures=Pictures(),
            enhancer=enhancer,
            preprocessor=preprocessor,
            admission=admission,
            metrics=metrics,
            backend=str(settings.upstream.backend_url or "embedded"),
            embedded=embedded,
            fetcher=_open_fetcher(settings.fetch, stack),
        )


async def _open_client(
    settings: Settings,
    transport: httpx.AsyncBaseTransport | None,
    tracing: Tracing | None,
    stack: AsyncExitStack,
) -> tuple[GpenClient, httpx.AsyncBaseTransport | None]:
    """Open the backend's client, and the backend itself where it is embedded, with its transport."""
    upstream, embedded = settings.upstream, None
    url = str(upstream.backend_url)
    if upstream.backend_url is None:
        # Imported here: a gateway with a separate backend needs no torch.
        from gateway.upstream.embedded_backend import EMBEDDED_URL, run_embedded_backend

        url = EMBEDDED_URL
        transport = embedded = transport or await stack.enter_async_context(run_embedded_backend())
    client = GpenClient(
        url,
        transport=transport,
        connect_timeout_s=upstream.connect_timeout_s,
        resilience=upstream.resilience,
        trace=tracing.trace_call if tracing else no_trace,
    )
    return await stack.enter_async_context(client), embedded


def _open_fetcher(settings: FetchSettings, stack: AsyncExitStack) -> ImageFetcher | None:
    if settings.image_url == "off":
        return None
    fetcher = ImageFetcher(settings)
    stack.callback(fetcher.close)
    return fetcher
