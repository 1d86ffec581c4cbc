"""`worldexplorer convert`: a world that is trained as another kind of file, with fewer Gaussians or without floaters.

It does to a PLY file what stage 3 does with `--export_formats`, `--max_gaussians` and `--filter_floaters`, by the same
code, and trains nothing: for single files, or for the world of every job of a batch, in a folder or a bucket. What it
writes belongs to no record, and it never writes over a file of one.

Example:
    >>> run(["--output_base", "output/batch", "--formats", "spz"])
    photorealistic/index_0000: splat.spz 3.3 MiB
    photorealistic/index_0001: splat.spz 3.3 MiB
    2 worlds: 2 converted
    0
"""

from __future__ import annotations

import tempfile
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worldexplorer.cli.conversions import Wanted, Work, batch_sources, file_sources
from worldexplorer.cli.output import PlainConsole, plain
from worldexplorer.cli.parser import Parser, choice, whole_number
from worldexplorer.cli.renderers import RENDERERS, choose_renderer, drawing_as
from worldexplorer.cli.wording import error_text, plural
from worldexplorer.cli.world_sources import Scene, Source, Target
from worldexplorer.config import EXPORT_FORMATS, MAX_GAUSSIANS_RANGE
from worldexplorer.engine import SplatTrainer
from worldexplorer.errors import UsageError, UserError, describe_error
from worldexplorer.geometry.gaussians import Gaussians
from worldexplorer.geometry.transforms import Transforms
from worldexplorer.log import redact
from worldexplorer.models.weight_status import size_text
from worldexplorer.progress import silent
from worldexplorer.scratch import scratch_root
from worldexplorer.splat.export import FRAME_COMMENTS, check_gaussians
from worldexplorer.splat.formats import missing_for_formats
from worldexplorer.splat.thinning import Thinning, kept
from worldexplorer.splat.world_file import SUFFIXES, UP, World, kind_of, write_world
from worldexplorer.storage import BUCKET_SCHEME, AlreadyExistsError, open_storage

EXIT_FAILED = 1


def run(argv: Sequence[str], program: str = "worldexplorer convert") -> int:
    """Convert, and say what was written; 1 where a world of several could not be converted."""
    words = _parser(program).parse_words(argv)
    _check_words(words, program)
    wanted = _wanted(words)
    without = 0
    if words.ply:
        scene = None if words.scene is None else Path(words.scene)
        work = file_sources([Path(ply) for ply in words.ply], scene, words.out, wanted)
    else:
        work, without = batch_sources(open_storage(words.output_base), words.indices or (), words.out, wanted)
    console = PlainConsole()
    ranking = None
    if wanted.thinning.max_gaussians is not None:
        ranking = _Ranking(*choose_renderer(choice(words.renderer, "renderer", RENDERERS)), console)
    if words.ply and len(work) == 1:
        console.show([plain(_converted(*work[0], wanted, ranking), "green")])
        return 0
    return _convert_all(work, wanted, ranking, console, without)


class _Ranking:
    """Says how much Gaussians show, with a renderer of that name."""

    def __init__(self, name: str, renderer: SplatTrainer, console: PlainConsole) -> None:
        self._name = name
        self._renderer = renderer
        self._console = console
        self._warned = False
        console.show([plain(f"the {name} renderer says which Gaussians show most")])

    def seen(self, gaussians: Gaussians, cameras: Transforms, *, antialiased: bool) -> NDArray[np.float64]:
        """[N] as the trainer's own renderer has it, at the size of the training views."""
        renderer, warning = drawing_as(self._name, self._renderer, antialiased=antialiased)
        if warning and not self._warned:
            self._console.show([plain(warning, "yellow")])
            self._warned = True
        return renderer.contributions(gaussians, cameras.c2w, cameras.intrinsics, cameras.height, silent)


def _convert_all(work: Work, wanted: Wanted, ranking: _Ranking | None, console: PlainConsole, without: int) -> int:
    """Convert one after the other; what goes wrong with one is a line, and the others go on."""
    counts = {"converted": 0, "there already": 0, "failed": 0}
    for source, targets in work:
        try:
            there = source.there_already(targets, overwrite=wanted.overwrite)
            if there:
                names = ", ".join(targets[kind].shown for kind in there)
                console.show([plain(f"{source.name}: there already: {names}", "yellow")])
            rest = {kind: target for kind, target in targets.items() if kind not in there}
            if rest:
                console.show([plain(_converted(source, rest, wanted, ranking), "green")])
            counts["converted" if rest else "there already"] += 1
        except Exception as error:  # noqa: BLE001 (one world's; the others are not touched by it)
            counts["failed"] += 1
            console.show([plain(f"{source.name}: failed: {redact(error_text(*describe_error(error)))}", "red")])
    said = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
    more = f"; {without:,} {plural(without, 'job')} without a world yet" if without else ""
    style = "bold red" if counts["failed"] else "green"
    console.show([plain(f"{len(work):,} {plural(len(work), 'world')}: {said}{more}", style)])
    return EXIT_FAILED if counts["failed"] else 0


def _converted(source: Source, targets: Mapping[str, Target], wanted: Wanted, ranking: _Ranking | None) -> str:
    """Write the files of one world, and what to say of them."""
    counts: dict[str, int] = {}
    with source:
        scene = source.scene() if wanted.thinning else None
        world = source.world(wanted.up)
        if scene is not None:
            world, counts = _thinned(world, scene, wanted.thinning, ranking)
        check_gaussians(world.gaussians)
        written = _written(world, targets, wanted)
    return f"{source.name}{_taken_out(counts)}: {', '.join(written)}"


def _taken_out(counts: Mapping[str, int]) -> str:
    """What was taken out of a world, in brackets; empty where nothing was asked for."""
    if not counts:
        return ""
    hanging, unseen = counts.get("floaters_removed", 0), counts.get("least_seen_removed", 0)
    parts = [f"{hanging:,} {plural(hanging, 'floater')}"] if hanging else []
    parts += [f"the {unseen:,} least seen"] if unseen else []
    return f" ({' and '.join(parts) or 'nothing'} taken out, {counts['gaussians']:,} Gaussians left)"


def _thinned(world: World, scene: Scene, thinning: Thinning, ranking: _Ranking | None) -> tuple[World, dict[str, int]]:
    def seen(rest: Gaussians) -> NDArray[np.float64]:
        assert ranking is not None, "there is a renderer where Gaussians are counted"
        return ranking.seen(rest, scene.cameras, antialiased=world.antialiased)

    points = scene.points() if thinning.filter_floaters else np.empty((0, 3), np.float32)
    rows, counts = kept(world.turned("y-up").gaussians, thinning, scene.cameras.c2w, points, seen)
    return world.only(rows), counts


def _written(world: World, targets: Mapping[str, Target], wanted: Wanted) -> list[str]:
    """All files are made before the first is put in its place, each whole or not at all."""
    texts = []
    with tempfile.TemporaryDirectory(prefix="worldexplorer-convert-", dir=scratch_root()) as folder:
        made = {}
        for kind, target in targets.items():
            path = Path(folder) / f"world{SUFFIXES[kind]}"
            facts = write_world(path, kind, world, wanted.frame)
            clipped = f" ({facts['clipped']:,} Gaussians clipped)" if facts["clipped"] else ""
            texts.append(f"{target.shown} {size_text(facts['bytes'])}{clipped}")
            made[path] = target
        for path, target in made.items():
            if wanted.overwrite:
                target.storage.write(target.key, path.read_bytes())
                continue
            try:
                target.storage.create(target.key, path.read_bytes())
            except AlreadyExistsError as error:
                raise UserError(
                    "the file has come into being meanwhile", where=error.where, remedy="run it again"
                ) from None
    return texts


def _check_words(words: Namespace, program: str) -> None:
    """Refuse flags that do not belong together."""
    if bool(words.ply) == (words.output_base is not None):
        raise UsageError(
            "both --ply and --output_base are given" if words.ply else "neither --ply nor --output_base is given",
            remedy=f"give one: {program} --ply splat.ply --out world.spz, or {program} --output_base OUT --formats spz",
        )
    if words.ply:
        for flag, value in [("--ply", ply) for ply in words.ply] + [("--out", words.out or "")]:
            if "://" in value:
                raise UsageError(
                    "single files are read and written on this machine alone",
                    where=f"{flag} {value}",
                    remedy=f"fetch it first, or convert what a batch wrote there: --output_base {BUCKET_SCHEME}...",
                )
    only = {"--indices": words.indices} if words.ply else {"--scene": words.scene, "--up": words.up != "auto"}
    for flag, value in only.items():
        if value:
            other = "--output_base" if words.ply else "--ply"
            raise UsageError(f"{flag} belongs to {other}", where=flag, remedy=f"leave it out, or give {other}")


def _wanted(words: Namespace) -> Wanted:
    thinning = Thinning(
        words.filter_floaters,
        None
        if words.max_gaussians is None
        else whole_number(words.max_gaussians, "max_gaussians", MAX_GAUSSIANS_RANGE),
    )
    frame = None if words.frame is None else choice(words.frame, "frame", tuple(FRAME_COMMENTS))
    up = choice(words.up, "up", ("auto", *UP))
    formats = _formats(words)
    if frame is not None and "ply" not in formats:
        raise UsageError(
            f"frame is {frame}, and no plain PLY file is to be written",
            where="--frame",
            remedy="leave it out: an SPZ file has y up, a compressed PLY y down; or write ply",
        )
    if "ply" in formats and not thinning and frame is None:
        raise UsageError(
            "a PLY file is to be made into the same PLY file",
            where="--out" if kind_of(words.out or "") else "--formats",
            remedy="name spz or compressed-ply, or change something with --max_gaussians, --filter_floaters or --frame",
        )
    missing = missing_for_formats(formats)
    if missing:
        raise UsageError(missing[0], remedy='pip install "worldexplorer[exports]"')
    return Wanted(formats, thinning, up, frame, words.overwrite)


def _formats(words: Namespace) -> tuple[str, ...]:
    """What to write, by --formats or by the ending of --out."""
    given = [word for text in words.formats or () for word in text.split()]
    by_name = kind_of(words.out or "")
    if given and by_name is not None:
        raise UsageError(
            f"--out {words.out} says by its ending what to write, and so does --formats",
            remedy="leave --formats out, or name a folder",
        )
    if by_name is not None:
        return (by_name,)
    if not given:
        raise UsageError(
            "nothing says what to write",
            where="" if words.out is None else f"--out {words.out}",
            remedy=f"add --formats {{{','.join(EXPORT_FORMATS)}}}, or name a file with --out world.spz",
        )
    chosen = {choice(word, "formats", EXPORT_FORMATS) for word in given}
    return tuple(kind for kind in SUFFIXES if kind in chosen)


def _parser(program: str) -> Parser:
    parser = Parser(
        prog=program,
        description="Make smaller files, fewer Gaussians or other kinds of files of worlds that are trained.",
        epilog="What is written is named after what was done, such as splat.100000.spz. Exit codes: 0 all "
        "good, 1 a world could not be converted, 2 the command is wrong (nothing was written).",
    )
    parser.add_argument(
        "--ply", action="extend", nargs="+", metavar="FILE", help="PLY files of Gaussians in the INRIA layout"
    )
    parser.add_argument(
        "--output_base",
        metavar="OUTPUT_BASE",
        help="the folder or gs://BUCKET/FOLDER a batch wrote to: the splat.ply of every job that has one. What exists "
        "and is younger than its world is left as it is, so running the same command again goes on",
    )
    parser.add_argument(
        "--indices", action="extend", nargs="+", metavar="N", help="of a batch, these samples alone: 0-9 20 30-32"
    )
    parser.add_argument(
        "--formats",
        action="extend",
        nargs="+",
        metavar="{" + ",".join(EXPORT_FORMATS) + "}",
        help="what to write (spz and compressed-ply need worldexplorer[exports])",
    )
    parser.add_argument(
        "--out",
        metavar="PATH",
        help="a file whose ending (.spz, .compressed.ply, .ply) says what it is, or a folder (of a batch also "
        "gs://BUCKET/FOLDER; each job then has a folder in it). Without it files lie beside what they are made of",
    )
    parser.add_argument(
        "--max_gaussians",
        metavar="N",
        help="keep at most this many Gaussians: those that show most in the training views",
    )
    parser.add_argument("--filter_floaters", action="store_true", help="take out Gaussians that hang in the air")
    parser.add_argument(
        "--scene",
        metavar="FILE",
        help="the transforms.json with the training views of the one --ply, where it does not lie in its job's folder; "
        "for --max_gaussians and --filter_floaters",
    )
    parser.add_argument(
        "--up",
        metavar="{" + ",".join(("auto", *UP)) + "}",
        default="auto",
        help="which way is up in the files read; auto (default) takes y-up unless a comment in the header says y down",
    )
    parser.add_argument(
        "--frame",
        metavar="{" + ",".join(FRAME_COMMENTS) + "}",
        help="which way is up in plain PLY files written (default: as in the file read)",
    )
    parser.add_argument(
        "--renderer",
        metavar="{" + ",".join(RENDERERS) + "}",
        default=RENDERERS[0],
        help="for --max_gaussians: cpu, or gsplat on a CUDA GPU; auto takes the GPU where it can (default)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist, but for those of a record")
    return parser
