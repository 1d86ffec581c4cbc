"""The words of `worldexplorer convert`, and what they ask for; refused before anything is read or written.

Example:
    >>> wanted_of(parsed(["--ply", "splat.ply", "--out", "world.spz"], "worldexplorer convert")).formats
    ('spz',)
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence

from worldexplorer.cli.conversions import Wanted
from worldexplorer.cli.parser import Parser, choice, whole_number
from worldexplorer.cli.renderers import RENDERERS
from worldexplorer.config import EXPORT_FORMATS, MAX_GAUSSIANS_RANGE
from worldexplorer.errors import UsageError
from worldexplorer.splat.export import FRAME_COMMENTS
from worldexplorer.splat.formats import missing_for_formats
from worldexplorer.splat.thinning import Thinning
from worldexplorer.splat.world_file import SUFFIXES, UP, kind_of
from worldexplorer.storage import BUCKET_SCHEME

_PLACES = {"--ply": "splat.ply", "--output_base": "OUT", "--out": "FOLDER", "--scene": "transforms.json"}


def parsed(argv: Sequence[str], program: str) -> Namespace:
    """The words by their flags; UsageError where flags do not belong together or one is unknown."""
    words = _parser(program).parse_words(argv)
    _check_places(words)
    _check_words(words, program)
    return words


def _check_places(words: Namespace) -> None:
    """Refuse a file or folder without a name: it would be the folder that the command is run in."""
    given = [("--ply", ply) for ply in words.ply or ()]
    given += [("--output_base", words.output_base), ("--out", words.out), ("--scene", words.scene)]
    for flag, value in given:
        if value is not None and not value.strip():
            raise UsageError(f"{flag} is empty", where=flag, remedy=f"give it as {flag} {_PLACES[flag]}")


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
    if words.renderer is not None:
        choice(words.renderer, "renderer", RENDERERS)
    thinning = {"--max_gaussians": words.max_gaussians is not None, "--filter_floaters": words.filter_floaters}
    for flag, value, users in (
        ("--renderer", words.renderer, ("--max_gaussians",)),
        ("--scene", words.scene, ("--max_gaussians", "--filter_floaters")),
    ):
        if value is not None and not any(thinning[user] for user in users):
            raise UsageError(
                f"{flag} is for {' and '.join(users)} alone",
                where=flag,
                remedy=f"leave it out, or give {' or '.join(users)}",
            )


def wanted_of(words: Namespace) -> Wanted:
    """What the words ask for; UsageError where that is nothing, or cannot be made."""
    thinning = Thinning(
        words.filter_floaters,
        None
        if words.max_gaussians is None
        else whole_number(words.max_gaussians, "max_gaussians", MAX_GAUSSIANS_RANGE),
    )
    frame = None if words.frame is None else choice(words.frame, "frame", tuple(FRAME_COMMENTS))
    up = choice(words.up, "up", ("auto", *UP))
    formats = _formats(words)
    if frame is None and "ply" in formats and up not in ("auto", *FRAME_COMMENTS):
        frame = "y-up"  # no plain file is written as this one is read
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
        help="which way is up in plain PLY files written (default: as in the file read, y-up for z-up)",
    )
    parser.add_argument(
        "--renderer",
        metavar="{" + ",".join(RENDERERS) + "}",
        help="for --max_gaussians: cpu, or gsplat on a CUDA GPU; auto takes the GPU where it can (default)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist, but for those of a record")
    return parser
