"""CUDA graphs of a network: one launch for a whole run instead of hundreds of small ones."""

import logging

import torch
from torch import Tensor, nn

logger = logging.getLogger(__name__)

# Runs before a capture, in which cuDNN chooses its algorithms. Source: PyTorch's notes on CUDA graphs.
_WARM_UP_RUNS = 3


class CudaGraphs:
    """Runs `network` on CUDA and captures a graph per batch size, at the first use. Belongs to one thread.

    Batches are padded to the next power of two, so that warm-up captures every graph that can be needed.
    The next run overwrites the returned tensor. If capture fails, the network runs without graphs.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._captured: dict[int, tuple[torch.cuda.CUDAGraph, Tensor, Tensor]] = {}
        self._enabled = True

    def __call__(self, images: Tensor) -> Tensor:
        """images: (N, 3, S, S) on the GPU. Returns the network's output. Raises torch.OutOfMemoryError."""
        count = 1 << (len(images) - 1).bit_length()
        if count not in self._captured and self._enabled:
            self._capture(images, count)
        if count not in self._captured:
            plain: Tensor = self._network(images)
            return plain
        graph, static_input, static_output = self._captured[count]
        static_input[: len(images)].copy_(images)
        graph.replay()
        return static_output[: len(images)]

    def _capture(self, images: Tensor, count: int) -> None:
        static_input = images.new_zeros(count, *images.shape[1:])
        side_stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch has none
        side_stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side_stream):
            for _ in range(_WARM_UP_RUNS):
                self._network(static_input)
        torch.cuda.current_stream().wait_stream(side_stream)
        graph = torch.cuda.CUDAGraph()
        # One memory pool for all sizes: only one graph runs at a time.
        pool = next(iter(self._captured.values()))[0].pool() if self._captured else None
        try:
            with torch.cuda.graph(graph, pool=pool):
                static_output = self._network(static_input)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            logger.warning("CUDA graph capture failed (%s); the network runs without graphs", error)
            self._enabled = False
            return
        self._captured[count] = (graph, static_input, static_output)
