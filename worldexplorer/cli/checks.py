"""`--check_checkpoints`: whether what the selected stages need is on this machine, one line each.

The full engine's weights follow: each repository with its revision, size, licence and gate, and whether it is here.

Example:
    >>> for need in check_needs(run, engine):
    ...     print(need.text)
    missing  stage 1 scaffold: SEVA needs a CUDA GPU, and torch 2.13.0 finds none here
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace

from worldexplorer.batch import missing_here
from worldexplorer.config import STAGE_NAMES, RunConfig
from worldexplorer.engine import Engine
from worldexplorer.models.picture_models import needed_weights, text_settings
from worldexplorer.models.weight_status import WeightStatus, download_folder, size_text, weight_status
from worldexplorer.models.weights import weight_sets

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
        missing = missing_here(replace(run, batch=replace(run.batch, only_stages=(number,))), engine)
        needs += [Need(stage, text) for text in missing] or [Need(stage, "")]
    return needs


def check_weights(run: RunConfig, engine: Engine) -> list[WeightStatus]:
    """The weights that the selected stages use, in the order they are used; none for engines without any."""
    if engine.name in WEIGHTLESS_ENGINES:
        return []
    names = needed_weights(run.batch.only_stages, run.scaffold.scaffold_method, text_settings(run))
    return [weight_status(weight_sets()[name]) for name in names]


def weight_lines(states: Sequence[WeightStatus]) -> list[str]:
    """One line each, and what the disk has to spare for those that are not here."""
    lines = [f"weights  {status.weights.name}: {status.text}" for status in states]
    if any(not status.here for status in states):
        folder = download_folder()
        place = next(one for one in (folder, *folder.absolute().parents) if one.exists())
        lines.append(f"disk     {size_text(shutil.disk_usage(place).free)} free in {folder}")
    return lines


def weights_line(engine: Engine) -> str:
    """What to say of an engine that has no checkpoints; empty for the others."""
    return f"the {engine.name} engine needs no checkpoints" if engine.name in WEIGHTLESS_ENGINES else ""
