"""A network on a GPU as CUDA graphs: one launch for a whole run, in place of hundreds of small ones."""

import logging

import torch
from torch import Tensor, nn

logger = logging.getLogger(__name__)

# Runs before a recording, in which cuDNN chooses its algorithms. Source: PyTorch's notes on CUDA graphs.
_WARM_UP_RUNS = 3


class Graphs:
    """Runs `network` on CUDA, recording each power of two at its first use. Belongs to one thread.

    Other batches are filled up to the next power, so that warming up has recorded all there can be.

    What it returns is overwritten by the next run. Where recording fails it runs the network as it is.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._recorded: dict[int, tuple[torch.cuda.CUDAGraph, Tensor, Tensor]] = {}
        self._records = True

    def __call__(self, images: Tensor) -> Tensor:
        """images: (N, 3, S, S) on the GPU. Returns the network's output. Raises torch.OutOfMemoryError."""
        count = 1 << (len(images) - 1).bit_length()
        if count not in self._recorded and self._records:
            self._record(images, count)
        if count not in self._recorded:
            output: Tensor = self._network(images)
            return output
        graph, given, made = self._recorded[count]
        given[: len(images)].copy_(images)
        graph.replay()
        return made[: len(images)]

    def _record(self, images: Tensor, count: int) -> None:
        given = images.new_zeros(count, *images.shape[1:])
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch has none
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(_WARM_UP_RUNS):
                self._network(given)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        # One pool for all sizes: only one of them runs at a time.
        pool = next(iter(self._recorded.values()))[0].pool() if self._recorded else None
        try:
            with torch.cuda.graph(graph, pool=pool):
                made = self._network(given)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            logger.warning("the network cannot be recorded as a CUDA graph (%s): it runs without", error)
            self._records = False
            return
        self._recorded[count] = (graph, given, made)
