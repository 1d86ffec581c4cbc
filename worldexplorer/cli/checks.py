"""`--check_checkpoints`: whether what the selected stages need is on this machine, one line each.

Example:
    >>> for need in check_needs(run, engine):
    ...     print(need.text)
    missing  stage 1 scaffold: stage 1 needs SEVA, which is not built into this version yet
"""

from __future__ import annotations

from dataclasses import dataclass

from worldexplorer.config import STAGE_NAMES, RunConfig
from worldexplorer.engine import Engine

WEIGHTLESS_ENGINES = ("preview",)


@dataclass(frozen=True)
class Need:
    """What one stage needs; `missing` is empty where it is there."""

    stage: str
    missing: str

    @property
    def text(self) -> str:
        """One line for a person."""
        return f"missing  {self.stage}: {self.missing}" if self.missing else f"ok       {self.stage}"

    def facts(self, engine: Engine) -> dict[str, str]:
        """The same for a program."""
        return {"stage": self.stage, "missing": self.missing, "remedy": engine.remedy if self.missing else ""}


def check_needs(run: RunConfig, engine: Engine) -> list[Need]:
    """The needs of the selected stages, in order."""
    needs: list[Need] = []
    for number in run.batch.only_stages:
        stage = f"stage {number} {STAGE_NAMES[number]}"
        missing = engine.check((number,), run.scaffold.scaffold_method, run.scaffold.traj_prior)
        needs += [Need(stage, text) for text in missing] or [Need(stage, "")]
    return needs


def weights_line(engine: Engine) -> str:
    """What to say of an engine that has no checkpoints; empty for the others."""
    return f"the {engine.name} engine needs no checkpoints" if engine.name in WEIGHTLESS_ENGINES else ""
