"""What is recorded and replayed when, with a stand-in for CUDA; test_torch_engine.py has the real one."""

from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest
import torch

from gpen_backend.engines.graphs import Graphs


class Network:
    """Doubles its input, and remembers each run's input and output."""

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


def test_batches_are_filled_up_to_powers_of_two_that_are_recorded_once(network):
    graphs = Graphs(network)
    for count in (1, 3, 4, 2, 3, 1, 4):
        assert torch.equal(graphs(images(count)), images(count) * 2)
    assert {len(given) for given, _ in network.runs} == {1, 2, 4}
    recorded = len(network.runs)
    graphs(images(3))
    assert len(network.runs) == recorded


def test_a_network_that_cannot_be_recorded_runs_as_it_is(network, monkeypatch, caplog):
    @contextmanager
    def refused(*_, **__):
        yield
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(torch.cuda, "graph", refused)
    graphs = Graphs(network)
    for _ in range(2):
        assert torch.equal(graphs(images(3)), images(3) * 2)
    assert caplog.text.count("cannot be recorded") == 1


def test_a_full_memory_is_not_taken_for_that(network, monkeypatch):
    @contextmanager
    def full(*_, **__):
        yield
        raise torch.OutOfMemoryError("CUDA out of memory")

    graphs = Graphs(network)
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "graph", full)
        with pytest.raises(torch.OutOfMemoryError):
            graphs(images(2))
    assert torch.equal(graphs(images(2)), images(2) * 2)
