import pytest

from gpen_backend.engines import EngineError, EngineOutOfMemory
from gpen_backend.hardware.memory import Memory
from gpen_backend.scheduling.batch_size import MOST, best_batch


class Device:
    """An engine with its own clock and memory: a run takes `seconds(batch)` and `batch * face_bytes`."""

    name, size, together = "device", 4, True

    def __init__(self, seconds, face_bytes=1, total=10_000, breaks_at=None):
        self.seconds, self.face_bytes, self.total, self.breaks_at = seconds, face_bytes, total, breaks_at
        self.now = 0.0
        self.used = 0
        self.batches = []

    def clock(self):
        return self.now

    def memory(self):
        return Memory(self.used, self.total)

    def restore(self, faces):
        batch = len(faces)
        if self.breaks_at is not None and batch >= self.breaks_at:
            raise EngineOutOfMemory("full")
        assert batch * self.face_bytes <= self.total
        self.batches.append(batch)
        self.used = max(self.used, batch * self.face_bytes)
        self.now += self.seconds(batch)
        return faces


def best(device):
    return best_batch(device, device.clock)


def test_a_batch_grows_while_it_is_faster_per_face():
    assert best(Device(lambda batch: max(8, batch))) == 8


def test_one_face_is_best_if_a_batch_gains_nothing():
    assert best(Device(lambda batch: batch)) == 1


def test_free_memory_bounds_the_batch_before_it_is_tried():
    device = Device(lambda _: 1, face_bytes=100, total=1000)
    assert best(device) == 8
    assert max(device.batches) == 8


def test_out_of_memory_bounds_the_batch_if_the_estimate_was_too_low():
    assert best(Device(lambda _: 1, breaks_at=5)) == 4


def test_a_batch_has_at_most_64_faces():
    assert best(Device(lambda _: 1, face_bytes=0)) == MOST


def test_an_engine_that_runs_faces_one_by_one_is_run_once():
    device = Device(lambda batch: 1)
    device.together = False
    assert best(device) == 1
    assert device.batches == [1]


def test_raises_if_a_single_face_fails():
    class Broken(Device):
        def restore(self, faces):
            raise EngineError("broken")

    with pytest.raises(EngineError):
        best(Broken(lambda _: 1))
