"""One training: the loop, and what it goes on from.

A step draws its pictures, takes the loss's gradient back to the Gaussians, moves them by Adam, and lets the strategy
add and remove some. Nothing waits for the GPU but a look at losses and Gaussians before each refinement. Everything
random follows from the seed and the number of images seen, so a training that was stopped goes on with the very same
draws; on a CPU the result is the same to the bit, on a GPU up to the order in which its kernels add.

Example:
    >>> training = Training(scene, recipe, cap=recipe.cap, seed=0, device=device, rasterize=gsplat_rasterizer(),
    ...                     operations=operations_for(device))
    >>> training.resume(folder)
    >>> training.run(folder, silent)
    >>> gaussians = training.gaussians()
"""

from __future__ import annotations

import logging
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from worldexplorer.engine import SplatScene, Views
from worldexplorer.errors import DefectError
from worldexplorer.geometry.gaussians import Gaussians
from worldexplorer.models.residents import free_gpu_bytes
from worldexplorer.models.splatting.checkpoint import CheckpointWriter, load_checkpoint
from worldexplorer.models.splatting.densification import Step, strategy_of
from worldexplorer.models.splatting.drawing import draw
from worldexplorer.models.splatting.frame import TrainingFrame, lenses
from worldexplorer.models.splatting.initial import initial_values
from worldexplorer.models.splatting.measures import Fit, fit_of
from worldexplorer.models.splatting.operations import Operations, Rates, Regularisation
from worldexplorer.models.splatting.pictures import PictureOrder, smaller, stored
from worldexplorer.models.splatting.rasterizer import Rasterizer
from worldexplorer.models.splatting.recipe import Recipe
from worldexplorer.models.splatting.state import GaussianState
from worldexplorer.models.splatting.team import Alone, Team
from worldexplorer.models.splatting.views import split_views, training_fingerprint
from worldexplorer.progress import Progress
from worldexplorer.seeds import derive_seed
from worldexplorer.units import GIB

CURVE_STEP = 500
"""Images that one number of the loss curve is the mean of."""
QUALITY_INTERVAL = 1000
"""Images between two measurements of the frames kept out, where training may end early."""
_PROGRESS_STEPS = 10
_BLOCK = 1000
"""Images whose backgrounds are drawn together."""
_RESERVE = 6 * GIB
"""Bytes of the GPU that training a million Gaussians is kept free for; pictures get what is left."""
_REPORT = "keep the job's folder and report this as a defect"

_log = logging.getLogger(__name__)


class Training:
    """A training of one scene.

    Args:
        scene: what to train on.
        recipe: how.
        cap: most Gaussians, where the strategy has a cap; of more points than that so many are drawn.
        seed: of everything random.
        device: to train on.
        rasterize: draws.
        operations: loss, optimiser and noise.
        heldout_every: keep every n-th view out of training.
        stop_psnr: end as soon as the views kept out come out at so many dB.
        room: bytes for pictures on the device; by default what is free but for a reserve.
        team: the processes that do it together, of which this is one.

    Raises:
        UsageError: `heldout_every` keeps no view out, or all.
    """

    def __init__(
        self,
        scene: SplatScene,
        recipe: Recipe,
        *,
        cap: int,
        seed: int,
        device: torch.device,
        rasterize: Rasterizer,
        operations: Operations,
        heldout_every: int | None = None,
        stop_psnr: float | None = None,
        room: int | None = None,
        team: Team | None = None,
    ) -> None:
        train, self.heldout = split_views(scene.train, heldout_every)
        self.recipe, self.image, self._cap, self._seed, self._device = recipe, 0, cap, seed, device
        self._rasterize, self._operations, self._team = rasterize, operations, team or Alone()
        self._fingerprint = training_fingerprint(recipe, scene, seed, heldout_every)
        self.frame = TrainingFrame.around(train.c2w)
        values = initial_values(self.frame.points(scene.points), scene.colours, recipe, cap, seed)
        self.state = GaussianState.start(values, device)
        self._strategy = strategy_of(recipe, cap, len(train.images), self._team)
        self._order = PictureOrder(len(train.images), seed)
        self._size = train.images.shape[2], train.images.shape[1]
        self._cameras = torch.from_numpy(self.frame.cameras(train.c2w)).to(device)
        self._lenses = {
            factor: torch.from_numpy(lenses(train.intrinsics, *(side // factor for side in self._size))).to(device)
            for factor in {recipe.downscale_at(image) for image in range(0, recipe.images, recipe.downscale_interval)}
        }
        self._pictures = stored(train.images, device, _room(device) if room is None else room)
        self._losses = torch.zeros(recipe.steps, device=device)
        self._backgrounds = -1, torch.empty(0)
        self._stop_psnr, self.stopped_early = stop_psnr, False
        self._checked = 0

    @property
    def pictures_place(self) -> str:
        """Where the pictures lie: `device` or `host`."""
        return self._pictures.place

    @property
    def is_over(self) -> bool:
        """Whether no step is left to do."""
        return self.stopped_early or self.image >= self.recipe.images

    def resume(self, folder: Path) -> None:
        """Go on from the checkpoint in `folder`, if there is one of this training.

        One that ended early at another number of dB is gone on from as if it had been stopped.
        """
        found = load_checkpoint(folder, self._fingerprint)
        if found is None:
            return
        arrays = {name: array.to(self._device) for name, array in found.arrays.items()}
        losses = arrays.pop("losses")
        state = GaussianState.from_arrays(arrays, int(found.facts["steps"]))
        if state.count > self._cap and self.recipe.strategy == "mcmc":
            _log.warning(
                "The checkpoint has %d Gaussians, more than the %d allowed now; training starts from the beginning.",
                state.count,
                self._cap,
            )
            return
        self.state, self._losses, self.image = state, losses, found.image
        self.stopped_early = bool(found.facts["stopped_early"]) and found.facts["stop_psnr"] == self._stop_psnr
        prefix = "strategy."
        self._strategy.restore({k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)})
        _log.info("Training goes on after %d images with %d Gaussians.", self.image, self.state.count)

    def run(self, folder: Path, progress: Progress, *, until: int | None = None) -> None:
        """Do the steps that are left.

        Args:
            folder: where the checkpoint is kept up to date.
            progress: told about every tenth step; when it raises, training can go on later from the checkpoint.
            until: stop after so many images, for now; None for all.

        Raises:
            DefectError: a loss or a Gaussian is not a number; the text names the step.
        """
        recipe = self.recipe
        end = recipe.images if until is None else min(until, recipe.images)
        with CheckpointWriter(folder, self._fingerprint) if self._team.first else nullcontext() as writer:
            while self.image < end and not self.stopped_early:
                self.step()
                before, finished = self.image - recipe.batch, self.image >= end
                if self._stop_psnr is not None and _passed(before, self.image, QUALITY_INTERVAL):
                    self.stopped_early = self._good_enough(self._stop_psnr)
                if finished or self.stopped_early or _passed(before, self.image, recipe.checkpoint_interval):
                    self._save(writer)
                if finished or self.stopped_early or (self.image // recipe.batch) % _PROGRESS_STEPS == 0:
                    progress(min(self.image, recipe.images), recipe.images, "training")

    def step(self) -> None:
        """One step."""
        recipe, image, batch = self.recipe, self.image, self.recipe.batch
        own = self._team.own(batch)
        numbers = self._order.of(image + own.start, len(own))
        factor = recipe.downscale_at(image)
        target = smaller(self._pictures.fetch(numbers, self._order.of(image + batch + own.start, len(own))), factor)
        leaves = _leaves(self.state)
        drawn, _, info = self._rasterize(
            leaves["means"],
            leaves["quaternions"],
            leaves["scales"],
            leaves["opacities"],
            leaves["sh"],
            _rows(self._cameras, numbers),
            _rows(self._lenses[factor], numbers),
            target.shape[2],
            target.shape[1],
            near_plane=recipe.near,
            sh_degree=recipe.sh_degree_at(image),
            packed=False,
            backgrounds=self._background(image)[own.start : own.stop],
            absgrad=self._strategy.absolute_gradients,
            rasterize_mode="antialiased" if recipe.antialiased else "classic",
        )
        value, gradient = self._operations.loss(drawn.detach(), target, recipe.ssim_weight)
        if len(own) < batch:  # they are means over the pictures of this process
            value, gradient = value * (len(own) / batch), gradient * (len(own) / batch)
        step = image // batch
        self._losses[step] = value
        drawn.backward(gradient)
        gradients = {name: _gradient(leaf) for name, leaf in leaves.items()}
        self._team.add([*gradients.values(), self._losses[step : step + 1]])
        mcmc = recipe.strategy == "mcmc"
        regularisation = Regularisation(
            opacity=recipe.opacity_weight if mcmc else 0.0,
            scale=recipe.scale_weight if mcmc else 0.0,
            ratio=recipe.ratio_weight_at(image),
            ratio_limit=recipe.ratio_limit,
        )
        rates = _rates(recipe, image)
        self._operations.adam(
            self.state, gradients, rates, recipe.decays, recipe.epsilon / recipe.batch_factor, regularisation
        )
        self.image += batch
        if recipe.due(image, recipe.refine_interval):
            self._check()  # before the strategy draws by opacities
        after = Step(image, _rates(recipe, self.image).means, info, derive_seed(self._seed, "step", image))
        if self._strategy.after_step(self.state, after, self._operations) and self._device.type == "cuda":
            torch.cuda.empty_cache()  # blocks of the old sizes would fill a small card
        if image < recipe.refine_until and recipe.due(image, recipe.refine_interval):
            self._team.level(self.state)

    def measure(self, views: Views) -> Fit:
        """How well the Gaussians of now fit views."""
        with torch.no_grad():
            return self._fit(views)

    def _fit(self, views: Views) -> Fit:
        return fit_of(
            draw(
                self._rasterize,
                _activated(self.state),
                torch.from_numpy(self.frame.cameras(views.c2w)).to(self._device),
                views.intrinsics,
                (views.images.shape[2], views.images.shape[1]),
                near=self.recipe.near,
                antialiased=self.recipe.antialiased,
            ),
            views.images,
        )

    def gaussians(self) -> Gaussians:
        """The Gaussians of now that are opaque enough, in the scene frame.

        Raises:
            DefectError: none is.
        """
        found = self.state.gaussians(self.recipe.kept_opacity)
        if found.count == 0:
            raise DefectError("all Gaussians have become transparent", remedy=_REPORT)
        return self.frame.undone(found)

    def curve(self) -> list[float]:
        """The loss so far, a number for every CURVE_STEP images."""
        losses = self._losses[: -(-self.image // self.recipe.batch)].cpu().numpy()
        size = max(CURVE_STEP // self.recipe.batch, 1)
        return [round(float(losses[start : start + size].mean()), 6) for start in range(0, len(losses), size)]

    def _background(self, image: int) -> Tensor:
        batch = self.recipe.batch
        if not self.recipe.random_background:
            return torch.zeros(batch, 3, device=self._device)
        block, within = divmod(image, _BLOCK)
        if self._backgrounds[0] != block:
            drawn = np.random.default_rng([self._seed, 2, block]).random((_BLOCK + batch, 3), np.float32)
            self._backgrounds = block, torch.from_numpy(drawn).to(self._device)
        return self._backgrounds[1][within : within + batch]

    def _check(self) -> None:
        """Whether all losses since the last look, and all Gaussians, are numbers."""
        done = self.image // self.recipe.batch
        flawed = (~torch.isfinite(self._losses[self._checked : done])).nonzero()
        if len(flawed):
            step = self._checked + int(flawed[0]) + 1
            raise DefectError(f"training went wrong: the loss is not a number in step {step}", remedy=_REPORT)
        if not self.state.is_finite():
            raise DefectError(f"training went wrong: Gaussians are not numbers after step {done}", remedy=_REPORT)
        self._checked = done

    def _good_enough(self, stop_psnr: float) -> bool:
        if self.heldout is None or self.recipe.downscale_at(self.image) > 1:
            return False
        reached = self.measure(self.heldout).psnr
        _log.info("After %d images the frames kept out come out at %.2f dB.", self.image, reached)
        return self._team.decided(reached >= stop_psnr)

    def _save(self, writer: CheckpointWriter | None) -> None:
        self._check()
        if writer is None:
            return
        arrays = self.state.arrays() | {f"strategy.{name}": a for name, a in self._strategy.arrays().items()}
        facts = {"steps": self.state.steps, "stopped_early": self.stopped_early, "stop_psnr": self._stop_psnr}
        writer.save(self.image, facts, arrays | {"losses": self._losses})


def _leaves(state: GaussianState) -> dict[str, Tensor]:
    return {name: value.requires_grad_() for name, value in _activated(state).items()}


def _activated(state: GaussianState) -> dict[str, Tensor]:
    """What a rasteriser takes; tensors that no graph knows."""
    values = {name: state.values[name].detach() for name in ("means", "quaternions", "sh")}
    return values | {"scales": torch.exp(state.values["log_scales"]), "opacities": state.opacities()}


def _gradient(leaf: Tensor) -> Tensor:
    return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad.contiguous()


def _rows(tensor: Tensor, numbers: list[int]) -> Tensor:
    return tensor[numbers[0] : numbers[0] + 1] if len(numbers) == 1 else tensor[numbers]


def _rates(recipe: Recipe, image: int) -> Rates:
    factor = recipe.batch_factor
    return Rates(
        means=recipe.means_rate_at(image) * factor,
        log_scales=recipe.scales_rate * factor,
        quaternions=recipe.quaternions_rate * factor,
        opacity_logits=recipe.opacities_rate * factor,
        colours=recipe.colours_rate * factor,
        directional=recipe.directional_rate * factor,
    )


def _passed(before: int, now: int, interval: int) -> bool:
    return before // interval != now // interval


def _room(device: torch.device) -> int | None:
    if device.type != "cuda":
        return None
    free = free_gpu_bytes(device)
    return None if free is None else max(free - _RESERVE, 0)
