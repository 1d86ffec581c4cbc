"""`worldexplorer weights`: list, pin, download, check and copy the models' weights.

list     what each model is, its licence, size and gate, and whether it is here
lock     ask the hub for revisions, sizes and checksums, and write them into the list of weights
pull     download what the stages need, or the models that are named; goes on where it was interrupted
verify   hash what is here; exit code 1 where something is damaged or missing
mirror   copy it to a folder or gs://BUCKET/FOLDER, for machines that do not reach the hub

Example:
    >>> run(["pull", "--stages", "1", "--scaffold_method", "scaffold_gen"])
    0
"""

from __future__ import annotations

import os
import shutil
import tempfile
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path

from worldexplorer.checksum import file_sha256
from worldexplorer.cli.output import PlainConsole, plain
from worldexplorer.cli.parser import Parser, choose_from
from worldexplorer.cli.wording import plural
from worldexplorer.config import STAGE_NAMES, ScaffoldConfig, TrajectoryConfig
from worldexplorer.errors import UsageError
from worldexplorer.models.licences import require_permitted
from worldexplorer.models.picture_models import TextSettings, needed_weights
from worldexplorer.models.weight_lock import locked, write_list
from worldexplorer.models.weight_status import require_disk, size_text, weight_status
from worldexplorer.models.weights import (
    SOURCE_VARIABLE,
    WEIGHTS_LIST,
    WeightSet,
    all_files,
    files_here,
    read_list,
    weight_sets,
)
from worldexplorer.storage import Storage, open_storage

EXIT_DAMAGED = 1
_ACTIONS = {
    "list": "what each model is, and whether it is here",
    "lock": "pin revisions, sizes and checksums as the hub says them",
    "pull": "download what the stages need, or the models named",
    "verify": "hash what is here",
    "mirror": "copy to a folder or gs://BUCKET/FOLDER (--to)",
}
_CHOSEN_BY_FLAG = ("scaffold_method", "text_to_image", "inpaint", "geometry_model")


def run(argv: Sequence[str], program: str = "worldexplorer weights") -> int:
    """Do what the first word says; 1 where `verify` finds something damaged or missing."""
    words = _parser(program).parse_words(argv)
    if words.action is None:
        raise UsageError("no action", remedy=f"give one of {', '.join(_ACTIONS)}, such as {program} list")
    if words.action not in _ACTIONS:
        raise UsageError(f"unknown action {words.action!r}", remedy=choose_from(words.action, _ACTIONS))
    _refuse_unused_flags(words)
    console = PlainConsole()
    if words.action == "lock":
        return _lock(words, console)
    if (words.to is not None) != (words.action == "mirror"):
        missing = "--to is missing" if words.to is None else f"{words.action} takes no --to"
        raise UsageError(missing, remedy=f"give it as {program} mirror --to FOLDER")
    return {"list": _list, "pull": _pull, "verify": _verify, "mirror": _mirror}[words.action](words, console)


def _refuse_unused_flags(words: Namespace) -> None:
    """UsageError where a flag is given that the action, or the models named, leave without a meaning."""
    choosing = [name for name in ("stages", *_CHOSEN_BY_FLAG) if getattr(words, name) is not None]
    pinning = [name for name in ("newest", "list") if getattr(words, name)]
    unused = [*choosing, *(["commercial"] if words.commercial else [])] if words.action == "lock" else pinning
    if unused:
        raise UsageError(f"{words.action} takes no --{unused[0]}", remedy="leave it out; --help says what it is for")
    if words.models and choosing:
        raise UsageError(
            f"models are named, and --{choosing[0]} chooses others",
            remedy=f"leave out the names or --{choosing[0]}",
        )


def _parser(program: str) -> Parser:
    parser = Parser(
        prog=program,
        usage="%(prog)s {" + ",".join(_ACTIONS) + "} [MODEL ...] [flags]",
        description="The models' weights: " + "; ".join(f"{name}: {what}" for name, what in _ACTIONS.items()) + ".",
    )
    parser.add_argument("action", nargs="?", metavar="ACTION", help="one of " + ", ".join(_ACTIONS))
    parser.add_argument("models", nargs="*", metavar="MODEL", help="names as `list` shows them, instead of --stages")
    parser.add_argument(
        "--stages",
        nargs="+",
        metavar="STAGE",
        help="what these stages need (default: all of a batch to pull and mirror, every model to list and verify)",
    )
    for name in _CHOSEN_BY_FLAG:
        choices = _choices(name)
        help_text = f"as in a batch (default: {_default(name)})"
        parser.add_argument(f"--{name}", metavar="{" + ",".join(choices) + "}", help=help_text)
    parser.add_argument("--commercial", action="store_true", help="refuse models whose licences do not allow every use")
    parser.add_argument("--to", metavar="FOLDER", help="mirror: a folder, or gs://BUCKET/FOLDER")
    parser.add_argument("--newest", action="store_true", help="lock: the newest revisions, in place of those pinned")
    parser.add_argument("--list", metavar="FILE", help="lock: the list to pin (default: the one of this program)")
    return parser


def _list(words: Namespace, console: PlainConsole) -> int:
    for one in _told(_asked(words), console):
        status = weight_status(one)
        style = {True: "green", None: "yellow", False: ""}[status.here]
        stages = f"{plural(len(one.stages), 'stage')} {' and '.join(str(number) for number in one.stages)}"
        console.show([plain(f"{one.name:21}{status.text} ({stages}: {one.role}, {one.needed})", style)])
    return 0


def _lock(words: Namespace, console: PlainConsole) -> int:
    path = Path(words.list) if words.list else WEIGHTS_LIST
    try:
        sets = read_list(path)
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(
            f"the list of weights cannot be read: {error}", where=str(path), remedy="name a list with --list"
        ) from error
    for one in _named(words, sets) or list(sets.values()):
        pinned = locked(one, newest=words.newest)
        sets[one.name] = pinned
        write_list(path, sets)  # after each: what is pinned stays pinned when the next one fails
        size = size_text(sum(pinned.sizes.values()))
        count = f"{len(pinned.files)} {plural(len(pinned.files), 'file')}"
        console.show([plain(f"{one.name:21}{pinned.revision}  {count}, {size}", "green")])
    return 0


def _pull(words: Namespace, console: PlainConsole) -> int:
    sets = _told(_selected(words), console)
    require_disk(sets)
    for one in sets:
        files = all_files(one)
        console.show([plain(f"{one.name:21}{_counted(files)}, here", "green")])
    return 0


def _verify(words: Namespace, console: PlainConsole) -> int:
    """Hash everything that is here, whatever was hashed before."""
    asked = _asked(words)
    wrong = 0
    for one in _told(asked, console):
        found = files_here(one)
        if not found and asked is None:
            console.show([plain(f"{one.name:21}not here")])
            continue
        missing = [name for name in one.files if name not in found]
        damaged = [name for name, path in found.items() if _is_damaged(one, name, path)]
        open_ones = sum(one.files.get(name) is None for name in found)
        wrong += len(missing) + len(damaged)
        for kind, names in (("missing", missing), ("damaged", damaged)):
            for name in names:
                place = f"{one.page} {name}" if kind == "missing" else found[name]
                console.show([plain(f"{one.name:21}{kind}: {place}", "red")])
        if not missing and not damaged:
            note = f", {open_ones} without a pinned checksum" if open_ones else ", as pinned"
            console.show([plain(f"{one.name:21}{_counted(found)}{note}", "yellow" if open_ones else "green")])
    return EXIT_DAMAGED if wrong else 0


def _mirror(words: Namespace, console: PlainConsole) -> int:
    storage = open_storage(words.to)
    for one in _told(_selected(words), console):
        files = all_files(one)
        root = storage.local_root()
        if root is None:
            _upload(storage, one.name, files)
        else:
            _copy(root / one.name, files)
        console.show([plain(f"{one.name:21}{_counted(files)}, in {words.to}/{one.name}", "green")])
    console.show([plain(f"use it with {SOURCE_VARIABLE}={words.to}")])
    return 0


def _upload(storage: Storage, name: str, files: Mapping[str, Path]) -> None:
    """Bring files to a bucket, but for those that are there with the same bytes."""
    with tempfile.TemporaryDirectory(prefix="worldexplorer-mirror-") as scratch:
        for path_there, path in files.items():
            link = Path(scratch, path_there)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.resolve())
        storage.upload(Path(scratch), name)


def _copy(folder: Path, files: Mapping[str, Path]) -> None:
    """Bring files to a folder, but for those that are there with the same bytes."""
    for name, path in files.items():
        target = folder / name
        if target.is_file() and target.stat().st_size == path.stat().st_size and _same(target, path):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        _copy_file(path, target)


def _copy_file(path: Path, target: Path) -> None:
    """Copy under another name and rename: a reader sees all of it or nothing."""
    partial = target.with_name(f".{target.name}.part-{os.getpid()}")
    try:
        shutil.copyfile(path, partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _same(one: Path, other: Path) -> bool:
    return file_sha256(one) == file_sha256(other)


def _told(sets: list[WeightSet] | None, console: PlainConsole) -> list[WeightSet]:
    """The same sets, all where it is None; says so where there are none."""
    if sets == []:
        console.show([plain("these stages need no weights")])
    return list(weight_sets().values()) if sets is None else sets


def _asked(words: Namespace) -> list[WeightSet] | None:
    """The sets that the words name or choose; None where they say nothing about which."""
    chosen = words.commercial or any(getattr(words, name) is not None for name in ("stages", *_CHOSEN_BY_FLAG))
    return _selected(words) if chosen or words.models else None


def _selected(words: Namespace) -> list[WeightSet]:
    """The sets that are named, or that the stages need."""
    named = _named(words, weight_sets())
    if not named:
        text = TextSettings(
            text_to_image=_chosen(words, "text_to_image"),
            inpaint=_chosen(words, "inpaint"),
            commercial=words.commercial,
            geometry_model=_chosen(words, "geometry_model"),
        )
        names = needed_weights(_stages(words), _chosen(words, "scaffold_method"), text)
        named = [weight_sets()[name] for name in names]
    if words.commercial:
        require_permitted(one.name for one in named)
    return named


def _named(words: Namespace, sets: Mapping[str, WeightSet]) -> list[WeightSet]:
    for name in words.models:
        if name not in sets:
            raise UsageError(f"there is no model {name!r}", remedy=choose_from(name, sets))
    return [sets[name] for name in dict.fromkeys(words.models)]


def _stages(words: Namespace) -> tuple[int, ...]:
    if words.stages is None:
        return tuple(STAGE_NAMES)
    wrong = next((word for word in words.stages if word not in map(str, STAGE_NAMES)), None)
    if wrong is not None:
        known = " ".join(map(str, STAGE_NAMES))
        raise UsageError(f"stages is {wrong!r}", where="--stages", remedy=f"choose from {known}")
    return tuple(sorted({int(word) for word in words.stages}))


def _chosen(words: Namespace, name: str) -> str:
    value: str = getattr(words, name) or _default(name)
    if value not in _choices(name):
        raise UsageError(f"{name} is {value!r}", where=f"--{name}", remedy=f"choose from {', '.join(_choices(name))}")
    return value


def _choices(name: str) -> tuple[str, ...]:
    known = (*fields(ScaffoldConfig), *fields(TrajectoryConfig))
    choices: tuple[str, ...] = next(one for one in known if one.name == name).metadata["choices"]
    return choices


def _default(name: str) -> str:
    known = (*fields(ScaffoldConfig), *fields(TrajectoryConfig))
    return str(next(one for one in known if one.name == name).default)


def _is_damaged(one: WeightSet, name: str, path: Path) -> bool:
    expected = one.files.get(name)
    return expected is not None and file_sha256(path) != expected


def _counted(files: Mapping[str, Path]) -> str:
    size = size_text(sum(path.stat().st_size for path in files.values()))
    return f"{len(files)} {plural(len(files), 'file')}, {size}"
