"""A batch of any size as runs that each fit into the cluster: contiguous ranges of whole samples.

A run's state is kept by the cluster in one object of limited size, so a run takes at most a hundred jobs. All runs of a
batch write to one `output_base`, where the summary counts them together.

Example:
    >>> [part.indices for part in split_samples({0: 2, 1: 2, 5: 1}, limit=4, existing=[0, 1, 5])]
    ['0-1', '5']
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from worldexplorer.dataset import load_dataset, require_jobs, resolve_jobs
from worldexplorer.dataset.load import METADATA_NAME
from worldexplorer.dataset.source import open_source
from worldexplorer.errors import UsageError, WorldExplorerError
from worldexplorer.pod.plan import MOST_JOBS
from worldexplorer.selection import IndexSelection

if TYPE_CHECKING:
    from collections.abc import Collection


@dataclass(frozen=True)
class Part:
    """What one run does.

    Attributes:
        indices: the samples, in the grammar of `--indices`; empty for all.
        jobs: how many jobs they are; None where nobody has counted.
    """

    indices: str
    jobs: int | None


@dataclass(frozen=True)
class JobCount:
    """How many jobs each selected sample of a data set is.

    Attributes:
        jobs: by sample index, ascending; 0 for a sample with nothing to start from.
        existing: every index of the data set, selected or not, ascending.
        warnings: what is odd about the data set, one line each.
    """

    jobs: Mapping[int, int]
    existing: Sequence[int]
    warnings: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """The jobs of all selected samples."""
        return sum(self.jobs.values())


def count_jobs(dataset_dir: str, indices: str, *, from_text: bool = False) -> JobCount:
    """Read a data set, local or `gs://`, as the cluster's planning pod will.

    Args:
        dataset_dir: its folder or URI.
        indices: the selection as typed, empty for every sample.
        from_text: whether the run makes views from text, so that a sample without any picture is a job too.

    Raises:
        UsageError: it is wrong, or cannot be read from here.
    """
    _require_readable(dataset_dir)
    dataset = load_dataset(dataset_dir, confine_paths=True)
    selection = IndexSelection.parse([indices]) if indices.strip() else None
    found = resolve_jobs(dataset, selection, from_text=from_text)
    require_jobs(found, dataset)
    existing = [sample.index for sample in dataset.samples]
    jobs = Counter(job.index for job in found.jobs)
    chosen = [index for index in existing if selection is None or selection.contains(index)]
    return JobCount({index: jobs[index] for index in chosen}, existing, (*dataset.warnings, *found.warnings))


def split_samples(jobs: Mapping[int, int], limit: int, existing: Sequence[int]) -> list[Part]:
    """Cut samples into runs of at most `limit` jobs; a sample's variants stay in one run.

    Args:
        jobs: how many jobs each selected sample is, by index.
        limit: the most jobs of a run.
        existing: every index of the data set; ranges leap over what is not there.

    Raises:
        UsageError: one sample alone is more jobs than a run takes.
    """
    groups: list[list[int]] = [[]]
    room = limit
    for index in sorted(jobs):
        if jobs[index] > limit:
            raise UsageError(
                f"sample {index} alone is {jobs[index]} jobs, and its variants stay in one run",
                where="--max_jobs_per_run",
                remedy=f"give at least {max(jobs.values())}",
            )
        if jobs[index] > room:
            groups.append([])
            room = limit
        groups[-1].append(index)
        room -= jobs[index]
    return [Part(ranges(group, existing), sum(jobs[index] for index in group)) for group in groups if group]


def ranges(chosen: Collection[int], existing: Sequence[int]) -> str:
    """The shortest text in the grammar of `--indices` that selects, of what exists, exactly `chosen`."""
    wanted = set(chosen)
    spans: list[tuple[int, int]] = []
    open_span = False
    for index in sorted(existing):
        if index not in wanted:
            open_span = False
        elif open_span:
            spans[-1] = (spans[-1][0], index)
        else:
            spans.append((index, index))
            open_span = True
    return " ".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)


def plan_parts(count: JobCount, indices: str, limit: int) -> list[Part]:
    """The runs of a batch; one that fits into one run keeps the selection as it was typed."""
    if not 1 <= limit <= MOST_JOBS:
        raise UsageError(
            f"max_jobs_per_run is {limit}",
            where="--max_jobs_per_run",
            remedy=f"give a number from 1 to {MOST_JOBS}: planning refuses larger runs",
        )
    if count.total <= limit:
        return [Part(indices, count.total)]
    return split_samples(count.jobs, limit, count.existing)


def _require_readable(dataset_dir: str) -> None:
    """Refuse a data set that is not there for this machine, whoever else may see it."""
    try:
        _, reason = open_source(dataset_dir, confine_paths=True).size(METADATA_NAME)
    except WorldExplorerError as error:
        reason = error.what
    if reason is not None:
        raise UsageError(
            f"the data set cannot be read from here, so its jobs cannot be counted: {METADATA_NAME}: {reason}",
            where=dataset_dir,
            remedy="correct --dataset_dir; where only the cluster can read it, add --no_split, which sends one run of "
            f"at most {MOST_JOBS} jobs (more by --indices)",
        )
