"""The engines by name; the one place that knows them.

Example:
    >>> engine = load_engine(RunConfig(BatchConfig(dataset_dir="data", engine="preview", preset="smoke")))
    >>> engine.label
    'synthesised preview'
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, cast

from worldexplorer.config import BatchConfig, FullEngineConfig, RunConfig, SplatConfig
from worldexplorer.engine import PUBLISHED_STEPS, Engine
from worldexplorer.errors import UsageError

if TYPE_CHECKING:
    from worldexplorer.config import Precision
    from worldexplorer.models.seva.settings import SevaSettings


def load_engine(run: RunConfig) -> Engine:
    """The engine a run names; whether it can run here is what its `check` says.

    Raises:
        UsageError: the run says something to the full engine and names another one, or to one trainer of splats and
            names another one.
    """
    refuse_unused_settings(run)
    if run.batch.engine == "full":
        from worldexplorer.models.engine import FullEngine
        from worldexplorer.models.picture_models import text_settings

        return FullEngine(_seva_settings(run), text_settings(run), gpus=run.batch.gpus, splat=run.splat)
    from worldexplorer.preview.engine import PreviewEngine

    return PreviewEngine(preset=run.batch.preset, seed=run.batch.seed)


def refuse_unused_settings(run: RunConfig) -> None:
    """UsageError where a run says something that its engine, or its trainer of splats, would not look at."""
    if run.batch.engine != "full":
        _refuse_full_settings(run)
        return
    if run.batch.preset != _default("batch", "preset"):
        raise UsageError(
            "--preset is for the preview engine",
            where="--engine full",
            remedy="leave out --preset, or take --engine preview",
        )
    _refuse_gsplat_settings(run)


def gpus_of(run: RunConfig) -> tuple[str, ...]:
    """The GPUs that a run may use, as CUDA_VISIBLE_DEVICES names them; none where its engine uses none."""
    if run.batch.engine != "full":
        return ()
    from worldexplorer.models.gpus import visible_gpus

    return visible_gpus(run.batch.gpus)


def _seva_settings(run: RunConfig) -> SevaSettings:
    from worldexplorer.models.picture_models import most_frames_at_once
    from worldexplorer.models.seva.settings import SevaSettings

    full, scaffold = run.full, run.scaffold
    return SevaSettings(
        precision=cast("Precision", full.precision),
        compile=not full.no_compile,
        most_frames=most_frames_at_once(run.batch.only_stages, scaffold.scaffold_method, scaffold.num_seva_frames),
        steps=None if full.steps == PUBLISHED_STEPS else full.steps,  # the same samplings, so the same fingerprint
        multistep=full.multistep,
        guidance_interval=(full.guidance_interval[0], full.guidance_interval[1]) if full.guidance_interval else None,
        shorter_chunks=full.shorter_chunks,
        fp8=full.fp8,
    )


_GSPLAT = ("splat_profile", "splat_heldout_every", "splat_stop_psnr")
"""Settings of stage 3 that the gsplat trainer alone knows."""
_TRAINING = ("splat_trainer", "splat_steps", *_GSPLAT)
"""Settings of stage 3 that the preview engine does not know."""

_FULL_ALONE = (
    ("batch", "gpus"),
    ("scaffold", "text_to_image_steps"),
    ("scaffold", "inpaint_steps"),
    ("trajectory", "anchors"),
    ("trajectory", "geometry_model"),
)
"""Settings of the other parts of a run that the preview engine would not look at."""


def _given(run: RunConfig, names: tuple[str, ...]) -> list[str]:
    return [f"--{name}" for name in names if getattr(run.splat, name) != getattr(SplatConfig(), name)]


def _refuse_gsplat_settings(run: RunConfig) -> None:
    if run.splat.splat_trainer != "gsplat" and (given := _given(run, _GSPLAT)):
        raise UsageError(
            f"{', '.join(given)} is for the gsplat trainer",
            where=f"--splat_trainer {run.splat.splat_trainer}",
            remedy=f"leave out {', '.join(given)}, or take --splat_trainer gsplat",
        )


def _refuse_full_settings(run: RunConfig) -> None:
    if trained := _given(run, _TRAINING):
        raise UsageError(
            f"{', '.join(trained)} is about training on a GPU, which the {run.batch.engine} engine does not do",
            where=f"--engine {run.batch.engine}",
            remedy=f"leave out {', '.join(trained)}, or take --engine full",
        )
    given = [f"--{one.name}" for one in fields(FullEngineConfig) if getattr(run.full, one.name) != one.default]
    if given:
        raise UsageError(
            f"{', '.join(given)} is about SEVA, which the {run.batch.engine} engine has not",
            where=f"--engine {run.batch.engine}",
            remedy=f"leave out {', '.join(given)}, or take --engine full",
        )
    others = [f"--{name}" for part, name in _FULL_ALONE if getattr(getattr(run, part), name) != _default(part, name)]
    if others:
        raise UsageError(
            f"{', '.join(others)} is for the full engine",
            where=f"--engine {run.batch.engine}",
            remedy=f"leave out {', '.join(others)}, or take --engine full",
        )


def _default(part: str, name: str) -> object:
    return getattr(getattr(RunConfig(BatchConfig()), part), name)
