"""Noise levels, guidance and sampling against the reference numbers and against closed forms."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from seva_fixtures import reference, relative_error, tiny_conditions, tiny_network
from torch import Tensor

from worldexplorer.errors import Cancelled
from worldexplorer.models.seva.cameras import near_given, pluecker_maps
from worldexplorer.models.seva.guidance import multiview_scales, temporal_scales
from worldexplorer.models.seva.sampler import (
    Conditions,
    SamplingPlan,
    noise_levels,
    sample,
    step_inputs,
    take_step,
)
from worldexplorer.models.seva.schedule import sampling_sigmas, sampling_timesteps, training_sigmas
from worldexplorer.progress import silent

TOLERANCE = 1e-5
GUIDERS = {"multiview": multiview_scales, "temporal": temporal_scales}


def scales_of(guider: str) -> Tensor:
    known = reference()
    given = known["cond.mask"] > 0
    return GUIDERS[guider](known["camera.c2w_opencv"], known["camera.K_normalised"], given, 3.0, 1.2)[None]


def run(
    plan: SamplingPlan, progress=silent, conditions: Conditions | None = None, noise: Tensor | None = None
) -> Tensor:
    conditions = conditions or tiny_conditions()
    noise = reference()["sample.noise"][None] if noise is None else noise
    with torch.inference_mode():
        scales = scales_of("multiview").expand(len(noise), -1)
        return sample(tiny_network(), conditions, noise, scales, plan, progress)


def test_noise_levels_are_the_references() -> None:
    known = reference()
    assert relative_error(training_sigmas(), known["schedule.sigmas_1000"]) < TOLERANCE
    for steps in (4, 50):
        assert relative_error(sampling_sigmas(steps), known[f"schedule.sigmas_{steps}"]) < TOLERANCE
    assert sampling_sigmas(50)[0].item() == pytest.approx(84.92, abs=0.01)
    assert sampling_timesteps(50)[[0, 1, -1]].tolist() == [999, 979, 19]


def test_pluecker_maps_are_the_references() -> None:
    known = reference()
    maps = pluecker_maps(known["camera.c2w_opencv"], known["camera.K_normalised"], 16, 16)
    assert relative_error(maps, known["camera.plucker"]) < 1e-6


def test_a_ray_and_its_moment_are_at_right_angles() -> None:
    known = reference()
    maps = pluecker_maps(known["camera.c2w_opencv"], known["camera.K_normalised"], 9, 7)
    torch.testing.assert_close(maps[:, :3].norm(dim=1), torch.ones(5, 9, 7))
    assert (maps[:, :3] * maps[:, 3:]).sum(dim=1).abs().max() < 1e-5
    assert not maps[0, 3:].any()  # the first camera is the origin


@pytest.mark.parametrize("guider", GUIDERS)
def test_a_sampling_gives_the_reference_latents(guider: str) -> None:
    known = reference()
    with torch.inference_mode():
        noise = known["sample.noise"][None]
        found = sample(tiny_network(), tiny_conditions(), noise, scales_of(guider), SamplingPlan(4), silent)
    assert relative_error(found[0], known[f"sample.{guider}.steps4.cfg3"]) < TOLERANCE


def test_a_frame_near_a_given_one_follows_less() -> None:
    c2w = torch.eye(4).repeat(4, 1, 1)
    c2w[1, :3, :3] = turn(9.0)
    c2w[2, :3, :3] = turn(11.0)
    c2w[3, 0, 3] = 1e-4
    intrinsics = torch.eye(3).repeat(4, 1, 1)
    given = torch.tensor([True, False, False, False])
    assert near_given(c2w, intrinsics, given).tolist() == [True, True, False, False]
    assert multiview_scales(c2w, intrinsics, given, 3.0, 1.2).tolist() == pytest.approx([1.2, 1.2, 3.0, 3.0])
    intrinsics[1, 0, 0] = 2.0
    assert near_given(c2w, intrinsics, given).tolist() == [True, False, False, False]
    assert not near_given(c2w, intrinsics, torch.zeros(4, dtype=torch.bool)).any()


def turn(degrees: float) -> Tensor:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return torch.tensor([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def test_samplings_at_once_equal_samplings_alone() -> None:
    one = tiny_conditions()
    generator = torch.Generator().manual_seed(3)
    other = dataclasses.replace(one, token=one.token * 2, latents=one.latents.flip(-1))
    noises = [torch.randn(1, 5, 4, 16, 16, generator=generator) for _ in range(2)]
    fields = ("latents", "given", "token", "pluecker")
    both = Conditions(**{name: torch.cat([getattr(one, name), getattr(other, name)]) for name in fields})
    together = run(SamplingPlan(3), conditions=both, noise=torch.cat(noises))
    for number, (condition, noise) in enumerate(zip((one, other), noises, strict=True)):
        alone = run(SamplingPlan(3), conditions=condition, noise=noise)[0]
        assert relative_error(together[number], alone) < TOLERANCE


def test_progress_is_told_and_can_stop_the_sampling() -> None:
    told: list[tuple[int, int]] = []

    def listen(done: int, total: int, what: str) -> None:
        told.append((done, total))
        if done == 2 and total == 5:
            raise Cancelled

    run(SamplingPlan(3), listen)
    assert told == [(1, 3), (2, 3), (3, 3)]
    told.clear()
    with pytest.raises(Cancelled):
        run(SamplingPlan(5), listen)
    assert told == [(1, 5), (2, 5)]


def test_the_first_multistep_step_is_eulers() -> None:
    euler, multistep = (noise_levels(SamplingPlan(6, multistep=way)) for way in (False, True))
    torch.testing.assert_close(euler[0], multistep[0], rtol=1e-5, atol=1e-7)
    assert multistep[1:-1, 5].lt(0).all()  # the steps between look back
    torch.testing.assert_close(multistep[:, 3:].sum(dim=1), torch.ones(6))  # a constant stays one


def ideal_error(steps: int, *, multistep: bool) -> float:
    """How far a sampling of one normal number of deviation 2 ends from where the exact flow would take it.

    For such data the best prediction is known: x * 4 / (4 + sigma^2), and the flow keeps x / sqrt(4 + sigma^2).
    """
    levels = noise_levels(SamplingPlan(steps, multistep=multistep)).double()
    sigmas = sampling_sigmas(steps)
    x, before = torch.tensor(50.0, dtype=torch.float64), torch.tensor(0.0, dtype=torch.float64)
    goal = x * 2 / torch.sqrt(4 + sigmas[0] ** 2)
    for row, sigma in zip(levels, sigmas, strict=False):
        clean = x * 4 / (4 + sigma**2)
        x, before = x * row[3] + clean * row[4] + before * row[5], clean
    return float((x - goal).abs())


def test_multistep_needs_fewer_steps() -> None:
    assert ideal_error(25, multistep=True) < 0.5 * ideal_error(25, multistep=False)
    assert ideal_error(25, multistep=True) < ideal_error(50, multistep=False)


@pytest.mark.slow
def test_multistep_ends_near_many_euler_steps() -> None:
    many = run(SamplingPlan(60))
    few, shortcut = run(SamplingPlan(12)), run(SamplingPlan(12, multistep=True))
    assert relative_error(shortcut, many) < relative_error(few, many)


def test_guidance_everywhere_is_guidance() -> None:
    assert torch.equal(run(SamplingPlan(3)), run(SamplingPlan(3, guidance_interval=(0.0, 1e9))))


def test_without_guidance_a_step_is_that_of_scale_one() -> None:
    network, conditions = tiny_network(), tiny_conditions()
    level = noise_levels(SamplingPlan(4))[1]
    state = torch.stack([reference()["sample.noise"] * 5, torch.zeros(5, 4, 16, 16)])
    with torch.inference_mode():
        guided = step_inputs(network, conditions, torch.ones(1, 5))
        plain = guided.without_guidance()
        assert (len(guided.camera), len(plain.camera)) == (7, 5)  # five frames, two of them given
        whole, half = (take_step(network, inputs, state, level) for inputs in (guided, plain))
    assert relative_error(half[1], whole[1]) < TOLERANCE
