"""How Gaussians are added, moved and removed while training.

Two strategies, with the arithmetic of gsplat 1.5.3's `MCMCStrategy` and `DefaultStrategy`: written here because a step
of theirs costs dozens of small kernels, because MCMC's relocation needs a GPU there, and because the default one of
that version never brings opacities down (its test binds `&` before the comparisons).

* MCMC (Kheradmand et al. 2024): nearly transparent Gaussians move onto opaque ones, drawn by opacity; their number
  grows by a share each time up to a cap; every step adds noise to the means.
* The default (Kerbl et al. 2023): where the picture pulls hard at a Gaussian it is copied, or split when it is large;
  transparent and huge ones go; now and then all opacities come down.

Example:
    >>> strategy = strategy_of(recipe, cap=1_000_000, training_views=240)
    >>> strategy.after_step(state, step, operations)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from worldexplorer.models.splatting.operations import Operations, rotations
from worldexplorer.models.splatting.recipe import Recipe
from worldexplorer.models.splatting.state import NAMES, GaussianState
from worldexplorer.models.splatting.team import Alone, Team

MOST_COPIES = 51
"""Gaussians that one counts as having become, at most: the limit of gsplat's table."""
_SPLIT_FACTOR = 1.6
_EPSILON = torch.finfo(torch.float32).eps


@dataclass(frozen=True)
class Step:
    """What a strategy learns of a step.

    Attributes:
        image: images seen before it.
        means_rate: the means' step length after it.
        info: the rasteriser's third answer.
        seed: of everything random in it.
    """

    image: int
    means_rate: float
    info: Mapping[str, Any]
    seed: int


class Strategy(Protocol):
    """Adds and removes Gaussians."""

    absolute_gradients: bool
    """Whether `info["means2d"]` must have its gradients, also those of absolute value."""

    def arrays(self) -> dict[str, Tensor]:
        """What it has gathered, for a checkpoint."""

    def restore(self, arrays: Mapping[str, Tensor]) -> None:
        """Go on from what :meth:`arrays` gave."""

    def after_step(self, state: GaussianState, step: Step, operations: Operations) -> bool:
        """Do what is due after a step of the optimiser; whether the number of Gaussians changed."""


def strategy_of(recipe: Recipe, cap: int, training_views: int, team: Team) -> Strategy:
    """The strategy that a recipe names, for the processes that train together."""
    return Mcmc(recipe, cap) if recipe.strategy == "mcmc" else Density(recipe, training_views, team)


class Mcmc:
    """See the module."""

    absolute_gradients = False

    def __init__(self, recipe: Recipe, cap: int) -> None:
        self._recipe, self._cap = recipe, cap

    def arrays(self) -> dict[str, Tensor]:
        """Nothing: it gathers nothing."""
        return {}

    def restore(self, arrays: Mapping[str, Tensor]) -> None:
        """Nothing to do."""

    def after_step(self, state: GaussianState, step: Step, operations: Operations) -> bool:
        """Move and add Gaussians where that is due, and add this step's noise."""
        recipe, before = self._recipe, state.count
        if recipe.refine_from < step.image < recipe.refine_until and recipe.due(step.image, recipe.refine_interval):
            generator = torch.Generator(state.values["means"].device).manual_seed(step.seed)
            move_transparent(state, recipe.least_opacity, generator)
            target = min(self._cap, int((1.0 + recipe.growth) * state.count))
            add_by_opacity(state, target - state.count, recipe.least_opacity, generator)
        operations.add_noise(state, recipe.noise * step.means_rate, step.seed)
        return state.count != before


def move_transparent(state: GaussianState, least_opacity: float, generator: torch.Generator) -> int:
    """Move Gaussians that are hardly to be seen onto others; how many."""
    opacities = state.opacities()
    dead = (opacities <= least_opacity).nonzero().flatten()
    alive = (opacities > least_opacity).nonzero().flatten()
    if len(dead) and len(alive):
        chosen = alive[torch.multinomial(opacities[alive], len(dead), replacement=True, generator=generator)]
        _share(state, opacities, chosen, least_opacity)
        for value in state.values.values():
            value[dead] = value[chosen]
        state.forget(chosen)
    return len(dead)


def add_by_opacity(state: GaussianState, count: int, least_opacity: float, generator: torch.Generator) -> None:
    """Add Gaussians on top of others, drawn by opacity; what both show together stays as it was."""
    if count <= 0:
        return
    opacities = state.opacities()
    chosen = torch.multinomial(opacities, count, replacement=True, generator=generator)
    _share(state, opacities, chosen, least_opacity)
    state.append({name: value[chosen] for name, value in state.values.items()})


def _share(state: GaussianState, opacities: Tensor, chosen: Tensor, least_opacity: float) -> None:
    """Make Gaussians (indices, some several times) as faint and small as if each were one of its copies."""
    copies = torch.bincount(chosen, minlength=state.count)[chosen] + 1
    faint, scales = relocated(opacities[chosen], torch.exp(state.values["log_scales"][chosen]), copies)
    state.values["opacity_logits"][chosen] = torch.logit(faint.clamp(min=least_opacity, max=1.0 - _EPSILON))
    state.values["log_scales"][chosen] = torch.log(scales)


def relocated(opacities: Tensor, scales: Tensor, copies: Tensor) -> tuple[Tensor, Tensor]:
    """Opacities and scales with which several Gaussians on one spot look like the one that they replace.

    Source: Kheradmand et al. 2024, equation 9; its double sum of binomials is one sum, since binomials of one column
    add up to the next one's.

    Args:
        opacities: [n] of the one.
        scales: [n, 3] of the one.
        copies: [n] how many they are, itself included.

    Returns:
        [n] and [n, 3].
    """
    number = copies.clamp(max=MOST_COPIES)
    faint = 1.0 - (1.0 - opacities.double()) ** (1.0 / number)
    terms = torch.arange(1, MOST_COPIES + 1, device=opacities.device)
    weights = _binomials(opacities.device)[number] * (1.0 - 2.0 * ((terms - 1) % 2)) / terms.double().sqrt()
    total = (weights * faint[:, None] ** terms).sum(dim=1)
    return faint.to(opacities.dtype), scales * (opacities.double() / total).to(scales.dtype)[:, None]


def _binomials(device: torch.device) -> Tensor:
    """[R, k - 1] = R over k, for R from 0 and k from 1."""
    rows = [[math.comb(top, k) for k in range(1, MOST_COPIES + 1)] for top in range(MOST_COPIES + 1)]
    return torch.tensor(rows, dtype=torch.float64, device=device)


class Density:
    """See the module."""

    absolute_gradients = True

    def __init__(self, recipe: Recipe, training_views: int, team: Team | None = None) -> None:
        self._recipe, self._pause = recipe, training_views + recipe.refine_interval
        self._team = team or Alone()
        self._gathered: dict[str, Tensor] = {}

    def arrays(self) -> dict[str, Tensor]:
        """Sums of gradients, how often each Gaussian was seen, and its largest radius."""
        return dict(self._gathered)

    def restore(self, arrays: Mapping[str, Tensor]) -> None:
        """See Strategy."""
        self._gathered = dict(arrays)

    def after_step(self, state: GaussianState, step: Step, operations: Operations) -> bool:
        """Gather gradients; copy, split, remove, bring opacities down where that is due."""
        recipe, before = self._recipe, state.count
        if step.image >= recipe.refine_until:
            self._gathered = {}
            return False
        self._gather(state.count, step.info)
        due = step.image > recipe.refine_from and recipe.due(step.image, recipe.refine_interval)
        if due and step.image % recipe.reset_interval >= self._pause:
            generator = torch.Generator(state.values["means"].device).manual_seed(step.seed)
            self._grow(state, step.image, generator)
            self._remove(state, step.image)
            self._gathered = {}
        if step.image > 0 and recipe.due(step.image, recipe.reset_interval):
            highest = math.log(2 * recipe.least_opacity / (1 - 2 * recipe.least_opacity))
            state.values["opacity_logits"].clamp_(max=highest)
            for memory in (state.first, state.second):
                memory["opacity_logits"].zero_()
        return state.count != before

    def _gather(self, count: int, info: Mapping[str, Any]) -> None:
        """Add what a step's pictures say; the loss is their mean, and a pull that of one picture."""
        means, radii = info["means2d"], info["radii"].amax(dim=-1)
        half = torch.tensor([info["width"] / 2.0, info["height"] / 2.0], device=means.device)
        pulls = (means.absgrad * half * self._recipe.batch).norm(dim=-1)
        shown = (info["radii"] > 0).all(dim=-1)
        if not self._gathered:
            self._gathered = {name: torch.zeros(count, device=means.device) for name in ("pull", "seen", "radius")}
        pull, seen = torch.where(shown, pulls, 0.0).sum(dim=0), shown.sum(dim=0).float()
        radius = torch.where(shown, radii, 0).amax(dim=0) / max(info["width"], info["height"])
        self._team.add([pull, seen])
        self._team.largest(radius)
        self._gathered["pull"] += pull
        self._gathered["seen"] += seen
        self._gathered["radius"] = torch.maximum(self._gathered["radius"], radius)

    def _grow(self, state: GaussianState, image: int, generator: torch.Generator) -> None:
        recipe, gathered = self._recipe, self._gathered
        pulled = gathered["pull"] / gathered["seen"].clamp(min=1) > recipe.growth_gradient
        small = torch.exp(state.values["log_scales"]).amax(dim=1) <= recipe.split_scale
        split = pulled & ~small
        if image < recipe.radius_until:
            split |= gathered["radius"] > recipe.split_radius
        copied = (pulled & small).nonzero().flatten()
        parts, rest = split.nonzero().flatten(), (~split).nonzero().flatten()
        added = {
            name: torch.cat([value[copied], halves])
            for (name, value), halves in zip(
                state.values.items(), _halves(state, parts, generator).values(), strict=True
            )
        }
        state.keep(rest)
        state.append(added)
        radius = gathered["radius"]
        gathered["radius"] = torch.cat([radius[rest], radius[copied], radius[parts].repeat(2)])

    def _remove(self, state: GaussianState, image: int) -> None:
        recipe = self._recipe
        gone = state.opacities() < recipe.least_opacity
        if image > recipe.reset_interval:
            gone |= torch.exp(state.values["log_scales"]).amax(dim=1) > recipe.remove_scale
            if image < recipe.radius_until:
                gone |= self._gathered["radius"] > recipe.remove_radius
        state.keep(~gone)


def _halves(state: GaussianState, which: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """Two smaller Gaussians for each of some (indices), at places drawn from it."""
    chosen = {name: state.values[name][which].repeat(2, *[1] * (state.values[name].ndim - 1)) for name in NAMES}
    means = chosen["means"]
    drawn = torch.randn(means.shape, generator=generator, device=means.device, dtype=means.dtype)
    offsets = rotations(chosen["quaternions"]) @ (drawn * torch.exp(chosen["log_scales"]))[..., None]
    chosen["means"] = means + offsets[..., 0]
    chosen["log_scales"] = chosen["log_scales"] - math.log(_SPLIT_FACTOR)
    return {name: chosen[name] for name in state.values}
