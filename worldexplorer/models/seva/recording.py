"""A step of the sampler recorded once as a CUDA graph and replayed: no launch waits for Python.

Example:
    >>> latents = sample(network, conditions, noise, scales, plan, silent, step=RecordedStep())
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from worldexplorer.models.seva.network import SevaNetwork
from worldexplorer.models.seva.sampler import Step, StepInputs, take_step

_REHEARSALS = 2
"""Runs before recording, in which libraries choose their kernels and allocate their workspaces."""
_MOST_RECORDINGS = 24
"""As many numbers of given frames as the chunks of a scene have, and more."""


@dataclass
class _Recording:
    network: SevaNetwork  # held, so that no other takes its identity
    source: StepInputs
    inputs: StepInputs
    level: Tensor
    graph: torch.cuda.CUDAGraph


class RecordedStep:
    """See :class:`worldexplorer.models.seva.sampler.Step`.

    A step is recorded once for each kind of inputs (their shapes and types, with or without guidance); a sampling with
    other inputs of the same kind copies them in. All recordings share one memory, sized by the largest. The result is
    written over by the next step.

    Args:
        step: what to record.
    """

    def __init__(self, step: Step = take_step) -> None:
        self._step = step
        self._recordings: OrderedDict[Hashable, _Recording] = OrderedDict()
        self._pool: Any = None
        self._state: Tensor | None = None

    def __call__(self, network: SevaNetwork, inputs: StepInputs, state: Tensor, level: Tensor) -> Tensor:
        """See Step."""
        if self._state is None or self._state.shape != state.shape:
            self._recordings.clear()
            self._pool = torch.cuda.graph_pool_handle()
            self._state = state.clone()
        kind = _kind(network, inputs)
        recording = self._recordings.get(kind)
        if recording is None:
            recording = self._recordings[kind] = self._record(network, inputs, self._state, level)
            if len(self._recordings) > _MOST_RECORDINGS:
                self._recordings.popitem(last=False)
        self._recordings.move_to_end(kind)
        if recording.source is not inputs:
            for target, source in zip(recording.inputs.tensors(), inputs.tensors(), strict=True):
                target.copy_(source)
            recording.source = inputs
        if state is not self._state:
            self._state.copy_(state)
        recording.level.copy_(level)
        recording.graph.replay()
        return self._state

    def _record(self, network: SevaNetwork, inputs: StepInputs, state: Tensor, level: Tensor) -> _Recording:
        held = inputs.with_tensors([tensor.clone() for tensor in inputs.tensors()])
        row = level.clone()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_REHEARSALS):
                self._step(network, held, state, row)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            state.copy_(self._step(network, held, state, row))
        return _Recording(network, inputs, held, row, graph)


def _kind(network: SevaNetwork, inputs: StepInputs) -> Hashable:
    tensors = tuple((tensor.shape, tensor.dtype) for tensor in inputs.tensors())
    return id(network), inputs.frames, inputs.guided, tensors
