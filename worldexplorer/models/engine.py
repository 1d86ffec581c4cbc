"""The full engine: the published models, on a GPU.

Example:
    >>> FullEngine().check([3], "single_image", "pan-in-place")        # on a machine without a GPU
    ['gsplat needs a CUDA GPU, and torch 2.13.0 finds none here']
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from worldexplorer.config import DEFAULT_NUM_IMAGES_FOR_VGGT, SplatConfig
from worldexplorer.engine import (
    DepthModel,
    GeometryModel,
    Images,
    InpaintModel,
    NovelViewModel,
    Poses,
    PromptScorer,
    SplatTrainer,
    StageDefaults,
    TextToImageModel,
    Views,
    World,
)
from worldexplorer.errors import UserError
from worldexplorer.models.compilers import require_compiler
from worldexplorer.models.geometry_models import FrameModel, depth_model, geometry_model, require_room
from worldexplorer.models.gpus import Sight, card_of, equal_gpus, look_at_gpus
from worldexplorer.models.licences import commercial_refusals, require_permitted
from worldexplorer.models.picture_models import (
    INPAINT,
    JOINT_FRAMES,
    PROMPT_SCORE_WEIGHTS,
    SEVA_WEIGHTS,
    TEXT_TO_IMAGE,
    PictureModel,
    TextSettings,
    built_in_weights,
    choose_placement,
    frame_models_of,
    models_of,
    most_frames_at_once,
    named_model,
    needed_weights,
    needs_seva,
)
from worldexplorer.models.residents import Residents
from worldexplorer.models.seva.config import TRAINED_FRAMES
from worldexplorer.models.seva.memory import PUBLISHED_PIXELS, wanted_gib
from worldexplorer.models.seva.memory import choose_placement as choose_seva_placement
from worldexplorer.models.seva.settings import SevaSettings
from worldexplorer.models.splat_trainers import described_training, make_trainer, missing_for_training
from worldexplorer.models.splatting.settings import SMALLER_TRAININGS
from worldexplorer.models.weights import local_files, local_folder, weight_sets, what_is_missing
from worldexplorer.progress import Progress
from worldexplorer.units import GIB

_PACKAGES = {
    "torch": "torch",
    "diffusers": "diffusers",
    "transformers": "transformers",
    "safetensors": "safetensors",
    "huggingface_hub": "huggingface-hub",
}
"""What the models import, and the package it comes with."""
_FRAME_PACKAGES = {"cv2": "opencv-python-headless"}
_FILM_PACKAGES = {"imageio_ffmpeg": "imageio-ffmpeg"}
_IMAGE_SIZE = 576


class FullEngine:
    """SEVA, FLUX, VGGT and splatfacto-big behind the engine Protocols.

    Args:
        seva: how SEVA is run.
        text: which models scaffold_gen uses, how they are run, and whether licences restrict them.
        gpus: on how many of the visible GPUs SEVA is run (all unless given) and splats are trained (one unless
            given). It changes no result.
        splat: which trainer stage 3 uses, and how.
    """

    name = "full"
    label = "full engine"
    licence = "the licences of its models apply; SEVA, FLUX.1-dev and VGGT are for research and non-commercial use"
    remedy = "take --engine preview (CPU, no weights; a synthesised preview)"
    image_size = _IMAGE_SIZE
    stage_weights = (3.0, 92.0, 5.0)
    defaults = StageDefaults(
        num_images_for_vggt=DEFAULT_NUM_IMAGES_FOR_VGGT,
        frames_per_trajectory=None,
        point_count=131_072,
        heldout_views=0,
        sampling_frames=TRAINED_FRAMES,
        joint_frames=JOINT_FRAMES,
        smaller_trainings=SMALLER_TRAININGS,
    )

    def __init__(
        self,
        seva: SevaSettings | None = None,
        text: TextSettings | None = None,
        gpus: int | None = None,
        splat: SplatConfig | None = None,
    ) -> None:
        self._seva = seva or SevaSettings()
        self._text = text or TextSettings()
        self._gpus = gpus
        self._splat = splat or SplatConfig()
        self.defaults = replace(self.defaults, splat_training=described_training(self._splat))
        self._residents = Residents()
        self._makers: dict[tuple[str, str], Any] = {}
        self._sight: Sight | None = None

    def describe(self) -> dict[str, Any]:
        """The weights with their revisions and checksums, the precision, and what is set that changes results."""
        weights = {
            name: {"repository": one.repository, "revision": one.revision, "files": dict(one.files)}
            for name, one in weight_sets().items()
            if name in built_in_weights()
        }
        facts: dict[str, Any] = {
            "name": self.name,
            "weights": weights,
            "precision": self._seva.precision,
            "text_to_image": _published(TEXT_TO_IMAGE, self._text.text_to_image, self._text.text_to_image_steps),
            "inpaint": _published(INPAINT, self._text.inpaint, self._text.inpaint_steps),
        }
        return facts | ({"shortcuts": shortcuts} if (shortcuts := self._seva.shortcuts()) else {})

    def check(self, stages: Sequence[int], scaffold_method: str, traj_prior: str) -> list[str]:
        """Packages, GPU, memory and weights that are missing.

        Whoever checks need not be who computes, and holds no GPU memory afterwards (:func:`look_at_gpus`); the GPUs are
        looked at once.
        """
        weights = needed_weights(stages, scaffold_method, self._text)
        missing = commercial_refusals(weights) if self._text.commercial else []
        missing += self._missing_here(stages, scaffold_method, weights)
        if 3 in stages:
            missing += missing_for_training(self._splat)
        for packages, users in ((_FRAME_PACKAGES, (2,)), (_FILM_PACKAGES, (2, 3))):
            if set(users) & set(stages):
                missing += _sentences(packages)
        return list(dict.fromkeys(missing))  # two stages can miss the same package

    def build_world(self, photo: Images, hfov_deg: float, scene_type: str | None, progress: Progress) -> World | None:
        """See Engine; the full engine needs no world."""
        return None

    def load_world(self, folder: Path | None, scaffold: Views) -> World | None:
        """See Engine; the full engine needs no world."""
        return None

    def extra_trajectories(self, translation_scaling_factor: float) -> Mapping[str, Poses]:
        """See Engine; the full engine needs none."""
        return {}

    def scene_models(self, scene_type: str | None) -> Mapping[str, str]:
        """See Engine."""
        return {"depth": depth_model(scene_type).name, "points": self._text.geometry_model}

    def novel_views(self) -> NovelViewModel:
        """SEVA, loaded at the first call and kept: on one GPU or on all that may be used.

        Raises:
            UserError: there is no usable GPU, or the weights cannot be had.
        """
        self._permit(SEVA_WEIGHTS)
        _require_packages("SEVA")
        winograd = self._seva.winograd(*card_of())
        wanted = wanted_gib(self._seva.most_frames, PUBLISHED_PIXELS, self._seva.bytes_a_value, winograd=winograd)
        return self._residents.get("seva", math.ceil(wanted * GIB), self._load_seva)

    def depth(self, scene_type: str | None = None) -> DepthModel:
        """See Engine; loaded when it looks at its first frame."""
        model = depth_model(scene_type)

        def make() -> DepthModel:
            from worldexplorer.models.depth import DepthAnythingModel

            return DepthAnythingModel(model, self._folder(model.weights), self._residents)

        made: DepthModel = self._made("depth", model.name, model.weights, model.title, make)
        return made

    def geometry(self) -> GeometryModel:
        """See Engine; the one that the command names, loaded when it looks at its first frames."""
        model = geometry_model(self._text.geometry_model)

        def make() -> GeometryModel:
            from worldexplorer.models.depth_anything_3 import DepthAnything3Model
            from worldexplorer.models.vggt import VggtModel

            kind = VggtModel if model.name == "vggt" else DepthAnything3Model
            return kind(model, self._folder(model.weights), self._residents)

        made: GeometryModel = self._made("geometry", model.name, model.weights, model.title, make)
        return made

    def splat_trainer(self) -> SplatTrainer:
        """See Engine; the other stages' networks leave the GPU to it."""
        self._residents.keep_only("")
        return make_trainer(self._splat, self._gpus)

    def text_to_image(self, name: str) -> TextToImageModel:
        """See Engine; loaded when it makes its first picture."""
        model = named_model(TEXT_TO_IMAGE, name, "text_to_image")

        def make() -> TextToImageModel:
            from worldexplorer.models.flux import FluxModel

            steps = self._text.text_to_image_steps if name == self._text.text_to_image else None
            return FluxModel(name, self._folder(model.weights), self._residents, steps)

        made: TextToImageModel = self._made("text_to_image", name, model.weights, model.title, make)
        return made

    def inpaint(self, name: str) -> InpaintModel:
        """See Engine; loaded when it makes its first picture."""
        model = named_model(INPAINT, name, "inpaint")

        def make() -> InpaintModel:
            from worldexplorer.models.inpaint import InpaintingModel

            steps = self._text.inpaint_steps if name == self._text.inpaint else None
            return InpaintingModel(name, self._folder(model.weights), self._residents, steps)

        made: InpaintModel = self._made("inpaint", name, model.weights, model.title, make)
        return made

    def prompt_scorer(self) -> PromptScorer:
        """See Engine; loaded when it scores its first picture."""

        def make() -> PromptScorer:
            from worldexplorer.models.prompt_score import PromptScoreModel

            return PromptScoreModel(self._folder(PROMPT_SCORE_WEIGHTS), self._residents)

        made: PromptScorer = self._made("prompt_scorer", "", PROMPT_SCORE_WEIGHTS, "CLIP", make)
        return made

    def _made(self, role: str, name: str, weights: str, title: str, make: Callable[[], Any]) -> Any:
        """A model of the role, made once."""
        self._permit((weights,))
        if (role, name) not in self._makers:
            _require_packages(title)
            self._makers[role, name] = make()
        return self._makers[role, name]

    def _folder(self, weights: str) -> Callable[[], Path]:
        return partial(local_folder, weight_sets()[weights])

    def _permit(self, weights: Iterable[str]) -> None:
        if self._text.commercial:
            require_permitted(weights)

    def _load_seva(self) -> NovelViewModel:
        """SEVA in this process, or a process a GPU where there are several."""
        _require_packages("SEVA")
        from worldexplorer.models.seva.fleet import Fleet
        from worldexplorer.models.seva.model import SevaFiles, SevaModel, load_on

        gpus = equal_gpus(self._gpus)
        network, codec, tower = (local_files(weight_sets()[name]) for name in SEVA_WEIGHTS)
        (checkpoint,) = network.values()
        files = SevaFiles(checkpoint, codec["vae/config.json"].parent, tower["config.json"].parent)
        if len(gpus) < 2:
            return SevaModel(files, self._seva)
        return Fleet(
            {f"{device} ({name})": partial(load_on, device, files, self._seva) for device, name in gpus.items()}
        )

    def _missing_here(self, stages: Sequence[int], scaffold_method: str, weights: Sequence[str]) -> Iterator[str]:
        if weights:
            yield from _sentences(_PACKAGES)
        frame_models = frame_models_of(stages, self._text)
        yield from (f"{lack}: {model.install}" for model in frame_models if (lack := model.absent_packages()))
        if importlib.util.find_spec("torch") is not None:
            frames = most_frames_at_once(stages, scaffold_method, self._seva.most_frames)
            yield from self._missing_on_gpu(
                [*models_of(stages, scaffold_method, self._text), *frame_models],
                frames if needs_seva(stages, scaffold_method) else 0,
                gsplat=3 in stages,
            )
        yield from filter(None, (what_is_missing(weight_sets()[name]) for name in weights))

    def _missing_on_gpu(
        self, models: Sequence[PictureModel | FrameModel], seva_frames: int, *, gsplat: bool
    ) -> Iterator[str]:
        """Of models of pictures and frames, of SEVA where it samples so many frames at once, and of gsplat."""
        names = ["SEVA"] * bool(seva_frames) + [model.title for model in models] + ["gsplat"] * gsplat
        if not names:
            return
        try:
            sight = self._sight = self._sight or look_at_gpus()
        except UserError as error:
            yield _in_one_line(error)
            return
        if not sight.names:
            verb = "needs" if len(names) == 1 else "need"
            listed = " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
            yield f"{listed} {verb} a CUDA GPU, and torch {sight.torch} finds none here"
            return
        free = sight.free_bytes
        checks: list[Callable[[], object]] = [
            partial(require_room, model, free)
            if isinstance(model, FrameModel)
            else partial(choose_placement, model, free)
            for model in models
        ]
        if seva_frames:
            size = self._seva.bytes_a_value
            twice = self._seva.winograd(sight.capability, sight.card_bytes)
            checks.append(partial(choose_seva_placement, free, seva_frames, PUBLISHED_PIXELS, size, winograd=twice))
            checks.append(partial(equal_gpus, self._gpus, sight.kinds))
            if self._seva.needs_compiler:
                checks.append(partial(require_compiler, "SEVA"))
            if self._seva.fp8:
                from worldexplorer.models.seva.eight_bit import require_eight_bit_units

                checks.append(partial(require_eight_bit_units, sight.capability, sight.names[0]))
        for check in checks:
            try:
                check()
            except UserError as error:
                yield _in_one_line(error)


def _in_one_line(error: UserError) -> str:
    """An error among others that are told together: what, where and what to do."""
    place = f" ({error.where})" if error.where else ""
    return f"{error.what}{place}" + (f": {error.remedy}" if error.remedy else "")


def _published(models: Mapping[str, PictureModel], chosen: str, steps: int | None) -> dict[str, dict[str, Any]]:
    """How each model is run; the chosen one with the steps that were asked for."""
    return {
        name: {
            "steps": steps if steps and name == chosen else one.steps,
            "guidance": one.guidance,
            "precision": one.precision,
        }
        for name, one in models.items()
    }


def _absent(packages: Mapping[str, str]) -> list[str]:
    return [package for name, package in packages.items() if importlib.util.find_spec(name) is None]


def _sentences(packages: Mapping[str, str]) -> list[str]:
    return [f"the package {package} is not installed" for package in _absent(packages)]


def _require_packages(title: str) -> None:
    absent = _absent(_PACKAGES)
    if absent:
        raise UserError(
            f"{title} needs {', '.join(absent)}, not installed here",
            where="--engine full",
            remedy='pip install "worldexplorer[full]"',
        )
