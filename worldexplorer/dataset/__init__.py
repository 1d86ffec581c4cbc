"""The curated data set: `metadata.json` and the images it names, turned into jobs.

:func:`load_dataset` reads and checks the whole description before anything runs and reports all that is wrong with it
in one error; :func:`resolve_jobs` finds the images and makes one job a variant; :func:`require_jobs` refuses an empty
batch. Images are looked for, not opened: that is :mod:`worldexplorer.photo`'s work. The images of a data set in a
bucket come to this machine with :meth:`Dataset.fetch`, or, one job's on another machine, by way of
:mod:`worldexplorer.dataset.handover`.

Example:
    >>> dataset = load_dataset("data/curated_set", confine_paths=False)
    >>> jobs = resolve_jobs(dataset, IndexSelection.parse(["0-24"]))
    >>> [(job.index, job.variant) for job in jobs.jobs]
    [(0, 'photorealistic'), (0, 'stylized'), (5, 'default')]
"""

from __future__ import annotations

from worldexplorer.dataset.job import ExpansionOverrides, Job, ScaffoldOverrides
from worldexplorer.dataset.jobs import JobList, SkippedVariant, require_jobs, resolve_jobs
from worldexplorer.dataset.load import METADATA_SIZE_LIMIT, Dataset, load_dataset

__all__ = [
    "METADATA_SIZE_LIMIT",
    "Dataset",
    "ExpansionOverrides",
    "Job",
    "JobList",
    "ScaffoldOverrides",
    "SkippedVariant",
    "load_dataset",
    "require_jobs",
    "resolve_jobs",
]
