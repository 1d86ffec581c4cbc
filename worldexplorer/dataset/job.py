"""A job: one sample in one variant, what it starts from and what its sample says about it.

Example:
    >>> job.id, job.image
    (JobId(index=7, variant='photorealistic'), PosixPath('data/curated_set/photorealistic/7.png'))
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from worldexplorer.dataset.schema import ExpansionEntry, ScaffoldEntry
from worldexplorer.errors import UserError
from worldexplorer.layout import JobId

DEFAULT_VARIANT = "default"


@dataclass(frozen=True, slots=True)
class ScaffoldOverrides:
    """What a sample says about stage 1; None where it says nothing and the command decides."""

    mode: str | None = None
    custom: bool | None = None
    prompts: tuple[str, ...] | None = None
    """Four texts: North, West, South, East."""


@dataclass(frozen=True, slots=True)
class ExpansionOverrides:
    """What a sample says about stage 2; None where it says nothing and the command decides."""

    translation_scaling_factor: float | None = None
    trajectory_order: tuple[str, ...] | None = None
    num_images_for_vggt: int | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One sample in one variant; `image` and `scaffold_path` exist where given. A job of text alone has neither."""

    index: int
    variant: str
    image: Path | None
    scaffold_path: Path | None
    """A folder with eight finished views, which takes the place of stage 1."""
    scene_type: str | None
    category: str | None
    theme: str | None
    scaffold: ScaffoldOverrides
    expansion: ExpansionOverrides
    unfetched: UserError | None = None
    """Why a file that it starts from could not be brought to this machine; the stage that reads it fails with this."""

    @property
    def id(self) -> JobId:
        """What names the job's folder."""
        return JobId(self.index, self.variant)


def scaffold_overrides(entry: ScaffoldEntry | None) -> ScaffoldOverrides:
    """What a sample's `scaffold` says about stage 1."""
    if entry is None:
        return ScaffoldOverrides()
    return ScaffoldOverrides(entry.mode, entry.custom, tuple(entry.prompts) if entry.prompts is not None else None)


def expansion_overrides(entry: ExpansionEntry | None) -> ExpansionOverrides:
    """What a sample's `expansion` says about stage 2."""
    if entry is None:
        return ExpansionOverrides()
    order = tuple(entry.trajectory_order) if entry.trajectory_order is not None else None
    return ExpansionOverrides(entry.translation_scaling_factor, order, entry.num_images_for_vggt)
