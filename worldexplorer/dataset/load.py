"""Reading a data set: the file, its structure, its paths; everything wrong with them in one error.

Nothing is guessed and nothing runs on a half-understood file: a structure error is a
:class:`~worldexplorer.errors.UsageError` that lists the places. What is merely odd becomes a warning.

Example:
    >>> dataset = load_dataset("data/curated_set", confine_paths=True)
    >>> len(dataset.samples), dataset.warnings
    (50, ('unknown key samples[].author ignored (50 times, first at samples[0].author)',))
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from worldexplorer.config import PUBLISHED_TRAJECTORIES
from worldexplorer.dataset.paths import IMAGE_SUFFIXES
from worldexplorer.dataset.schema import MetadataFile, SampleEntry, check_structure, describe, unknown_keys
from worldexplorer.dataset.source import Source, open_source
from worldexplorer.dataset.tally import Tally
from worldexplorer.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from worldexplorer.dataset.job import Job

METADATA_NAME = "metadata.json"
METADATA_SIZE_LIMIT = 64 * 2**20
"""Bytes; a file of this size or more is refused unread."""
FALLBACK_FOLDER = "images"

_PROBLEMS_SHOWN = 10
_CORRECT = "correct {places} and run the same command again"
_KEEP_INSIDE = "copy what it needs into the data set, and name it by a path relative to the data set"
_NAME_THE_FOLDER = f"let --dataset_dir name the folder that holds {METADATA_NAME}"


@dataclass(frozen=True)
class Dataset:
    """A data set whose structure is sound.

    Attributes:
        samples: in ascending order of their indices, at least one.
        warnings: one line each, for a person.
        source: where it lies; finds the paths of the samples and brings them to this machine.
        fallback_images: file names in `images/` by lower-case stem, in order of precedence; empty where every sample
            has a variant.
    """

    samples: tuple[SampleEntry, ...]
    warnings: tuple[str, ...]
    source: Source = field(repr=False)
    fallback_images: Mapping[str, tuple[str, ...]] = field(repr=False)

    @property
    def where(self) -> str:
        """The path or URI of its `metadata.json`, for messages."""
        return self.source.where(METADATA_NAME)

    def fetch(self, jobs: Sequence[Job]) -> Sequence[Job]:
        """Bring what these jobs start from to this machine, in parallel; nothing to do for a folder.

        Returns:
            The jobs in their order; those for which a file could not be had say so in `unfetched`.

        Raises:
            UsageError: the data set cannot be read any more.
            TransientError: its bucket does not answer.
        """
        return self.source.fetch(jobs)


def load_dataset(
    dataset_dir: Path | str, confine_paths: bool, trajectory_names: Collection[str] | None = None
) -> Dataset:
    """Read `metadata.json` and check all of it.

    Args:
        dataset_dir: the data set's folder, or `gs://BUCKET/PREFIX` as a text: a path would lose one of the slashes.
        confine_paths: refuse paths that lead out of the folder, and URLs; a bucket's data set may never use them.
        trajectory_names: what `expansion.trajectory_order` may name; None for the built-in trajectories.

    Raises:
        UsageError: the folder or the file is missing or unreadable, not JSON, 64 MiB or more, or not structured as
            a data set.
    """
    source = open_source(dataset_dir, confine_paths=confine_paths)
    if (reason := source.why_not_there()) is not None:
        raise UsageError(f"Dataset directory not found: {reason}", where=source.uri, remedy=_NAME_THE_FOLDER)
    where = source.where(METADATA_NAME)
    if (refusal := source.refusal(METADATA_NAME)) is not None:
        raise _structure_error([f"{METADATA_NAME} {refusal}"], where, _KEEP_INSIDE)
    document = _parse(source, where)
    metadata = check_structure(document, PUBLISHED_TRAJECTORIES if trajectory_names is None else trajectory_names)
    if isinstance(metadata, list):
        raise _structure_error(metadata, where)
    if misplaced := _misplaced_scaffolds(metadata):
        raise _structure_error(misplaced, where)
    needs_fallback = any(not sample.variants() for sample in metadata.samples)
    if refused := _refused_paths(metadata, source, needs_fallback):
        raise _structure_error(refused, where, _KEEP_INSIDE)
    return Dataset(
        samples=tuple(sorted(metadata.samples, key=lambda sample: sample.index)),
        warnings=tuple(_warnings(document, metadata)),
        source=source,
        fallback_images=_list_fallback_images(source) if needs_fallback else {},
    )


def _parse(source: Source, where: str) -> object:
    """The parsed JSON text of the file."""
    size, reason = source.size(METADATA_NAME)
    if reason is not None:
        raise UsageError(f"the data set's {METADATA_NAME} is not there: {reason}", where=where, remedy=_NAME_THE_FOLDER)
    if size >= METADATA_SIZE_LIMIT:
        raise UsageError(
            f"{METADATA_NAME} has {size:,} bytes; it must stay under {METADATA_SIZE_LIMIT:,}",
            where=where,
            remedy="split the data set into several folders",
        )
    try:
        return json.loads(source.read(METADATA_NAME).decode("utf-8-sig"))
    except PermissionError as error:
        what, remedy = f"{METADATA_NAME} cannot be read: {error.strerror}", "give yourself read permission"
    except UnicodeDecodeError as error:
        what, remedy = f"{METADATA_NAME} is not UTF-8 text", "save it as UTF-8"
        where = f"{where}, byte {error.start + 1}"
    except json.JSONDecodeError as error:
        what, where = f"{METADATA_NAME} is not JSON: {error.msg}", f"{where}, line {error.lineno}, column {error.colno}"
        remedy = "correct the text there; often a comma or a quotation mark is missing or one too many"
    except RecursionError:
        what, remedy = f"{METADATA_NAME} is nested too deeply", "remove the needless brackets"
    except ValueError:  # the interpreter refuses integers of thousands of digits
        what, remedy = f"{METADATA_NAME} holds a number of thousands of digits", "write a shorter number"
    raise UsageError(what, where=where, remedy=remedy)


def _structure_error(problems: list[str], where: str, remedy: str = "") -> UsageError:
    """One error for all the `problems` of a file; each of them starts with its JSON path."""
    if len(problems) == 1:
        return UsageError(problems[0], where=where, remedy=remedy or _CORRECT.format(places="this place"))
    lines = [f"{METADATA_NAME} has {len(problems):,} problems:", *problems[:_PROBLEMS_SHOWN]]
    if len(problems) > _PROBLEMS_SHOWN:
        lines.append(f"... and {len(problems) - _PROBLEMS_SHOWN:,} more")
    what = "\n  ".join(lines) + "\n"
    return UsageError(what, where=where, remedy=remedy or _CORRECT.format(places="these places"))


def _misplaced_scaffolds(metadata: MetadataFile) -> list[str]:
    """Samples whose one scaffold could belong to either of their variants."""
    problems = []
    for position, sample in enumerate(metadata.samples):
        variants = [name for name, _ in sample.variants()]
        if variants and sample.scaffold is not None and sample.scaffold.scaffold_path is not None:
            problems.append(
                f"samples[{position}].scaffold.scaffold_path stands beside {' and '.join(variants)} and does not say "
                f"whose views it holds: put it inside, as samples[{position}].{variants[0]}.scaffold_path"
            )
    return problems


def _refused_paths(metadata: MetadataFile, source: Source, needs_fallback: bool) -> list[str]:
    """Paths that a confined data set may not use."""
    problems = []

    def check_file(place: str, path: str | None) -> None:
        if path is not None and (reason := source.refusal(path)) is not None:
            problems.append(f"{place} {reason}: {describe(path)}")

    def check_folder(place: str, path: str | None) -> None:
        check_file(place, path)
        if path is None or source.refusal(path) is not None:
            return
        reason = source.refusal_of_links(path) or source.refusal_of_links(f"{path}/final")
        if reason is not None:
            problems.append(f"{place} {reason}: {describe(path)}")

    for position, sample in enumerate(metadata.samples):
        for name, entry in sample.variants():
            for key, path in entry.image_paths(name):
                check_file(f"samples[{position}].{name}.{key}", path)
            check_folder(f"samples[{position}].{name}.scaffold_path", entry.scaffold_path)
        if sample.scaffold is not None:
            check_file(f"samples[{position}].scaffold.input_image", sample.scaffold.input_image)
            check_folder(f"samples[{position}].scaffold.scaffold_path", sample.scaffold.scaffold_path)
    if needs_fallback:
        check_folder("the folder of fallback images", FALLBACK_FOLDER)
    return problems


def _warnings(document: object, metadata: MetadataFile) -> list[str]:
    tally = Tally()
    for pattern, place in unknown_keys(document):
        tally.add(f"unknown key {pattern} ignored", place)
    for position, sample in enumerate(metadata.samples):
        for name, entry in (("photorealistic", sample.photorealistic), ("stylized", sample.stylized)):
            if entry is not None and not entry.says_something:
                tally.add(
                    f"{name} without original_path, path, filename or scaffold_path ignored", f"samples[{position}]"
                )
    return tally.lines()


def _list_fallback_images(source: Source) -> dict[str, tuple[str, ...]]:
    """Image files of the folder for fallback images by lower-case stem, listed once for all samples."""
    source.expect([], [FALLBACK_FOLDER])
    found: dict[str, list[str]] = {}
    for name in source.names(FALLBACK_FOLDER):
        stem, suffix = os.path.splitext(name.lower())  # noqa: PTH122  (a Path for each of many files is slow)
        if suffix in IMAGE_SUFFIXES:
            found.setdefault(stem, []).append(name)

    def precedence(name: str) -> tuple[int, str]:
        return IMAGE_SUFFIXES.index(os.path.splitext(name.lower())[1]), name  # noqa: PTH122

    return {stem: tuple(sorted(names, key=precedence)) for stem, names in found.items()}
