"""Where the models' weights come from: a folder, a bucket or the model hub, at a pinned revision and checksum.

`weights.json` beside this module names them; `worldexplorer weights lock` pins them. The environment variable
WORLDEXPLORER_WEIGHTS names a folder or `gs://BUCKET/FOLDER` that is used instead of the hub, with a folder a set in it
(`seva/modelv1.1.safetensors`); `worldexplorer weights mirror` makes one. A checksum that is not pinned is not compared.
The hub's token comes from the environment (HF_TOKEN) alone. Nothing here needs torch.

Example:
    >>> files = local_files(weight_sets()["seva"])
    >>> files["modelv1.1.safetensors"]
    PosixPath('.../hub/models--stabilityai--stable-virtual-camera/.../modelv1.1.safetensors')
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from worldexplorer.checksum import file_sha256
from worldexplorer.errors import DamagedInputError, TransientError, UserError
from worldexplorer.storage import BUCKET_SCHEME, NotFoundError, open_storage

SOURCE_VARIABLE = "WORLDEXPLORER_WEIGHTS"
CACHE_VARIABLE = "WORLDEXPLORER_CACHE"
TOKEN_VARIABLE = "HF_TOKEN"  # noqa: S105 (a variable's name)
OFFLINE_VARIABLE = "HF_HUB_OFFLINE"
WEIGHTS_LIST = Path(__file__).with_name("weights.json")
_HUB_PACKAGE = "huggingface_hub"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WeightSet:
    """Files of one model.

    Attributes:
        name: of its folder in a source that is not the hub.
        role: what it is for.
        repository: on the hub.
        revision: commit on the hub; None for the newest.
        licence: of the weights.
        gated: whether the hub gives it only to those who have accepted its licence.
        files: path in the repository -> sha256, None where it is not pinned. Where there are `patterns` and no
            revision, only those that tell whether the set is there.
        permissive: whether the licence allows any use.
        instead: what to say to the command for a permissive model in its place; empty where there is none.
        stages: that use it.
        needed: when, in words.
        patterns: of the files a model consists of, where only a listing of the repository names them all.
        sizes: path in the repository -> bytes, as far as they are known.
    """

    name: str
    role: str
    repository: str
    revision: str | None
    licence: str
    gated: bool
    files: Mapping[str, str | None]
    permissive: bool = False
    instead: str = ""
    stages: tuple[int, ...] = ()
    needed: str = "always"
    patterns: tuple[str, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)

    @property
    def page(self) -> str:
        """Where the hub describes it."""
        return f"https://huggingface.co/{self.repository}"

    @property
    def listed(self) -> bool:
        """Whether `files` names every file."""
        return not self.patterns or self.revision is not None

    def wants(self, path: str) -> bool:
        """Whether a file of the repository belongs to the set."""
        return path in self.files or any(fnmatchcase(path, pattern) for pattern in self.patterns)


@cache
def weight_sets() -> Mapping[str, WeightSet]:
    """Every set, by name."""
    return read_list(WEIGHTS_LIST)


def read_list(path: Path) -> dict[str, WeightSet]:
    """The sets that a file names."""
    return {name: _read_set(name, facts) for name, facts in json.loads(path.read_text(encoding="utf-8")).items()}


def _read_set(name: str, facts: Mapping[str, object]) -> WeightSet:
    named = {key: tuple(value) if isinstance(value, list) else value for key, value in facts.items()}
    return WeightSet(name=name, **named)  # type: ignore[arg-type]


def cache_folder() -> Path:
    """Where this program keeps downloads and compiled kernels, outside any run's results."""
    named = os.environ.get(CACHE_VARIABLE)
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "worldexplorer"


def local_files(weights: WeightSet) -> dict[str, Path]:
    """Local copies of the files that a set names, downloaded where they are not here yet.

    Raises:
        UserError: a file is not in the folder or bucket that was named, or the hub refuses it.
        DamagedInputError: a file's checksum is not the pinned one.
        TransientError: the hub does not answer.
    """
    source = os.environ.get(SOURCE_VARIABLE)
    if source is None:
        found = {name: _from_hub(weights, name) for name in weights.files}
    elif source.startswith(BUCKET_SCHEME):
        found = _from_bucket(weights, source, list(weights.files))
    else:
        found = {name: _from_folder(weights, Path(source), name) for name in weights.files}
    for name, expected in weights.files.items():
        if expected is not None:
            verify_file(found[name], expected)
    return found


def all_files(weights: WeightSet) -> dict[str, Path]:
    """Local copies of all files of a set, those included that only a listing of their source names.

    Raises:
        UserError, DamagedInputError, TransientError: as :func:`local_files`.
    """
    if weights.listed:
        return local_files(weights)
    source = os.environ.get(SOURCE_VARIABLE)
    if source is None:
        folder = _snapshot(weights)
    elif source.startswith(BUCKET_SCHEME):
        return local_files(weights) | _from_bucket(weights, source, _bucket_listing(weights, source))
    else:
        folder = Path(source) / weights.name
    below = (path for path in sorted(folder.rglob("*")) if path.is_file())
    named = {path.relative_to(folder).as_posix(): path for path in below}
    return local_files(weights) | {name: path for name, path in named.items() if weights.wants(name)}


def local_folder(weights: WeightSet) -> Path:
    """The folder in which all files of a set lie by their paths in the repository, downloaded where it is not here.

    Raises:
        UserError, DamagedInputError, TransientError: as :func:`local_files`.
    """
    name, path = next(iter(all_files(weights).items()))
    return path.parents[name.count("/")]


def what_is_missing(weights: WeightSet) -> str | None:
    """Why a set cannot be had here, one sentence; None where it is here or can be downloaded. Downloads nothing."""
    source = os.environ.get(SOURCE_VARIABLE)
    if source is not None:
        if source.startswith(BUCKET_SCHEME):
            return None  # what a bucket lacks is said when it is fetched
        folder = Path(source) / weights.name
        absent = [name for name in weights.files if not (folder / name).is_file()]
        return f"{weights.role}: {folder} lacks {', '.join(absent)} ({SOURCE_VARIABLE})" if absent else None
    if importlib.util.find_spec(_HUB_PACKAGE) is None:
        return None  # the check of packages says so
    if all(_cached(weights, name) for name in weights.files):
        return None
    where = f"{weights.role}: the weights of {weights.repository} are not on this machine"
    if is_offline():
        return f"{where}, and {OFFLINE_VARIABLE} keeps them from being downloaded"
    if weights.gated and not _has_token():
        return f"{where}; accept their licence at {weights.page} and set {TOKEN_VARIABLE}"
    return None


def is_offline() -> bool:
    """Whether the environment keeps this program from the hub."""
    return os.environ.get(OFFLINE_VARIABLE, "") not in ("", "0")


def files_here(weights: WeightSet) -> dict[str, Path]:
    """Those files of a set that are on this machine; nothing is downloaded, nothing is hashed."""
    source = os.environ.get(SOURCE_VARIABLE)
    if source is not None:
        bucket = source.startswith(BUCKET_SCHEME)
        folder = (cache_folder() / "weights" if bucket else Path(source)) / weights.name
    elif (snapshot := _cached_snapshot(weights)) is not None:
        folder = snapshot
    else:
        return {}
    below = (path for path in sorted(folder.rglob("*")) if path.is_file())
    named = {path.relative_to(folder).as_posix(): path for path in below}
    return {name: path for name, path in named.items() if weights.wants(name)}


def _from_folder(weights: WeightSet, root: Path, name: str) -> Path:
    path = root / weights.name / name
    if not path.is_file():
        raise UserError(
            "a weight file is missing",
            where=str(path),
            remedy=f"copy {name} of {weights.repository} there, or unset {SOURCE_VARIABLE} to download it",
        )
    return path


def _from_bucket(weights: WeightSet, source: str, names: list[str]) -> dict[str, Path]:
    keys = [f"{weights.name}/{name}" for name in names]
    scratch = cache_folder() / "weights"
    here = {key: scratch / key for key in keys}
    wanted = [key for key in keys if not here[key].is_file()]
    try:
        copies = open_storage(source).local_copies(wanted, scratch) if wanted else []
    except NotFoundError as error:
        raise UserError(
            "a weight file is missing in the bucket",
            where=error.where or source,
            remedy=f"copy the files of {weights.repository} to {source}/{weights.name}",
        ) from error
    here |= dict(zip(wanted, copies, strict=True))
    return {name: here[key] for name, key in zip(names, keys, strict=True)}


def _bucket_listing(weights: WeightSet, source: str) -> list[str]:
    start = f"{weights.name}/"
    names = (one.key.removeprefix(start) for one in open_storage(source).list(weights.name))
    return [name for name in names if weights.wants(name)]


def _from_hub(weights: WeightSet, name: str) -> Path:
    from huggingface_hub import hf_hub_download

    if weights.revision is None:
        _log.warning("the revision of %s is not pinned: the newest one is taken", weights.repository)
    with hub_errors(weights, name):
        return Path(hf_hub_download(weights.repository, name, revision=weights.revision, token=hub_token()))


def _snapshot(weights: WeightSet) -> Path:
    from huggingface_hub import snapshot_download

    _log.warning("the files of %s are not pinned: the newest ones are taken", weights.repository)
    patterns = [*weights.files, *weights.patterns]
    with hub_errors(weights, ""):
        return Path(snapshot_download(weights.repository, allow_patterns=patterns, token=hub_token()))


@contextmanager
def hub_errors(weights: WeightSet, name: str) -> Iterator[None]:
    """Turn what the hub's client raises into errors that say what to do."""
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    where = f"{weights.page} {name}".rstrip() + (f" at {weights.revision}" if weights.revision else "")
    try:
        yield
    except GatedRepoError as error:
        raise UserError(
            "the hub gives these weights only to those who accepted their licence",
            where=where,
            remedy=f"accept it at {weights.page} and set {TOKEN_VARIABLE} to a token of that account",
        ) from error
    except LocalEntryNotFoundError as error:
        raise TransientError(
            "a weight file is not on this machine and could not be downloaded",
            where=where,
            remedy=f"connect to the network, unset {OFFLINE_VARIABLE}, or name a folder that has it in "
            f"{SOURCE_VARIABLE}",
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError, EntryNotFoundError) as error:
        raise UserError(
            "the hub has no such weights, or hides them from this account",
            where=where,
            remedy=f"set {TOKEN_VARIABLE} if they are private; otherwise take another copy and name it in weights.json",
        ) from error
    except HfHubHTTPError as error:
        raise TransientError("the hub does not answer", where=where, remedy="run it again") from error


def hub_token() -> str | bool:
    """The token of the environment; False, which is none, where there is none: no other place is looked at."""
    return os.environ.get(TOKEN_VARIABLE, "").strip() or False


def _cached(weights: WeightSet, name: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(weights.repository, name, revision=weights.revision), str)


def _cached_snapshot(weights: WeightSet) -> Path | None:
    """The folder of the hub's cache in which some of a set's files lie."""
    if importlib.util.find_spec(_HUB_PACKAGE) is None:
        return None
    from huggingface_hub import try_to_load_from_cache

    for name in weights.files:
        found = try_to_load_from_cache(weights.repository, name, revision=weights.revision)
        if isinstance(found, str):
            return Path(found).parents[name.count("/")]
    return None


def _has_token() -> bool:
    return hub_token() is not False


def verify_file(path: Path, expected: str) -> None:
    """Compare a checksum; once for a file that stays as it is.

    Raises:
        DamagedInputError: it is another one.
    """
    facts = path.stat()
    mark = f"{path.resolve()} {facts.st_size} {facts.st_mtime_ns}"
    known = cache_folder() / "verified" / f"{expected}.txt"
    if known.is_file() and known.read_text() == mark:
        return
    found = file_sha256(path)
    if found != expected:
        raise DamagedInputError(
            f"a weight file has sha256 {found}, not {expected}",
            where=str(path),
            remedy="delete it so that it is downloaded again; if that does not help, the source has changed",
        )
    known.parent.mkdir(parents=True, exist_ok=True)
    known.write_text(mark)
