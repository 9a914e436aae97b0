"""Capture and replay of CUDA graphs, with a fake of torch.cuda. test_torch.py uses a real GPU."""

from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest
import torch

from gpen_backend.engines.graphs import CudaGraphs


class Network:
    """Doubles its input, and keeps the input and output of each run."""

    def __init__(self):
        self.runs = []

    def __call__(self, x):
        self.runs.append((x, x * 2))
        return self.runs[-1][1]


@pytest.fixture
def network(monkeypatch):
    network = Network()

    class Graph:
        def pool(self):
            return "pool"

        def replay(self):
            given, made = self.recorded
            made.copy_(given * 2)

    @contextmanager
    def graph(recording, pool=None):
        yield
        recording.recorded = network.runs[-1]

    stream = SimpleNamespace(wait_stream=lambda _: None)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", graph)
    return network


def images(count):
    return torch.arange(count * 3 * 4.0).reshape(count, 3, 2, 2)


def test_pads_batches_to_powers_of_two_and_captures_each_once(network):
    graphs = CudaGraphs(network)
    for count in (1, 3, 4, 2, 3, 1, 4):
        assert torch.equal(graphs(images(count)), images(count) * 2)
    assert {len(given) for given, _ in network.runs} == {1, 2, 4}
    captures = len(network.runs)
    graphs(images(3))
    assert len(network.runs) == captures


def test_runs_without_graphs_if_capture_fails(network, monkeypatch, caplog):
    @contextmanager
    def refused(*_, **__):
        yield
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(torch.cuda, "graph", refused)
    graphs = CudaGraphs(network)
    for _ in range(2):
        assert torch.equal(graphs(images(3)), images(3) * 2)
    assert caplog.text.count("CUDA graph capture failed") == 1


def test_out_of_memory_does_not_disable_graphs(network, monkeypatch):
    @contextmanager
    def full(*_, **__):
        yield
        raise torch.OutOfMemoryError("CUDA out of memory")

    graphs = CudaGraphs(network)
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "graph", full)
        with pytest.raises(torch.OutOfMemoryError):
            graphs(images(2))
    assert torch.equal(graphs(images(2)), images(2) * 2)
