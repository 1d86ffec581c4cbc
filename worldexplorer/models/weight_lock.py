"""Pinning weights: asks the hub for revisions, sizes and checksums, and writes them into the list of weights.

The hub's listing holds the checksum of every large file. Small ones lie in git, which knows other checksums: they are
downloaded and hashed. Nothing is written that the hub did not say or that was not hashed here.

Example:
    >>> pinned = locked(weight_sets()["seva"], newest=False)
    >>> write_list(WEIGHTS_LIST, {**weight_sets(), "seva": pinned})
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from worldexplorer.checksum import file_sha256
from worldexplorer.errors import DamagedInputError, TransientError, UserError
from worldexplorer.models.weights import OFFLINE_VARIABLE, WeightSet, hub_errors, hub_token, is_offline

_PICKLED = re.compile(r"(pytorch_)?(?P<stem>[^/]*)\.bin$")
_ORDER = (
    "role",
    "repository",
    "revision",
    "licence",
    "gated",
    "permissive",
    "instead",
    "stages",
    "needed",
    "patterns",
    "files",
    "sizes",
)
_LEFT_OUT_WHERE_EMPTY = ("instead", "patterns")


def locked(weights: WeightSet, *, newest: bool) -> WeightSet:
    """The set with its revision, all its files, their sizes and their checksums.

    Args:
        weights: the set; a revision that it has is kept.
        newest: take the newest revision instead.

    Raises:
        UserError: the hub refuses the repository, lacks a file, or is not to be asked.
        DamagedInputError: a checksum that is pinned already is another one.
        TransientError: the hub does not answer.
    """
    if is_offline():
        raise UserError(
            f"{OFFLINE_VARIABLE} is set, and only the hub knows what is to be pinned",
            where=weights.repository,
            remedy=f"unset {OFFLINE_VARIABLE} on a machine that reaches the hub",
        )
    with hub_errors(weights, ""), _network_errors(weights):
        revision, sizes, known = _listing(weights, None if newest else weights.revision)
        wanted = _preferred([path for path in sizes if weights.wants(path)])
        absent = [name for name in weights.files if name not in sizes]
        if absent:
            raise UserError(
                f"the repository has no {', '.join(absent)}",
                where=f"{weights.page} at {revision}",
                remedy="name the right files in weights.json",
            )
        files = {path: known[path] or _hashed(weights, revision, path) for path in sorted(wanted)}
    if revision == weights.revision:
        _require_unchanged(weights, files)
    return replace(weights, revision=revision, files=files, sizes={path: sizes[path] for path in files})


def write_list(path: Path, sets: Mapping[str, WeightSet]) -> None:
    """Write a list of weights, whole or not at all.

    Raises:
        UserError: the file cannot be written.
    """
    text = json.dumps({name: _facts(one) for name, one in sets.items()}, indent=2) + "\n"
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".weights-")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except PermissionError as error:
        raise UserError(
            "the list of weights cannot be written", where=str(path), remedy="name another file with --list"
        ) from error


def _facts(weights: WeightSet) -> dict[str, Any]:
    """A set as the list has it: without its name, and without what is empty and says nothing."""
    facts = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(weights).items()}
    return {name: facts[name] for name in _ORDER if facts[name] or name not in _LEFT_OUT_WHERE_EMPTY}


def _listing(weights: WeightSet, revision: str | None) -> tuple[str, dict[str, int], dict[str, str | None]]:
    """A commit, its files' sizes, and their checksums as far as the hub knows them."""
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    hub = HfApi(token=hub_token())
    commit = hub.model_info(weights.repository, revision=revision).sha
    if commit is None:
        raise TransientError("the hub names no revision", where=weights.page, remedy="run it again")
    tree = hub.list_repo_tree(weights.repository, recursive=True, revision=commit)
    files = [entry for entry in tree if isinstance(entry, RepoFile)]
    checksums = {entry.path: entry.lfs.sha256 if entry.lfs is not None else None for entry in files}
    return commit, {entry.path: entry.size for entry in files}, checksums


def _hashed(weights: WeightSet, revision: str, path: str) -> str:
    from huggingface_hub import hf_hub_download

    with tempfile.TemporaryDirectory(prefix="worldexplorer-lock-") as scratch:  # no half of a model stays in the cache
        copy = hf_hub_download(weights.repository, path, revision=revision, cache_dir=scratch, token=hub_token())
        return file_sha256(Path(copy))


def _preferred(paths: list[str]) -> list[str]:
    """Without pickled weights where the same ones are there as safetensors."""
    there = set(paths)
    return [path for path in paths if not ((match := _PICKLED.search(path)) and _as_safetensors(path, match) in there)]


def _as_safetensors(path: str, match: re.Match[str]) -> str:
    return f"{path[: match.start()]}{match['stem']}.safetensors"


def _require_unchanged(weights: WeightSet, files: Mapping[str, str]) -> None:
    for path, before in weights.files.items():
        if before is not None and files.get(path) != before:
            raise DamagedInputError(
                f"the hub says sha256 {files.get(path)}, and {before} is pinned for the same revision",
                where=f"{weights.page} {path} at {weights.revision}",
                remedy="do not use it before it is known who changed what",
            )


@contextmanager
def _network_errors(weights: WeightSet) -> Iterator[None]:
    """The hub's client lets errors of the connection through."""
    try:
        yield
    except Exception as error:
        if type(error).__module__.split(".")[0] in ("httpx", "httpx2", "httpcore", "httpcore2"):
            raise TransientError(
                f"the hub cannot be reached ({type(error).__name__})",
                where=weights.page,
                remedy="connect to the network and run it again",
            ) from error
        raise
