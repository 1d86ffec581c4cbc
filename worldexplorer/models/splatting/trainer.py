"""The gsplat trainer of the full engine.

gsplat draws, kernels of this program do loss, optimiser and noise. One GPU trains unless several are named; these share
the pictures of a step where it has several: the published recipe has one, the fast one four.

Example:
    >>> trainer = GsplatTrainer(SplatTraining(profile="fast"))
    >>> result = trainer.train(scene, seed=0, checkpoint=Path("training"), progress=silent)
    >>> images = trainer.render(result.gaussians, c2w, intrinsics, size=576)
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldexplorer.engine import Images, NotMeasured, Poses, SplatScene, TrainingResult, Views
from worldexplorer.errors import InfrastructureError
from worldexplorer.geometry.cameras import opengl_to_opencv
from worldexplorer.geometry.gaussians import Gaussians
from worldexplorer.models.compilers import own_kernels_run
from worldexplorer.models.splatting.checkpoint import FILE_NAME
from worldexplorer.models.splatting.drawing import draw, to_bytes
from worldexplorer.models.splatting.initial import SH_ZERO
from worldexplorer.models.splatting.memory import memory_named
from worldexplorer.models.splatting.operations import Operations, operations_for
from worldexplorer.models.splatting.perceptual import Network, distance_of, perceptual_network
from worldexplorer.models.splatting.rasterizer import Rasterizer, gsplat_rasterizer
from worldexplorer.models.splatting.recipe import Recipe
from worldexplorer.models.splatting.settings import SplatTraining
from worldexplorer.models.splatting.team import useful_members
from worldexplorer.models.splatting.team_process import Place, Task
from worldexplorer.models.splatting.together import PATIENCE_SECONDS, pictures_kept, train_together
from worldexplorer.models.splatting.training import CURVE_STEP, Training
from worldexplorer.models.splatting.views import check_views, kept_out
from worldexplorer.progress import Progress, part

_TRAINING_SHARE = 0.97
"""Of the work; the rest is measuring."""
_MEASURED_VIEWS = 64
"""Of the training views, evenly spread, that the fit to them is the mean of."""


class GsplatTrainer:
    """See :class:`worldexplorer.engine.SplatTrainer`.

    Args:
        settings: how to train.
        device: to train on.
        rasterizer: makes what draws; asked at the first use.
        operations: makes loss, optimiser and noise for a device; by default kernels on a GPU, plain torch elsewhere.
        places: says which GPUs there are to train on; not asked where a step has one picture. None trains on `device`.
        network: makes the network of LPIPS, or says why there is none.
    """

    def __init__(
        self,
        settings: SplatTraining,
        device: str = "cuda",
        rasterizer: Callable[[], Rasterizer] = gsplat_rasterizer,
        operations: Callable[[torch.device], Operations] = operations_for,
        places: Callable[[], Sequence[Place]] | None = None,
        network: Callable[[torch.device], Network | NotMeasured] = perceptual_network,
    ) -> None:
        self._settings, self._device = settings, torch.device(device)
        self._make_rasterizer, self._operations, self._network = rasterizer, operations, network
        self._places = places
        self._antialiased: bool | None = None
        self._made: Rasterizer | None = None
        self._latest: tuple[Gaussians, dict[str, Tensor]] | None = None

    def train(self, scene: SplatScene, seed: int, checkpoint: Path, progress: Progress) -> TrainingResult:
        """Fit Gaussians to a scene.

        Args:
            scene: views of one size, and the points to start from; each time it was made smaller halves the cap.
            seed: of everything random.
            checkpoint: folder for this training's state; made where it is missing.
            progress: when it raises, the training can go on later from the last checkpoint.

        Returns:
            Gaussians with directional colour in the scene frame, and a log: `psnr_train`, `ssim_train` (64 training
            views), `psnr_heldout_frames`, `ssim_heldout_frames` and `lpips_heldout_frames`, or in `lpips` why there
            is none (where frames were kept out), `loss_curve`, `gaussians`, `pruned`, `images`, `stopped_early`, where
            pictures lay, whose kernels ran, on how many GPUs, and the recipe.

        Raises:
            DefectError: the scene cannot be trained on, or numbers stop being finite.
            OutOfMemoryError: the GPU has too little memory for so many Gaussians.
            InfrastructureError: one of several GPUs failed or fell silent; `where` names it.
            UserError: there is no gsplat or no GPU, or no frame, or every one, would be kept out of training.
        """
        check_views(scene.train)
        if self._settings.heldout_every is not None:
            kept_out(len(scene.train.images), self._settings.heldout_every)
        rasterize = self._rasterizer()
        recipe = self._settings.recipe()
        cap = max(recipe.cap >> scene.made_smaller, 1)
        self._latest = None
        places = self._useful_places(recipe)
        if len(places) > 1:
            self._train_together(places, scene, cap, seed, checkpoint, part(progress, 0.0, _TRAINING_SHARE))
        with memory_named(cap):
            training = Training(
                scene,
                recipe,
                cap=cap,
                seed=seed,
                device=self._device,
                rasterize=rasterize,
                operations=self._operations(self._device),
                heldout_every=self._settings.heldout_every,
                stop_psnr=self._settings.stop_psnr,
            )
            training.resume(checkpoint)
            if len(places) > 1 and not training.is_over:
                raise InfrastructureError(
                    "what several GPUs have trained cannot be read back", where=str(checkpoint / FILE_NAME)
                )
            training.run(checkpoint, part(progress, 0.0, _TRAINING_SHARE))
            gaussians = training.gaussians()
            log = self._log(training, scene, gaussians, cap) | {"gpus": max(len(places), 1)}
            return TrainingResult(gaussians, log, antialiased=recipe.antialiased)

    def _useful_places(self, recipe: Recipe) -> Sequence[Place]:
        """The GPUs to train on; one or none where this process's own does it."""
        if self._places is None or recipe.batch == 1:
            return ()
        places = self._places()
        return places[: useful_members(recipe.batch, max(len(places), 1))]

    def _train_together(
        self, places: Sequence[Place], scene: SplatScene, cap: int, seed: int, checkpoint: Path, progress: Progress
    ) -> None:
        checkpoint.mkdir(parents=True, exist_ok=True)
        with pictures_kept(scene) as (without, images):
            task = Task(
                places=tuple(places),
                scene=without,
                images=images,
                recipe=self._settings.recipe(),
                cap=cap,
                seed=seed,
                heldout_every=self._settings.heldout_every,
                stop_psnr=self._settings.stop_psnr,
                folder=checkpoint,
                rasterizer=self._make_rasterizer,
                operations=self._operations,
                patience=PATIENCE_SECONDS,
            )
            train_together(task, progress)

    def drawing(self, *, antialiased: bool) -> GsplatTrainer:
        """This trainer, but drawing Gaussians as meant for antialiased rendering or not, whatever its recipe says."""
        other = copy.copy(self)
        other._antialiased = antialiased
        return other

    def render(self, gaussians: Gaussians, c2w: Poses, intrinsics: Poses, size: int) -> Images:
        """Pictures of Gaussians before black.

        Args:
            gaussians: scene frame.
            c2w: [N, 4, 4] OpenGL camera-to-world, scene frame.
            intrinsics: [N, 3, 3] normalised.
            size: pixels across and down.

        Returns:
            [N, size, size, 3] uint8.
        """
        drawn = self._draw(gaussians, c2w, intrinsics, size, depth=False)
        pictures = np.empty((len(c2w), size, size, 3), np.uint8)
        for picture, found in zip(pictures, drawn, strict=True):
            picture[...] = to_bytes(found).cpu().numpy()
        return pictures

    def render_depth(self, gaussians: Gaussians, c2w: Poses, intrinsics: Poses, size: int) -> NDArray[np.float32]:
        """[N, size, size] mean depths in trajectory units, infinite where less than half of a pixel is covered."""
        drawn = self._draw(gaussians, c2w, intrinsics, size, depth=True)
        depths = np.empty((len(c2w), size, size), np.float32)
        for depth, found in zip(depths, drawn, strict=True):
            depth[...] = found.cpu().numpy()
        return depths

    def contributions(
        self, gaussians: Gaussians, c2w: Poses, intrinsics: Poses, size: int, progress: Progress
    ) -> NDArray[np.float64]:
        """[N] blending weights summed over all pixels of all views; other arguments as for :meth:`render`."""
        values = self._uploaded(gaussians)
        shares = torch.zeros(gaussians.count, dtype=torch.float64, device=self._device)
        for done in range(len(c2w)):
            # A grey that is not cut off at black, which would have no derivative.
            grey = torch.zeros(gaussians.count, 1, 3, device=self._device, requires_grad=True)
            (picture,) = self._drawn(values | {"sh": grey}, c2w[done : done + 1], intrinsics[done : done + 1], size)
            (by_colour,) = torch.autograd.grad(picture[..., 0].sum(), grey)
            shares += by_colour[:, 0, 0] / SH_ZERO
            progress(done + 1, len(c2w), "contributions")
        return shares.cpu().numpy()

    def lpips(self, gaussians: Gaussians, views: Views) -> float | NotMeasured:
        """See SplatTrainer; by torchmetrics, where it and AlexNet's weights are on the machine."""
        network = self._network(self._device)
        if isinstance(network, NotMeasured):
            return network
        drawn = self._draw(gaussians, views.c2w, views.intrinsics, views.images.shape[1], depth=False)
        return distance_of(network, drawn, views.images)

    def _draw(self, gaussians: Gaussians, c2w: Poses, intrinsics: Poses, size: int, *, depth: bool) -> Iterator[Tensor]:
        with torch.no_grad():
            yield from self._drawn(self._uploaded(gaussians), c2w, intrinsics, size, depth=depth)

    def _drawn(
        self, values: Mapping[str, Tensor], c2w: Poses, intrinsics: Poses, size: int, *, depth: bool = False
    ) -> Iterator[Tensor]:
        recipe = self._settings.recipe()
        cameras = np.linalg.inv(opengl_to_opencv(c2w)).astype(np.float32)
        return draw(
            self._rasterizer(),
            values,
            torch.from_numpy(cameras).to(self._device),
            intrinsics,
            (size, size),
            near=recipe.near,
            antialiased=recipe.antialiased if self._antialiased is None else self._antialiased,
            depth=depth,
        )

    def _uploaded(self, gaussians: Gaussians) -> dict[str, Tensor]:
        """Gaussians as a rasteriser takes them; those of the latest call are kept."""
        if self._latest is None or self._latest[0] is not gaussians:
            values = {
                "means": gaussians.means,
                "quaternions": gaussians.quaternions,
                "scales": np.exp(gaussians.log_scales),
                "opacities": 1.0 / (1.0 + np.exp(-gaussians.opacity_logits)),
                "sh": gaussians.sh,
            }
            self._latest = gaussians, {name: torch.from_numpy(v).to(self._device) for name, v in values.items()}
        return self._latest[1]

    def _rasterizer(self) -> Rasterizer:
        if self._made is None:
            self._made = self._make_rasterizer()
        return self._made

    def _log(self, training: Training, scene: SplatScene, gaussians: Gaussians, cap: int) -> dict[str, Any]:
        images = scene.train.images
        chosen = np.unique(np.linspace(0, len(images) - 1, min(_MEASURED_VIEWS, len(images))).round().astype(np.int64))
        views = type(scene.train)(images[chosen], scene.train.c2w[chosen], scene.train.intrinsics[chosen])
        fits = {"train": training.measure(views)}
        if training.heldout is not None:
            fits["heldout_frames"] = training.measure(training.heldout)
        log: dict[str, Any] = {f"psnr_{name}": round(fit.psnr, 4) for name, fit in fits.items()}
        log |= {f"ssim_{name}": round(fit.ssim, 6) for name, fit in fits.items()}
        if training.heldout is not None:
            found = self.lpips(gaussians, training.heldout)
            if isinstance(found, NotMeasured):
                log["lpips"] = f"not computed: {found.reason}"
            else:
                log["lpips_heldout_frames"] = round(found, 6)
        return log | {
            "trainer": "gsplat",
            "profile": self._settings.profile,
            "recipe": training.recipe.described() | {"cap": cap},
            "images": training.image,
            "stopped_early": training.stopped_early,
            "pictures": training.pictures_place,
            "kernels": "own" if own_kernels_run() and self._device.type == "cuda" else "plain torch",
            "loss_curve": training.curve(),
            "loss_curve_step": CURVE_STEP,
            "gaussians": gaussians.count,
            "pruned": training.state.count - gaussians.count,
        }
