"""Gaussians fitted to views on a CPU.

Discs on the scene's points are rendered from one view after the other, first at half, then at full size, and changed
against the gradient of the difference. Every view comes once before any comes again, in an order that the seed gives.
None is added during training; those nearly transparent in the end are left out. The same scene, seed and settings give
the same bytes, whatever the number of threads and however often the training was stopped and went on.

Lengths. Where Gaussians move, a step is measured in the spacing of the points around each, so that no unit has to be
known.

Example:
    >>> trainer = PreviewTrainer(TrainerSettings(gaussians=15_000, iterations_half=200, iterations_full=400))
    >>> result = trainer.train(scene, seed=0, checkpoint=Path("training"), progress=silent)
    >>> images = trainer.render(result.gaussians, c2w, intrinsics, size=256)
"""

from __future__ import annotations

import hashlib
import logging
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from worldexplorer.engine import Images, NotMeasured, Poses, SplatScene, TrainingResult, Views
from worldexplorer.errors import DefectError
from worldexplorer.fingerprint import canonical_json
from worldexplorer.geometry.gaussians import Gaussians
from worldexplorer.preview.checkpoint import load_checkpoint, save_checkpoint
from worldexplorer.preview.initial_gaussians import initial_rows
from worldexplorer.preview.losses import ImageLoss
from worldexplorer.preview.optimizer import SparseAdam
from worldexplorer.preview.parameters import C0, COLOUR, OPACITY, pack, unpack
from worldexplorer.preview.projection import camera_of
from worldexplorer.preview.rasterizer import render
from worldexplorer.preview.rasterizer_backward import backward
from worldexplorer.preview.trainer_settings import TrainerSettings
from worldexplorer.preview.versions import ALGORITHM_VERSIONS
from worldexplorer.preview.workers import Workers
from worldexplorer.progress import Progress, part

CURVE_STEP = 50
"""Iterations that one number of the loss curve is the mean of."""

_TRAINING_SHARE = 0.97
"""Of the work; the rest is measuring."""
_MOST_DB = 99.0
_REPORT = "keep the job's folder and report this as a defect"

_log = logging.getLogger(__name__)


class PreviewTrainer:
    """The preview engine's trainer (:class:`worldexplorer.engine.SplatTrainer`).

    Args:
        settings: how to train.
        threads: that work at it; by default as many as numba may use. Changes no result.
    """

    def __init__(self, settings: TrainerSettings, threads: int | None = None) -> None:
        self._settings = settings
        self._threads = threads

    def train(self, scene: SplatScene, seed: int, checkpoint: Path, progress: Progress) -> TrainingResult:
        """Fit Gaussians to a scene.

        Args:
            scene: views of one size, and the points to start from.
            seed: of the choice of points and the order of views.
            checkpoint: folder for this training's state; made where it is missing.
            progress: told every iteration; when it raises, the training can go on later from the last checkpoint.

        Returns:
            Gaussians without directional colour, and a log: `psnr_train` (mean over the training views, full size),
            `loss_curve` (means of 50 iterations), `gaussians`, `pruned` and the numbers of iterations.

        Raises:
            DefectError: the scene has no views or no usable points, or numbers stop being finite.
        """
        _check(scene.train)
        training = _Training(self._settings, scene, seed)
        training.resume(checkpoint)
        with Workers(self._threads) as workers:
            training.run(checkpoint, workers, part(progress, 0.0, _TRAINING_SHARE))
            gaussians, pruned = _kept(training.rows, self._settings.least_opacity)
            ratio = self._fit(gaussians, scene.train, workers, part(progress, _TRAINING_SHARE, 1.0))
        log: dict[str, Any] = {
            "psnr_train": round(ratio, 4),
            "loss_curve": training.curve(),
            "loss_curve_step": CURVE_STEP,
            "gaussians": gaussians.count,
            "pruned": pruned,
            "iterations_half": self._settings.iterations_half,
            "iterations_full": self._settings.iterations_full,
        }
        return TrainingResult(gaussians, log)

    def render(self, gaussians: Gaussians, c2w: Poses, intrinsics: Poses, size: int) -> Images:
        """Pictures of Gaussians before black.

        Args:
            gaussians: with or without directional colour.
            c2w: [N, 4, 4] OpenGL camera-to-world, in the Gaussians' frame.
            intrinsics: [N, 3, 3] normalised.
            size: pixels across and down.

        Returns:
            [N, size, size, 3] uint8.
        """
        pictures = np.empty((len(c2w), size, size, 3), np.uint8)
        with Workers(self._threads) as workers:
            for picture, pose, lens in zip(pictures, c2w, intrinsics, strict=True):
                picture[...] = self._picture(gaussians, pose, lens, (size, size), workers)
        return pictures

    def render_depth(self, gaussians: Gaussians, c2w: Poses, intrinsics: Poses, size: int) -> NDArray[np.float32]:
        """Depths along the viewing axis, as :class:`worldexplorer.engine.SplatTrainer` has them.

        Args:
            gaussians: of N.
            c2w: [N, 4, 4] OpenGL camera-to-world, in the Gaussians' frame.
            intrinsics: [N, 3, 3] normalised.
            size: pixels across and down.

        Returns:
            [N, size, size] float32, infinite where they cover less than half of a pixel.
        """
        depths = np.empty((len(c2w), size, size), np.float32)
        rows = pack(gaussians)
        with Workers(self._threads) as workers:
            for depth, pose, lens in zip(depths, c2w, intrinsics, strict=True):
                ahead = (gaussians.means - pose[:3, 3]) @ -pose[:3, 2]
                rows[:, COLOUR:] = ((ahead - 0.5) / C0)[:, None]
                rendering = render(rows, camera_of(pose, lens, size, size, self._settings.near), workers)
                cover = 1.0 - rendering.transmittance
                depth[...] = np.where(cover >= 0.5, rendering.image[0] / np.maximum(cover, 0.5), np.inf)
        return depths

    def contributions(
        self, gaussians: Gaussians, c2w: Poses, intrinsics: Poses, size: int, progress: Progress
    ) -> NDArray[np.float64]:
        """[N] blending weights summed over all pixels of all views; arguments as for :meth:`render`."""
        totals = np.zeros(gaussians.count)
        rows = pack(gaussians)
        rows[:, COLOUR:] = 0.0  # a grey that is not cut off at black, which would have no derivative
        by_image, by_transmittance = np.zeros((3, size, size), np.float32), np.zeros((size, size), np.float32)
        by_image[0] = 1.0
        with Workers(self._threads) as workers:
            for done, (pose, lens) in enumerate(zip(c2w, intrinsics, strict=True), start=1):
                camera = camera_of(pose, lens, size, size, self._settings.near)
                rendering = render(rows, camera, workers)
                gradients = backward(rows, camera, rendering, by_image, by_transmittance, workers)
                totals[rendering.seen] += gradients[:, COLOUR] / C0
                progress(done, len(c2w), "contributions")
        return totals

    def lpips(self, gaussians: Gaussians, views: Views) -> NotMeasured:
        """Not here: it takes a network."""
        return NotMeasured("the preview engine has no neural networks; --engine full has")

    def _fit(self, gaussians: Gaussians, views: Views, workers: Workers, progress: Progress) -> float:
        """The mean signal-to-noise ratio over views, dB."""
        ratios = []
        for image, pose, lens in zip(views.images, views.c2w, views.intrinsics, strict=True):
            picture = self._picture(gaussians, pose, lens, (image.shape[0], image.shape[1]), workers)
            ratios.append(_psnr(picture, image))
            progress(len(ratios), len(views.images), "measuring")
        return float(np.mean(ratios))

    def _picture(
        self, gaussians: Gaussians, c2w: Poses, intrinsics: Poses, size: tuple[int, int], workers: Workers
    ) -> NDArray[np.uint8]:
        rows = pack(gaussians, seen_from=c2w[:3, 3])
        height, width = size
        image = render(rows, camera_of(c2w, intrinsics, width, height, self._settings.near), workers).image
        return np.asarray(np.clip(image.transpose(1, 2, 0) * 255.0 + 0.5, 0.0, 255.0), dtype=np.uint8)


class _Training:
    """One training: what it starts from, and what changes in its course."""

    def __init__(self, settings: TrainerSettings, scene: SplatScene, seed: int) -> None:
        self._settings = settings
        self._views = scene.train
        self._seed = seed
        self._fingerprint = _fingerprint(settings, scene, seed)
        self.rows, self._spacing = initial_rows(scene, settings.gaussians, seed)
        self._adam = SparseAdam.start(self.rows, settings.first_decay, settings.second_decay)
        self._losses = np.zeros(settings.iterations)
        self._done = 0
        height, width = scene.train.images.shape[1:3]
        self._half_loss = ImageLoss(max(height // 2, 1), max(width // 2, 1), settings.ssim_weight)
        self._full_loss = ImageLoss(height, width, settings.ssim_weight)

    def resume(self, folder: Path) -> None:
        """Go on from the checkpoint in `folder`, if there is one."""
        found = load_checkpoint(folder, self._fingerprint, self._state())
        if found is not None:
            self._done, arrays = found
            for name, array in self._state().items():
                np.copyto(array, arrays[name])
            _log.info("Training goes on after iteration %d.", self._done)

    def run(self, folder: Path, workers: Workers, progress: Progress) -> None:
        """Do the iterations that are left, and keep the checkpoint in `folder` up to date."""
        total = self._settings.iterations
        while self._done < total:
            self._losses[self._done] = self._step(self._done, workers)
            self._done += 1
            if self._done % self._settings.checkpoint_interval == 0 or self._done == total:
                if not np.isfinite(self.rows).all():
                    raise _not_finite("Gaussians are", self._done)
                save_checkpoint(folder, self._fingerprint, self._done, self._state())
            progress(self._done, total, "training")

    def curve(self) -> list[float]:
        """The loss, a number for every CURVE_STEP iterations."""
        starts = range(0, len(self._losses), CURVE_STEP)
        return [round(float(self._losses[start : start + CURVE_STEP].mean()), 6) for start in starts]

    def _step(self, iteration: int, workers: Workers) -> float:
        """One iteration; the loss before it."""
        view = view_of_iteration(self._seed, iteration, len(self._views.images))
        compare = self._half_loss if iteration < self._settings.iterations_half else self._full_loss
        target = _target(self._views.images[view], compare.height, compare.width)
        camera = camera_of(
            self._views.c2w[view], self._views.intrinsics[view], compare.width, compare.height, self._settings.near
        )
        rendering = render(self.rows, camera, workers)
        loss = compare(rendering.image, target, rendering.transmittance, workers)
        if not math.isfinite(loss.value):
            raise _not_finite("the loss is", iteration + 1)
        gradients = backward(self.rows, camera, rendering, loss.by_image, loss.by_transmittance, workers)
        self._adam.step(self.rows, rendering.seen, gradients, self._settings.rates(iteration), self._spacing, workers)
        return loss.value

    def _state(self) -> dict[str, NDArray[Any]]:
        """The arrays that change; the very ones, not copies."""
        return {
            "rows": self.rows,
            "first": self._adam.first,
            "second": self._adam.second,
            "steps": self._adam.steps,
            "losses": self._losses,
        }


def view_of_iteration(seed: int, iteration: int, count: int) -> int:
    """Which of `count` views an iteration is for: each epoch of `count` iterations has a permutation of its own."""
    epoch, place = divmod(iteration, count)
    return int(np.random.default_rng([seed, epoch]).permutation(count)[place])


def _target(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.float32]:
    """[3, height, width], 0 to 1; pixels of a smaller image are the means of those they cover."""
    colours = image.astype(np.float32) / np.float32(255.0)
    if image.shape[:2] != (height, width):
        colours = np.asarray(cv2.resize(colours, (width, height), interpolation=cv2.INTER_AREA), dtype=np.float32)
    return np.ascontiguousarray(colours.transpose(2, 0, 1))


def _kept(rows: NDArray[np.float32], least_opacity: float) -> tuple[Gaussians, int]:
    """The Gaussians that are not nearly transparent, and how many were."""
    keep = rows[:, OPACITY] >= math.log(least_opacity / (1.0 - least_opacity))
    if not keep.any():
        raise DefectError("all Gaussians have become transparent", remedy=_REPORT)
    return unpack(rows[keep]), int(np.count_nonzero(~keep))


def _psnr(picture: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
    error = float(np.mean((picture.astype(np.float64) - truth) ** 2))
    return _MOST_DB if error == 0.0 else min(_MOST_DB, 10.0 * math.log10(255.0**2 / error))


def _fingerprint(settings: TrainerSettings, scene: SplatScene, seed: int) -> str:
    """A hash of everything that the trained Gaussians depend on."""
    basis = asdict(settings)
    del basis["checkpoint_interval"]
    found = hashlib.sha256(
        canonical_json({"version": ALGORITHM_VERSIONS["trainer"], "seed": seed, "settings": basis}).encode()
    )
    views = scene.train
    for array in (views.images, views.c2w, views.intrinsics, scene.points, scene.normals, scene.colours):
        found.update(f"{array.dtype.str}{array.shape}".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def _check(views: Views) -> None:
    images, count = views.images, len(views.images)
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8 or not images.size:
        raise DefectError(f"training views must be [N, H, W, 3] uint8; they are {images.shape} {images.dtype}")
    if views.c2w.shape != (count, 4, 4) or views.intrinsics.shape != (count, 3, 3):
        raise DefectError(f"{count} views have poses {views.c2w.shape} and intrinsics {views.intrinsics.shape}")
    if not (np.isfinite(views.c2w).all() and np.isfinite(views.intrinsics).all()):
        raise DefectError("poses or intrinsics of training views are not finite")


def _not_finite(what: str, iteration: int) -> DefectError:
    return DefectError(f"training went wrong: {what} not finite after iteration {iteration}", remedy=_REPORT)
