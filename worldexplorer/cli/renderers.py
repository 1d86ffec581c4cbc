"""Which renderer a command takes for a world that is trained: that of the full engine on a GPU, or the CPU's.

Example:
    >>> name, trainer = choose_renderer("auto")
    >>> trainer, warning = drawing_as(name, trainer, antialiased=True)
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from worldexplorer.config import BatchConfig, RunConfig, ScaffoldConfig
from worldexplorer.engine import SplatTrainer
from worldexplorer.engines import load_engine
from worldexplorer.errors import UserError

RENDERERS = ("auto", "cpu", "gsplat")

_ENGINES = {"cpu": "preview", "gsplat": "full"}
_AUTOMATIC = ("gsplat", "cpu")
_NOT_ANTIALIASED = (
    "the file is meant for antialiased rendering, which the {} renderer does not do: small Gaussians look too strong"
)


@runtime_checkable
class DrawsEitherWay(Protocol):
    """A renderer for Gaussians meant for antialiased rendering and for others."""

    def drawing(self, *, antialiased: bool) -> SplatTrainer:
        """The renderer for these."""


def choose_renderer(name: str) -> tuple[str, SplatTrainer]:
    """The renderer's name, with `auto` decided, and the renderer; UserError where the one asked for cannot run."""
    for candidate in _AUTOMATIC if name == "auto" else (name,):
        engine = load_engine(RunConfig(BatchConfig(engine=_ENGINES[candidate])))
        missing = engine.check((3,), ScaffoldConfig().scaffold_method, ScaffoldConfig().traj_prior)
        if not missing:
            return candidate, engine.splat_trainer()
    raise UserError(
        f"the {candidate} renderer cannot run here: {missing[0]}",
        where=f"--renderer {name}",
        remedy="take --renderer cpu" if candidate == "gsplat" else engine.remedy,
    )


def drawing_as(name: str, trainer: SplatTrainer, *, antialiased: bool) -> tuple[SplatTrainer, str]:
    """The renderer for a file that is, or is not, meant for antialiased rendering; a warning where it is not made so.

    Args:
        name: of the renderer.
        trainer: as :func:`choose_renderer` found it.
        antialiased: what the file says.
    """
    if isinstance(trainer, DrawsEitherWay):
        return trainer.drawing(antialiased=antialiased), ""
    return trainer, _NOT_ANTIALIASED.format(name) if antialiased else ""
