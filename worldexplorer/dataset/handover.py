"""A job handed to another machine: described in JSON by the plan, restored and supplied where it runs.

What it starts from is described by its path in the data set, or by an absolute path where it lies elsewhere. Whoever
restores it trusts nothing: values keep the bounds of `metadata.json`, and paths keep to the data set once more.

Example:
    >>> description = describe_job(job, dataset)
    >>> description
    {'index': 7, 'variant': 'photorealistic', 'image': 'photorealistic/7.png'}
    >>> job = restore_job(description, "gs://bucket/curated_set")
    >>> fetch_job("gs://bucket/curated_set", job)
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from worldexplorer.dataset.job import Job, expansion_overrides, scaffold_overrides
from worldexplorer.dataset.load import Dataset
from worldexplorer.dataset.schema import ExpansionEntry, Index, Label, PathText, ScaffoldEntry, StrictObject, describe
from worldexplorer.dataset.source import Source, open_source
from worldexplorer.errors import DefectError, UsageError

_REMEDY = "plan the run again, with one version of the program for all of it"


class _Description(StrictObject, extra="forbid"):
    index: Index
    variant: Literal["photorealistic", "stylized", "default"]
    image: PathText | None = None
    scaffold_path: PathText | None = None
    scene_type: Label | None = None
    category: Label | None = None
    theme: Label | None = None
    scaffold: ScaffoldEntry | None = None
    expansion: ExpansionEntry | None = None


def describe_job(job: Job, dataset: Dataset) -> dict[str, Any]:
    """A job as JSON values; what is not known of it is left out."""
    source = dataset.source
    description = {
        "index": job.index,
        "variant": job.variant,
        "image": None if job.image is None else source.relative(job.image),
        "scaffold_path": None if job.scaffold_path is None else source.relative(job.scaffold_path),
        "scene_type": job.scene_type,
        "category": job.category,
        "theme": job.theme,
        "scaffold": _known({"mode": job.scaffold.mode, "custom": job.scaffold.custom, "prompts": job.scaffold.prompts}),
        "expansion": _known(
            {
                "translation_scaling_factor": job.expansion.translation_scaling_factor,
                "trajectory_order": job.expansion.trajectory_order,
                "num_images_for_vggt": job.expansion.num_images_for_vggt,
            }
        ),
    }
    return _known(description)


def restore_job(
    description: Mapping[str, Any], dataset_dir: Path | str, *, confine_paths: bool = True, from_text: bool = False
) -> Job:
    """The job that was described, with places on this machine; in a bucket's mirror they are still empty.

    Args:
        description: from :func:`describe_job`.
        dataset_dir: the folder or bucket's folder of the data set, as this machine sees it.
        confine_paths: refuse paths that lead out of the data set; a bucket's are always refused.
        from_text: whether the run makes views from text, so that a job may do without any picture.

    Raises:
        DefectError: the description is not one of this version.
        UsageError: a path is refused, or the data set cannot be opened.
    """
    try:
        known = _Description.model_validate(description, context={"trajectory_names": _names(description)})
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in problem["loc"])
        raise DefectError(
            f"the description of a job cannot be read: {place}: {problem['msg']}", remedy=_REMEDY
        ) from None
    if known.image is None and known.scaffold_path is None and not from_text:
        raise DefectError("the description of a job names nothing to start from", remedy=_REMEDY)
    source = open_source(dataset_dir, confine_paths=confine_paths)
    return Job(
        index=known.index,
        variant=known.variant,
        image=_place(source, "image", known.image),
        scaffold_path=_place(source, "scaffold_path", known.scaffold_path),
        scene_type=known.scene_type,
        category=known.category,
        theme=known.theme,
        scaffold=scaffold_overrides(known.scaffold),
        expansion=expansion_overrides(known.expansion),
    )


def fetch_job(dataset_dir: Path | str, job: Job) -> None:
    """Bring what a restored job starts from to this machine; nothing to do for a folder.

    Raises:
        UserError: it cannot be had; says which file and why.
        UsageError: the data set cannot be opened.
    """
    (fetched,) = open_source(dataset_dir, confine_paths=False).fetch([job])
    if fetched.unfetched is not None:
        raise fetched.unfetched


def _place(source: Source, key: str, path: str | None) -> Path | None:
    if path is None:
        return None
    reason = source.refusal(path)
    if reason is None and key == "scaffold_path":
        reason = source.refusal_of_links(path) or source.refusal_of_links(f"{path}/final")
    if reason is not None:
        raise UsageError(f"{key} {reason}: {describe(path)}", where=source.uri, remedy=_REMEDY)
    return Path(source.place(path))


def _names(description: Mapping[str, Any]) -> tuple[str, ...]:
    """The trajectories that it names: which of them exist is for the stage to say."""
    expansion = description.get("expansion")
    order = expansion.get("trajectory_order") if isinstance(expansion, Mapping) else None
    return tuple(dict.fromkeys(name for name in order if isinstance(name, str))) if isinstance(order, list) else ()


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON values that say something."""
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in values.items()
        if value not in (None, {})
    }
