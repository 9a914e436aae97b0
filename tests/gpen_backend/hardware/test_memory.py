import numpy as np

from gpen_backend.hardware import memory as memory_module
from gpen_backend.hardware.memory import Memory, process_memory


def test_measures_the_memory_of_this_process():
    memory = process_memory()
    assert memory.used > 10e6
    assert memory.free is None or memory.free > 10e6
    grown = np.ones(50_000_000, np.uint8)
    assert process_memory().used >= memory.used
    del grown


def test_a_containers_limit_reduces_free_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(memory_module, "_CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text("3000000\n")
    (tmp_path / "memory.current").write_text("1000000\n")
    assert process_memory().free == 2_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert process_memory().free != 2_000_000
    monkeypatch.setattr(memory_module, "_PROC", tmp_path)
    assert process_memory() == Memory(0, None)
