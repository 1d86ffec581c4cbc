"""Sampling of SEVA with classifier-free guidance, several independent samplings at once.

Deterministic: the noise comes from the caller, and no step adds any. Sources: T. Karras et al., "Elucidating the
design space of diffusion-based generative models", 2022 (Euler steps; algorithm 2 without churn); C. Lu et al.,
"DPM-Solver++", 2022 (second order, multistep); T. Kynkaanniemi et al., "Applying guidance in a limited interval", 2024.

Example:
    >>> latents = sample(network, conditions, noise, scales, SamplingPlan(steps=50), silent)
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from worldexplorer.models.seva.layers import Tokens
from worldexplorer.models.seva.network import Conditioning, Front, SevaNetwork
from worldexplorer.models.seva.schedule import sampling_sigmas, training_sigmas
from worldexplorer.progress import Progress

_SIGMA_OFFSET = 1e-6
_STEPS_IN_FLIGHT = 2
"""How far a GPU's work may run ahead of the progress that is told."""


@dataclass(frozen=True)
class Conditions:
    """What S samplings of T frames each are conditioned on.

    Attributes:
        latents: [S, T, 4, h, w] clean latents; zeros where a frame is not given.
        given: [S, T] bool.
        token: [S, context_dim] mean CLIP embedding of the given frames.
        pluecker: [S, T, 6, h, w].
    """

    latents: Tensor
    given: Tensor
    token: Tensor
    pluecker: Tensor


@dataclass(frozen=True)
class SamplingPlan:
    """How a sampling goes from noise to latents; the defaults are the published way.

    Attributes:
        steps: network evaluations.
        multistep: second-order steps that use the last prediction too, instead of Euler's.
        guidance_interval: noise levels (sigma) within which there is guidance; outside them the network sees the
            conditions alone, which halves its work. None for everywhere.
    """

    steps: int
    multistep: bool = False
    guidance_interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class StepInputs:
    """What every step of a sampling reads; N = S * T.

    With guidance the network's batch is of the samplings without their conditions, then the same with them. Frames that
    are not given are alike in both until they meet their token, so its input has M = N + G frames, G of them given.
    Without guidance M is N.

    Attributes:
        mask: [N, 1, 1, 1] float32, 1 at given frames.
        latents: [N, 4, h, w] float32.
        given: [G] places of the given frames.
        camera: [M, 7, h, w] mask plane and Pluecker map, in the network's type.
        scales: [N, 1, 1, 1] float32 guidance scales.
        conditioning: of the network.
        frames: T.
        guided: whether there is guidance.
    """

    mask: Tensor
    latents: Tensor
    given: Tensor
    camera: Tensor
    scales: Tensor
    conditioning: Conditioning
    frames: int
    guided: bool = True

    def tensors(self) -> list[Tensor]:
        """Every tensor in it, in a fixed order."""
        tokens = [tensor for pair in self.conditioning.tokens for tensor in pair]
        front = list(self.conditioning.front or ())
        own = [self.mask, self.latents, self.given, self.camera, self.scales]
        return [*own, *self.conditioning.dense, *front, *tokens]

    def with_tensors(self, tensors: list[Tensor]) -> StepInputs:
        """The same with other tensors, in the order of :meth:`tensors`."""
        mask, latents, given, camera, scales, *rest = tensors
        levels = len(self.conditioning.dense)
        dense, rest = rest[:levels], rest[levels:]
        front = None
        if self.conditioning.front is not None:
            front, rest = Front(*rest[:2]), rest[2:]
        pairs = iter(rest)
        conditioning = Conditioning(dense, [Tokens(one, next(pairs)) for one in pairs], front)
        return StepInputs(mask, latents, given, camera, scales, conditioning, self.frames, self.guided)

    def without_guidance(self) -> StepInputs:
        """The half of the batch that sees the conditions."""
        tokens = [Tokens(*(tensor.chunk(2)[1] for tensor in pair)) for pair in self.conditioning.tokens]
        conditioning = Conditioning(self.conditioning.dense, tokens)
        assert self.conditioning.front is not None
        camera = self.camera[self.conditioning.front.spread[len(self.mask) :]]
        return replace(self, camera=camera, conditioning=conditioning, guided=False)


class Step(Protocol):
    """One step; replaced by a compiled or recorded one on a GPU."""

    def __call__(self, network: SevaNetwork, inputs: StepInputs, state: Tensor, level: Tensor) -> Tensor:
        """The next state [2, N, 4, h, w] float32 (the noisy latents, and the clean ones last predicted).

        `level` is a row of :func:`noise_levels`.
        """


def sample(
    network: SevaNetwork,
    conditions: Conditions,
    noise: Tensor,
    scales: Tensor,
    plan: SamplingPlan,
    progress: Progress,
    step: Step | None = None,
) -> Tensor:
    """Denoise the frames of S samplings.

    Args:
        network: in the type and on the device to compute in.
        conditions: on the same device.
        noise: [S, T, 4, h, w] standard normal.
        scales: [S, T] guidance scale of each frame.
        plan: how.
        progress: told after every step; may raise Cancelled.
        step: how to compute a step; :func:`take_step` unless given.

    Returns:
        [S, T, 4, h, w] float32 latents; those of given frames as the network sees them, not as they were given.
    """
    guided = step_inputs(network, conditions, scales)
    plain = guided.without_guidance() if plan.guidance_interval else guided
    low, high = plan.guidance_interval or (0.0, math.inf)
    sigmas = sampling_sigmas(plan.steps)
    levels = noise_levels(plan).to(noise.device)
    x = noise.flatten(0, 1) * torch.sqrt(1 + sigmas[0] ** 2).to(noise)
    state = torch.stack([x, torch.zeros_like(x)])
    advance = step or take_step
    reporter = _Reporter(progress, plan.steps, noise.device)
    for number, sigma in enumerate(sigmas[:-1].tolist()):
        state = advance(network, guided if low <= sigma <= high else plain, state, levels[number])
        reporter.launched()
    reporter.finish()
    return state[0].reshape(noise.shape).clone()  # a recorded step writes over its result next time


def step_inputs(network: SevaNetwork, conditions: Conditions, scales: Tensor) -> StepInputs:
    """What the steps share, computed once a sampling."""
    kind = next(network.parameters()).dtype
    mask = conditions.given.float().reshape(-1, 1, 1, 1)
    pluecker = conditions.pluecker.flatten(0, 1)
    given = conditions.given.flatten().nonzero()[:, 0]
    everyone = torch.arange(len(mask), device=mask.device)
    with_given = everyone.clone()
    with_given[given] = len(mask) + torch.arange(len(given), device=mask.device)
    maps = torch.cat([pluecker, pluecker[given]])
    plane = (torch.arange(len(maps), device=mask.device) >= len(mask)).float().reshape(-1, 1, 1, 1)
    context = torch.cat([torch.zeros_like(conditions.token), conditions.token])
    front = Front(maps.to(kind), torch.cat([everyone, with_given]))
    return StepInputs(
        mask=mask,
        latents=conditions.latents.flatten(0, 1),
        given=given,
        camera=torch.cat([plane.expand(-1, 1, *maps.shape[-2:]), maps], dim=1).to(kind),
        scales=scales.to(mask).reshape(-1, 1, 1, 1),
        conditioning=network.conditioning(context.to(kind), pluecker.to(kind))._replace(front=front),
        frames=conditions.given.shape[1],
    )


def noise_levels(plan: SamplingPlan) -> Tensor:
    """A row a step: [steps, 6] float32.

    Timestep; 1 / sqrt(sigma^2 + 1); sigma; then the factors that make the next latents of the present ones, of the
    clean ones predicted now, and of those predicted before. A step starts a millionth above its level, and the network
    is told the nearest of the trained ones.
    """
    table = training_sigmas()
    sigmas = sampling_sigmas(plan.steps)
    starts = sigmas[:-1] + _SIGMA_OFFSET
    index = (table[None] - starts[:, None]).abs().argmin(dim=1)
    sigma = table[index]
    factors = _multistep_factors(sigmas) if plan.multistep else _euler_factors(starts, sigmas[1:])
    return torch.cat([torch.stack([index, 1 / torch.sqrt(sigma**2 + 1), sigma], dim=1), factors], dim=1).float()


def _euler_factors(starts: Tensor, ends: Tensor) -> Tensor:
    """Along the line from the clean latents to the present ones."""
    shares = ends / starts
    return torch.stack([shares, 1 - shares, torch.zeros_like(shares)], dim=1)


def _multistep_factors(sigmas: Tensor) -> Tensor:
    """DPM-Solver++(2M): the prediction is taken on linearly in the logarithm of the noise level."""
    rows = []
    before = None
    for start, end in zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True):
        share = end / start
        if end == 0.0 or before is None:
            rows.append((share, 1 - share, 0.0))
        else:
            weight = math.log(start / end) / (2 * before)
            rows.append((share, (1 - share) * (1 + weight), -(1 - share) * weight))
        before = math.log(start / end) if end else None
    return torch.tensor(rows, dtype=torch.float64)


def take_step(network: SevaNetwork, inputs: StepInputs, state: Tensor, level: Tensor) -> Tensor:
    """The step itself: see Step."""
    timestep, shrink, sigma, keep, take, recall = level.unbind()
    x, before = state.unbind()
    # The unconditional half sees no given frame; the conditional one sees the clean latents in their place.
    seen = x * (1 - inputs.mask) + inputs.latents * inputs.mask
    different = torch.cat([x, seen[inputs.given]]) if inputs.guided else seen
    scaled = torch.cat([(different * shrink).to(inputs.camera.dtype), inputs.camera], dim=1)
    predicted = network.denoise(scaled, timestep[None], inputs.conditioning, inputs.frames)
    clean = (torch.cat([x, seen]) if inputs.guided else seen) - sigma * predicted.float()
    if inputs.guided:
        without, with_given = clean.chunk(2)
        clean = without + inputs.scales * (with_given - without)
    return torch.stack([x * keep + clean * take + before * recall, clean])


class _Reporter:
    """Tells the progress of steps that are done, not merely launched."""

    def __init__(self, progress: Progress, steps: int, device: torch.device) -> None:
        self._progress = progress
        self._steps = steps
        self._on_gpu = device.type == "cuda"
        self._pending: deque[torch.cuda.Event] = deque()
        self._told = 0

    def launched(self) -> None:
        """A step has been launched; on a CPU it is done."""
        if not self._on_gpu:
            self._tell()
            return
        event = torch.cuda.Event()
        event.record()
        self._pending.append(event)
        if len(self._pending) >= _STEPS_IN_FLIGHT:
            self._wait()

    def finish(self) -> None:
        """Wait for the rest."""
        while self._pending:
            self._wait()

    def _wait(self) -> None:
        self._pending.popleft().synchronize()
        self._tell()

    def _tell(self) -> None:
        self._told += 1
        self._progress(self._told, self._steps, "denoising")
