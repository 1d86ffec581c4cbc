"""From samples to jobs: which image or which finished scaffold each variant starts from.

A variant takes the first of `original_path`, `path` and `VARIANT/filename` that exists. A sample without variants
becomes one job of the variant `default`: from `scaffold.scaffold_path`, else from `scaffold.input_image`, else from
`images/INDEX.*` or `images/index_XXXX.*`; where views are made from text, else from its prompts or theme alone. What
cannot be found is skipped and says why.

Example:
    >>> found = resolve_jobs(dataset)
    >>> found.jobs[0].image
    PosixPath('data/curated_set/photorealistic/scene0_photo.png')
    >>> found.skipped
    (SkippedVariant(index=3, variant='stylized', reason='original_path "stylized/3.png": it does not exist'),)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from worldexplorer.dataset.job import DEFAULT_VARIANT, Job, expansion_overrides, scaffold_overrides
from worldexplorer.dataset.load import FALLBACK_FOLDER, Dataset
from worldexplorer.dataset.paths import IMAGE_SUFFIXES, is_url
from worldexplorer.dataset.schema import SampleEntry, VariantEntry, describe
from worldexplorer.dataset.tally import Tally
from worldexplorer.errors import UsageError
from worldexplorer.layout import sample_name
from worldexplorer.selection import IndexSelection, format_indices

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass(frozen=True, slots=True)
class SkippedVariant:
    """A variant that has nothing to start from, and why."""

    index: int
    variant: str
    reason: str


@dataclass(frozen=True)
class JobList:
    """What a batch will do.

    Attributes:
        jobs: by index, and within a sample photorealistic, stylized, default.
        skipped: variants without a job, in the same order.
        warnings: one line each, for a person.
    """

    jobs: tuple[Job, ...]
    skipped: tuple[SkippedVariant, ...]
    warnings: tuple[str, ...]


def resolve_jobs(dataset: Dataset, selection: IndexSelection | None = None, *, from_text: bool = False) -> JobList:
    """Find what every selected sample starts from.

    Args:
        dataset: from :func:`~worldexplorer.dataset.load.load_dataset`.
        selection: the samples to take; None for all.
        from_text: whether a sample that names no picture is a job all the same, of the variant `default`.

    Raises:
        UsageError: the selection names an index or a range without any sample.
    """
    samples: Sequence[SampleEntry] = dataset.samples
    if selection is not None:
        selection.require([sample.index for sample in samples], where=dataset.where)
        samples = [sample for sample in samples if selection.contains(sample.index)]
    dataset.source.expect(_files_named(samples), _folders_named(samples))
    tally = Tally()
    found = [
        outcome for sample in samples for outcome in _Resolver(dataset, sample, tally, from_text=from_text).outcomes()
    ]
    jobs = tuple(outcome for outcome in found if isinstance(outcome, Job))
    skipped = tuple(outcome for outcome in found if isinstance(outcome, SkippedVariant))
    warnings = tally.lines()
    without = {sample.index for sample in samples} - {job.index for job in jobs}
    if without:
        warnings.append(f"samples without any job: {format_indices(without)}")
    return JobList(jobs, skipped, tuple(warnings))


def require_jobs(found: JobList, dataset: Dataset) -> None:
    """Refuse a batch without jobs.

    Raises:
        UsageError: there is no job; says what a sample needs and why the first of the variants was skipped.
    """
    if found.jobs:
        return
    first = found.skipped[0]
    raise UsageError(
        f"No jobs to run: nothing to start from was found for any of {len(found.skipped):,} variants, the first being "
        f"sample {first.index}, {first.variant}: {first.reason}",
        where=dataset.where,
        remedy="give each sample at least one image that exists: as photorealistic.original_path or "
        "stylized.original_path (or path), as scaffold.input_image, or as a file in the data set's folder images/ "
        "named after the index, such as images/0.png",
    )


def _files_named(samples: Sequence[SampleEntry]) -> Iterator[str]:
    for sample in samples:
        for name, entry in sample.variants():
            yield from (path for _, path in entry.image_paths(name))
        if sample.scaffold is not None and sample.scaffold.input_image is not None:
            yield sample.scaffold.input_image


def _folders_named(samples: Sequence[SampleEntry]) -> Iterator[str]:
    for sample in samples:
        for entry in (sample.photorealistic, sample.stylized, sample.scaffold):
            if entry is not None and entry.scaffold_path is not None:
                yield entry.scaffold_path


class _Resolver:
    """Finds what the variants of one sample start from."""

    def __init__(self, dataset: Dataset, sample: SampleEntry, tally: Tally, *, from_text: bool) -> None:
        self._dataset = dataset
        self._from_text = from_text
        self._sample = sample
        self._tally = tally

    def outcomes(self) -> Iterator[Job | SkippedVariant]:
        """A job or a reason for each variant."""
        variants = self._sample.variants()
        for name, entry in variants:
            yield self._variant(name, entry)
        if not variants:
            yield self._default()

    def _variant(self, name: str, entry: VariantEntry) -> Job | SkippedVariant:
        image, reason = self._first_file(entry.image_paths(name), f"sample {self._sample.index}, {name}")
        if reason is not None:
            return SkippedVariant(self._sample.index, name, reason)
        return self._job(name, image, entry.scaffold_path)

    def _default(self) -> Job | SkippedVariant:
        scaffold = self._sample.scaffold
        scaffold_path = scaffold.scaffold_path if scaffold is not None else None
        input_image = scaffold.input_image if scaffold is not None else None
        candidates = [("scaffold.input_image", input_image)] if input_image is not None else []
        if scaffold_path is None:
            candidates += self._fallback_images()
            if not candidates and not self._from_text:
                names = (
                    f"{FALLBACK_FOLDER}/{self._sample.index}.*, {FALLBACK_FOLDER}/{sample_name(self._sample.index)}.*"
                )
                nothing = f"it names no image, and there is none of {names} ({' '.join(IMAGE_SUFFIXES)})"
                return SkippedVariant(self._sample.index, DEFAULT_VARIANT, nothing)
        image, reason = self._first_file(candidates, f"sample {self._sample.index}")
        if reason is not None:
            return SkippedVariant(self._sample.index, DEFAULT_VARIANT, reason)
        return self._job(DEFAULT_VARIANT, image, scaffold_path)

    def _fallback_images(self) -> list[tuple[str, str]]:
        """Files of the folder `images` that carry the sample's index, in order of precedence."""
        stems = (str(self._sample.index), sample_name(self._sample.index))
        names = [name for stem in stems for name in self._dataset.fallback_images.get(stem, ())]
        if len(names) > 1:
            place = f"sample {self._sample.index}: {', '.join(names)}"
            self._tally.add(f"several images in {FALLBACK_FOLDER}/ for one sample, the first taken", place)
        return [(f"image in {FALLBACK_FOLDER}/", f"{FALLBACK_FOLDER}/{name}") for name in names]

    def _first_file(self, candidates: list[tuple[str, str]], place: str) -> tuple[Path | None, str | None]:
        """The first of the (key, path) `candidates` that is a file, and why none is; (None, None) without any."""
        reasons: list[str] = []
        for key, path in candidates:
            located, reason = self._dataset.source.find_file(path)
            if reason is None:
                for missing, _ in candidates[: len(reasons)]:
                    self._tally.add(f"{missing} names no file that can be read, {key} taken", place)
                return Path(located), None
            hint = "; URLs are not fetched, download the image into the data set" if is_url(path) else ""
            reasons.append(f"{key} {describe(path)}: {reason}{hint}")
        return None, "; ".join(reasons) or None

    def _job(self, variant: str, image: Path | None, scaffold_path: str | None) -> Job | SkippedVariant:
        sample = self._sample
        folder = None
        if scaffold_path is not None:
            located, reason = self._dataset.source.find_folder(scaffold_path)
            if reason is not None:
                return SkippedVariant(sample.index, variant, f"scaffold_path {describe(scaffold_path)}: {reason}")
            folder = Path(located)
        return Job(
            index=sample.index,
            variant=variant,
            image=image,
            scaffold_path=folder,
            scene_type=sample.scene_type or None,
            category=sample.category or None,
            theme=sample.theme or None,
            scaffold=scaffold_overrides(sample.scaffold),
            expansion=expansion_overrides(sample.expansion),
        )
