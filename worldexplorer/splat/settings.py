"""What stage 3 is told: how to train, what is done with the trained Gaussians, and which of that the result depends on.

Example:
    >>> settings_basis(SplatSettings(formats=("spz",), keep_training=True))
    {'export_formats': ['spz']}
    >>> instead({}, {"export_formats": ["spz"]})
    'worldexplorer convert --output_base OUT --formats spz makes that of the finished world, without training'
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from worldexplorer.config import RunConfig
from worldexplorer.dataset import Job
from worldexplorer.engine import Engine
from worldexplorer.splat.thinning import Thinning

_THINNING = ("max_gaussians", "filter_floaters")
_AFTERWARDS = frozenset({"export_formats", *_THINNING})
"""Settings that come after the training."""


@dataclass(frozen=True)
class SplatSettings:
    """What is done with the trained Gaussians, where the trainer's run data go, and how memory is saved.

    Attributes:
        nerf_folder: where the trainer's run data go; None for the attempt's own folder.
        keep_training: whether they are kept.
        formats: files written besides the two PLY files, `spz` and `compressed-ply`, in alphabetical order.
        thinning: which Gaussians are taken out.
        training: what of the trainer's settings changes its results; in an engine's words.
        smaller_trainings: what can be changed, one after the other, when memory runs out; in an engine's words.
        made_smaller: how many of these are in force.
    """

    nerf_folder: str | None = None
    keep_training: bool = False
    formats: tuple[str, ...] = ()
    thinning: Thinning = field(default_factory=Thinning)
    training: Mapping[str, Any] = field(default_factory=dict)
    smaller_trainings: tuple[str, ...] = ()
    made_smaller: int = 0


def splat_settings(_job: Job, run: RunConfig, engine: Engine) -> SplatSettings:
    """The settings of one job."""
    return SplatSettings(
        nerf_folder=run.splat.nerf_folder,
        keep_training=run.splat.keep_training,
        formats=tuple(sorted(set(run.splat.export_formats) - {"ply"})),
        thinning=Thinning(run.splat.filter_floaters, run.splat.max_gaussians),
        training=engine.defaults.splat_training,
        smaller_trainings=engine.defaults.smaller_trainings,
    )


def settings_basis(settings: SplatSettings) -> Mapping[str, Any]:
    """What is not as without any flag: records from before an option existed stay valid."""
    basis: dict[str, Any] = {}
    if settings.formats:
        basis["export_formats"] = list(settings.formats)
    if settings.thinning.max_gaussians is not None:
        basis["max_gaussians"] = settings.thinning.max_gaussians
    if settings.thinning.filter_floaters:
        basis["filter_floaters"] = True
    if settings.training:
        basis["training"] = dict(settings.training)
    return basis


def instead(made: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """The command that makes what is wanted of a finished world, where training adds nothing; else empty.

    A world that something was taken out of is good for other formats alone: what is gone counted when the Gaussians
    were ranked, and when floaters were told.

    Args:
        made: the basis of the world that is there.
        wanted: that of the one asked for.
    """
    if any(made.get(name) != wanted.get(name) for name in (made.keys() | wanted.keys()) - _AFTERWARDS):
        return ""
    before, after = ({name: basis[name] for name in _THINNING if name in basis} for basis in (made, wanted))
    formats = wanted.get("export_formats", [])
    flags = []
    if before == after:
        formats = [kind for kind in formats if kind not in made.get("export_formats", [])]
    elif not before:
        formats = ["ply", *formats]
        flags = ["--filter_floaters"] if "filter_floaters" in after else []
        flags += [f"--max_gaussians {after['max_gaussians']}"] if "max_gaussians" in after else []
    else:
        return ""
    if not formats:
        return ""
    command = " ".join(["worldexplorer convert --output_base OUT --formats", *formats, *flags])
    return f"{command} makes that of the finished world, without training"


def smaller_training(settings: SplatSettings) -> tuple[SplatSettings, str] | None:
    """The engine's next way to train with less memory."""
    if settings.made_smaller >= len(settings.smaller_trainings):
        return None
    changed = settings.smaller_trainings[settings.made_smaller]
    return replace(settings, made_smaller=settings.made_smaller + 1), changed
