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

import logging
import tempfile
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worldexplorer.cli.conversions import Wanted, Work, batch_sources, file_sources
from worldexplorer.cli.convert_words import parsed, wanted_of
from worldexplorer.cli.output import PlainConsole, plain
from worldexplorer.cli.renderers import RENDERERS, choose_renderer, drawing_as
from worldexplorer.cli.wording import error_text, plural
from worldexplorer.cli.world_sources import Scene, Source, Target
from worldexplorer.engine import SplatTrainer
from worldexplorer.errors import UserError, describe_error
from worldexplorer.geometry.gaussians import Gaussians
from worldexplorer.geometry.transforms import Transforms
from worldexplorer.log import redact
from worldexplorer.models.weight_status import size_text
from worldexplorer.progress import silent
from worldexplorer.scratch import scratch_root
from worldexplorer.splat.export import check_gaussians
from worldexplorer.splat.thinning import Thinning, kept
from worldexplorer.splat.world_file import SUFFIXES, World, write_world
from worldexplorer.storage import AlreadyExistsError, open_storage

EXIT_FAILED = 1

_logger = logging.getLogger(__name__)


def run(argv: Sequence[str], program: str = "worldexplorer convert") -> int:
    """Convert, and say what was written; 1 where a world of several could not be converted."""
    words = parsed(argv, program)
    wanted = wanted_of(words)
    without = 0
    if words.ply:
        scene = None if words.scene is None else Path(words.scene)
        work = file_sources([Path(ply) for ply in words.ply], scene, words.out, wanted)
    else:
        work, without = batch_sources(open_storage(words.output_base), words.indices or (), words.out, wanted)
    console = PlainConsole()
    ranking = _Ranking(words.renderer or RENDERERS[0], console)
    if words.ply and len(work) == 1:
        console.show([plain(_converted(*work[0], wanted, ranking), "green")])
        return 0
    return _convert_all(work, wanted, ranking, console, without)


class _NoRankingError(UserError):
    """The renderer cannot run here: that is not one world's failure."""


class _Ranking:
    """Says how much Gaussians show, with the renderer asked for; it is there once something is to be ranked."""

    def __init__(self, asked: str, console: PlainConsole) -> None:
        self._asked = asked
        self._console = console
        self._warned = False

    @cached_property
    def _chosen(self) -> tuple[str, SplatTrainer]:
        try:
            name, renderer = choose_renderer(self._asked)
        except UserError as error:
            raise _NoRankingError(error.what, where=error.where, remedy=error.remedy) from error
        self._console.show([plain(f"the {name} renderer says which Gaussians show most")])
        return name, renderer

    def seen(self, gaussians: Gaussians, cameras: Transforms, *, antialiased: bool) -> NDArray[np.float64]:
        """[N] as the trainer's own renderer has it, at the size of the training views."""
        renderer, warning = drawing_as(*self._chosen, antialiased=antialiased)
        if warning and not self._warned:
            self._console.show([plain(warning, "yellow")])
            self._warned = True
        return renderer.contributions(gaussians, cameras.c2w, cameras.intrinsics, cameras.height, silent)


def _convert_all(work: Work, wanted: Wanted, ranking: _Ranking, console: PlainConsole, without: int) -> int:
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
        except _NoRankingError:
            raise
        except Exception as error:
            _logger.debug("converting %s failed", source.name, exc_info=True)
            counts["failed"] += 1
            console.show([plain(f"{source.name}: failed: {redact(error_text(*describe_error(error)))}", "red")])
    said = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
    more = f"; {without:,} {plural(without, 'job')} without a world yet" if without else ""
    style = "bold red" if counts["failed"] else "green"
    console.show([plain(f"{len(work):,} {plural(len(work), 'world')}: {said}{more}", style)])
    return EXIT_FAILED if counts["failed"] else 0


def _converted(source: Source, targets: Mapping[str, Target], wanted: Wanted, ranking: _Ranking) -> str:
    """Write the files of one world, and what to say of them."""
    counts: dict[str, int] = {}
    with source:
        scene = source.scene() if wanted.thinning else None
        world = source.world(wanted.up)
        if scene is not None:
            world, counts = _thinned(world, scene, wanted.thinning, ranking)
        check_gaussians(world.gaussians)
        written = _written(source, world, targets, wanted)
    return f"{source.name}{_taken_out(counts)}: {', '.join(written)}"


def _taken_out(counts: Mapping[str, int]) -> str:
    """What was taken out of a world, in brackets; empty where nothing was asked for."""
    if not counts:
        return ""
    hanging, unseen = counts.get("floaters_removed", 0), counts.get("least_seen_removed", 0)
    parts = [f"{hanging:,} {plural(hanging, 'floater')}"] if hanging else []
    parts += [f"the {unseen:,} least seen"] if unseen else []
    return f" ({' and '.join(parts) or 'nothing'} taken out, {counts['gaussians']:,} Gaussians left)"


def _thinned(world: World, scene: Scene, thinning: Thinning, ranking: _Ranking) -> tuple[World, dict[str, int]]:
    def seen(rest: Gaussians) -> NDArray[np.float64]:
        return ranking.seen(rest, scene.cameras, antialiased=world.antialiased)

    points = scene.points() if thinning.filter_floaters else np.empty((0, 3), np.float32)
    rows, counts = kept(world.turned("y-up").gaussians, thinning, scene.cameras.c2w, points, seen)
    return world.only(rows), counts


def _written(source: Source, world: World, targets: Mapping[str, Target], wanted: Wanted) -> list[str]:
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
        source.require_current()
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
