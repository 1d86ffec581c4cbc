"""Who holds memory of a GPU, and what counts as free, on the GPU itself."""

from __future__ import annotations

import subprocess
import sys

import torch

from worldexplorer.models.gpus import look_at_gpus
from worldexplorer.models.residents import free_gpu_bytes
from worldexplorer.units import GIB, MIB

CHECKS = """
import torch
from worldexplorer.models.engine import FullEngine
from worldexplorer.models.gpus import visible_gpus
missing = FullEngine().check([1, 2, 3], "single_image", "pan-in-place")
assert not any("CUDA GPU" in line for line in missing), missing
assert visible_gpus(None)
assert not torch.cuda.is_initialized()
"""


def test_the_process_that_starts_workers_holds_no_context() -> None:
    done = subprocess.run([sys.executable, "-c", CHECKS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_another_process_sees_what_torch_says() -> None:
    sight = look_at_gpus()
    assert sight.names[0] == torch.cuda.get_device_name(0)
    assert sight.capability == torch.cuda.get_device_capability(0)
    assert 0 < sight.free_bytes < torch.cuda.get_device_properties(0).total_memory


def _free() -> int:
    free = free_gpu_bytes()
    assert free is not None
    return free


def test_what_is_free_counts_and_what_a_graph_holds_does_not() -> None:
    for kind in (torch.uint8, torch.float32):  # kernels are loaded when they are first used
        ((torch.zeros(8, dtype=kind, device="cuda") + 1) * 2).sum().item()
    before = _free()
    values = torch.zeros(GIB, dtype=torch.uint8, device="cuda")
    assert abs(before - _free() - GIB) <= 64 * MIB
    del values  # torch keeps it for later
    assert abs(before - _free()) <= 64 * MIB

    start = torch.zeros(GIB // 4, device="cuda")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        end = ((start + 1) * 2).sum()  # what lies between is the graph's own, two more GiB
    graph.replay()
    torch.cuda.synchronize()
    assert before - _free() >= 2 * GIB - 64 * MIB
    del graph, end, start
    assert abs(before - _free()) <= 64 * MIB
