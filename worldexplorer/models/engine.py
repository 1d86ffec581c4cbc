"""The full engine: the published models, on a GPU.

SEVA and the models of scaffold_gen are built in; the others are not yet, and :meth:`FullEngine.check` says so for every
stage that needs one.

Example:
    >>> FullEngine().check([2], "single_image", "pan-in-place")
    ['stage 2 needs a metric depth model and VGGT, which are not built into this version yet', ...]
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from worldexplorer.config import DEFAULT_NUM_IMAGES_FOR_VGGT
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
from worldexplorer.errors import UsageError, UserError
from worldexplorer.models.licences import commercial_refusals, require_permitted
from worldexplorer.models.picture_models import (
    GIB,
    INPAINT,
    PROMPT_SCORE_WEIGHTS,
    SEVA_WEIGHTS,
    TEXT_TO_IMAGE,
    PictureModel,
    TextSettings,
    built_in_weights,
    choose_placement,
    models_of,
    named_model,
    needed_weights,
    needs_seva,
)
from worldexplorer.models.residents import Residents
from worldexplorer.models.seva.config import TRAINED_FRAMES
from worldexplorer.models.seva.memory import choose_placement as choose_seva_placement
from worldexplorer.models.seva.settings import SevaSettings
from worldexplorer.models.weights import local_files, local_folder, weight_sets, what_is_missing
from worldexplorer.progress import Progress

if TYPE_CHECKING:
    from worldexplorer.models.seva.model import SevaModel

_PACKAGES = {
    "torch": "torch",
    "diffusers": "diffusers",
    "transformers": "transformers",
    "safetensors": "safetensors",
    "huggingface_hub": "huggingface-hub",
}
"""What the models import, and the package it comes with."""
_SEVA_WANTED_GIB = 31
"""With which SEVA makes two samplings at once."""
_UNBUILT: Mapping[tuple[int, str], str] = {
    (2, ""): "a metric depth model and VGGT",
    (3, ""): "the splatfacto-big trainer and gsplat",
}
_IMAGE_SIZE = 576


class FullEngine:
    """SEVA, FLUX, VGGT and splatfacto-big behind the engine Protocols.

    Args:
        seva: how SEVA is run.
        text: which models scaffold_gen uses, how they are run, and whether licences restrict them.
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
        joint_frames=24,  # SEVA bears a few more; these hold a turn's eight views and two between each pair
    )

    def __init__(self, seva: SevaSettings | None = None, text: TextSettings | None = None) -> None:
        self._seva = seva or SevaSettings()
        self._text = text or TextSettings()
        self._residents = Residents()
        self._makers: dict[tuple[str, str], Any] = {}

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
        """Packages, GPU, memory and weights that are missing, and the models that are not built in."""
        missing = [
            f"stage {number} needs {models}, which are not built into this version yet"
            for (number, method), models in _UNBUILT.items()
            if number in stages and method in ("", scaffold_method)
        ]
        weights = needed_weights(stages, scaffold_method, self._text)
        if self._text.commercial:
            missing += commercial_refusals(weights)
        return [*missing, *self._missing_here(stages, scaffold_method, weights)] if weights else missing

    def build_world(self, photo: Images, hfov_deg: float, scene_type: str | None, progress: Progress) -> World | None:
        """See Engine; the full engine needs no world."""
        return None

    def load_world(self, folder: Path | None, scaffold: Views) -> World | None:
        """See Engine; the full engine needs no world."""
        return None

    def extra_trajectories(self, translation_scaling_factor: float) -> Mapping[str, Poses]:
        """See Engine; the full engine needs none."""
        return {}

    def novel_views(self) -> NovelViewModel:
        """SEVA, loaded at the first call and kept.

        Raises:
            UserError: there is no usable GPU, or the weights cannot be had.
        """
        self._permit(SEVA_WEIGHTS)
        return self._residents.get("seva", _SEVA_WANTED_GIB * GIB, self._load_seva)

    def depth(self) -> DepthModel:
        """See Engine."""
        self._refuse("a metric depth model")

    def geometry(self) -> GeometryModel:
        """See Engine."""
        self._refuse("VGGT")

    def splat_trainer(self) -> SplatTrainer:
        """See Engine."""
        self._refuse("the splatfacto-big trainer")

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

    def _load_seva(self) -> SevaModel:
        _require_packages("SEVA")
        from worldexplorer.models.seva.model import SevaFiles, SevaModel

        network, codec, tower = (local_files(weight_sets()[name]) for name in SEVA_WEIGHTS)
        (checkpoint,) = network.values()
        return SevaModel(
            SevaFiles(checkpoint, codec["vae/config.json"].parent, tower["config.json"].parent), self._seva
        )

    def _missing_here(self, stages: Sequence[int], scaffold_method: str, weights: Sequence[str]) -> Iterator[str]:
        absent = _absent_packages()
        yield from (f"the package {package} is not installed" for package in absent)
        if "torch" not in absent:
            yield from self._missing_on_gpu(
                models_of(stages, scaffold_method, self._text), needs_seva(stages, scaffold_method)
            )
        yield from filter(None, (what_is_missing(weight_sets()[name]) for name in weights))

    def _missing_on_gpu(self, models: Sequence[PictureModel], seva: bool) -> Iterator[str]:
        import torch

        names = [model.title for model in models] + ["SEVA"] * seva
        if not torch.cuda.is_available():
            verb = "needs" if len(names) == 1 else "need"
            yield f"{' and '.join(names)} {verb} a CUDA GPU, and torch {torch.__version__} finds none here"
            return
        free, _ = torch.cuda.mem_get_info()
        checks: list[Callable[[], object]] = [partial(choose_placement, model, free) for model in models]
        if seva:
            itemsize = getattr(torch, self._seva.precision).itemsize
            checks.append(partial(choose_seva_placement, free, TRAINED_FRAMES, _IMAGE_SIZE * _IMAGE_SIZE, itemsize))
        for check in checks:
            try:
                check()
            except UserError as error:
                yield error.what

    def _refuse(self, model: str) -> NoReturn:
        raise UsageError(
            f"{model} is not built into this version's full engine yet", where="--engine full", remedy=self.remedy
        )


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


def _absent_packages() -> list[str]:
    return [package for name, package in _PACKAGES.items() if importlib.util.find_spec(name) is None]


def _require_packages(title: str) -> None:
    absent = _absent_packages()
    if absent:
        raise UserError(
            f"{title} needs {', '.join(absent)}, not installed here",
            where="--engine full",
            remedy='pip install "worldexplorer[full]"',
        )
