"""`worldexplorer render`: pictures of a splat PLY, along a path, on the CPU or the GPU.

It takes `splat.ply` and `splat_rotated.ply` of this pipeline, whose headers say which way is up, and files of the INRIA
layout by others, of which `--up` says it. A video is written where `--out` ends in .mp4, else a folder of PNGs.

Example:
    >>> run(["--ply", "splat/splat.ply", "--path", "walk", "--out", "walk.mp4"])
    cpu renderer, 220,000 Gaussians, 241 frames of 512 x 512, along the trajectories of ...
    0
"""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from worldexplorer.cli.named_files import NAME_A_WORLD, NAME_CAMERAS, checked_cameras, checked_world, require_file
from worldexplorer.cli.output import PlainConsole, plain
from worldexplorer.cli.parser import Parser, choice, choose_from, whole_number
from worldexplorer.cli.renderers import RENDERERS, choose_renderer, drawing_as
from worldexplorer.cli.wording import plural
from worldexplorer.engine import Images, Poses, SplatTrainer
from worldexplorer.errors import UsageError
from worldexplorer.geometry.cameras import normalised_intrinsics
from worldexplorer.geometry.gaussians import Gaussians
from worldexplorer.geometry.transforms import read_transforms
from worldexplorer.pictures import frame_name, write_picture
from worldexplorer.report.video import write_video
from worldexplorer.splat.camera_paths import FRAME_RATE, published_outings, scene_outings, turn, walk
from worldexplorer.splat.renders import DepthRange, depth_range, frames
from worldexplorer.splat.world_file import UP, scene_of

PATHS = ("turntable", "walk")
SIZE_RANGE = (16, 4096)
RATE_RANGE = (1, 240)
DEFAULT_SIZE = 512

_VIDEO = ".mp4"
_DEPTH_SAMPLES = 8
"""Frames, spread over the path, that set the range of depths."""


@dataclass(frozen=True)
class CameraPath:
    """Cameras [N], and the shape of their pictures.

    Attributes:
        c2w: [N, 4, 4] OpenGL camera-to-world, scene frame.
        intrinsics: [N, 3, 3] normalised by width and height.
        aspect: width over height.
        what: it goes along, for people.
    """

    c2w: Poses
    intrinsics: Poses
    aspect: float
    what: str


def run(argv: Sequence[str], program: str = "worldexplorer render") -> int:
    """Render, and say where to and with what."""
    words = _parser(program).parse_words(argv)
    if words.ply is None:
        raise UsageError("--ply is missing", remedy=f"give it as {program} --ply splat.ply --path turntable")
    require_file(Path(words.ply), "--ply", NAME_A_WORLD)
    size = whole_number(words.size, "size", SIZE_RANGE)
    rate = whole_number(words.fps, "fps", RATE_RANGE)
    path = camera_path(words.path, Path(words.ply))
    out = _checked_out(words)
    up = choice(words.up, "up", ("auto", *UP))
    name, trainer = choose_renderer(choice(words.renderer, "renderer", RENDERERS))
    world = checked_world(Path(words.ply), up)
    gaussians = world.turned("y-up").gaussians
    width, height = _shape(size, path.aspect)
    console = PlainConsole()
    counted = (
        f"{gaussians.count:,} {plural(gaussians.count, 'Gaussian')}, {len(path.c2w)} {plural(len(path.c2w), 'frame')}"
    )
    console.show([plain(f"{name} renderer, {counted} of {width} x {height}, along {path.what}")])
    trainer, warning = drawing_as(name, trainer, antialiased=world.antialiased)
    if warning:
        console.show([plain(warning, "yellow")])
    started = time.monotonic()
    pictures = rendered(trainer, gaussians, path, size, depth=words.depth)
    if out.suffix == _VIDEO:
        write_video(out, pictures, rate)
    else:
        _write_folder(out, pictures)
    console.show([plain(f"{out}  {time.monotonic() - started:.1f} s", "green")])
    return 0


def camera_path(name: str, ply: Path) -> CameraPath:
    """The path of a name, or the cameras of a scene's transforms.json; UsageError where it is neither.

    A walk goes where the scene of the job that `ply` lies in has room, if it lies in one.
    """
    if name == "turntable":
        return _square(turn(), "a turn on the spot")
    if name == "walk":
        scene = scene_of(ply)
        if scene is None:
            return _square(walk(published_outings()), "the built-in trajectories at full length, through walls too")
        return _square(walk(scene_outings(read_transforms(scene))), f"the trajectories of {scene}")
    if not name.endswith(".json"):
        raise UsageError(f"path is {name!r}", where="--path", remedy=choose_from(name, PATHS, " or name a .json"))
    require_file(Path(name), "--path", NAME_CAMERAS)
    cameras = checked_cameras(Path(name))
    return CameraPath(cameras.c2w, cameras.intrinsics, cameras.width / cameras.height, f"the cameras of {name}")


def _square(c2w: Poses, what: str) -> CameraPath:
    return CameraPath(c2w, np.tile(normalised_intrinsics(), (len(c2w), 1, 1)), 1.0, what)


def rendered(
    trainer: SplatTrainer, gaussians: Gaussians, path: CameraPath, size: int, *, depth: bool = False
) -> Iterator[Images]:
    """[H, W, 3] uint8 pictures along a path, the longer side `size` pixels (one less where the other would be odd).

    Renderers make squares: the picture is the middle of one whose side is the longer one.
    """
    width, height = _shape(size, path.aspect)
    side = max(width, height)
    intrinsics = path.intrinsics.copy()
    for row, length in ((0, width), (1, height)):
        intrinsics[:, row, row] *= length / side
        intrinsics[:, row, 2] = (intrinsics[:, row, 2] - 0.5) * length / side + 0.5
    limits = _depth_limits(trainer, gaussians, path.c2w, intrinsics, side) if depth else None
    left, top = (side - width) // 2, (side - height) // 2
    for picture in frames(trainer, gaussians, path.c2w, intrinsics, side, limits):
        yield picture[top : top + height, left : left + width]


def _depth_limits(trainer: SplatTrainer, gaussians: Gaussians, c2w: Poses, intrinsics: Poses, side: int) -> DepthRange:
    samples = np.unique(np.linspace(0, len(c2w) - 1, min(_DEPTH_SAMPLES, len(c2w))).round().astype(int))
    return depth_range(trainer.render_depth(gaussians, c2w[samples], intrinsics[samples], side))


def _shape(size: int, aspect: float) -> tuple[int, int]:
    """Width and height, both even: what a video needs, and what lies evenly in the middle of a square."""
    longer = size // 2 * 2
    width, height = (longer, longer / aspect) if aspect >= 1.0 else (longer * aspect, longer)
    return max(round(width / 2) * 2, 2), max(round(height / 2) * 2, 2)


def _write_folder(folder: Path, pictures: Iterator[Images]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(pictures):
        write_picture(folder / frame_name(number), picture)


def _checked_out(words: Namespace) -> Path:
    """Where to write to; nothing that exists is replaced, least of all a file of a finished job."""
    if words.out is None:
        stem = words.path if words.path in PATHS else Path(words.path).stem
        out = Path(f"{stem}_depth{_VIDEO}" if words.depth else f"{stem}{_VIDEO}")
    else:
        out = Path(words.out)
    if out.suffix not in ("", _VIDEO):
        raise UsageError(f"out is {out.name}", where="--out", remedy=f"name a {_VIDEO} file, or a folder for PNGs")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} exists", where="--out", remedy="name another, or remove it")
    if not out.absolute().parent.is_dir():
        raise UsageError(f"{out.parent} is no folder", where="--out", remedy="make it, or name another --out")
    return out


def _parser(program: str) -> Parser:
    parser = Parser(prog=program, description="Render a splat PLY along a path, to a video or to pictures.")
    parser.add_argument("--ply", metavar="FILE", help="a PLY file of Gaussians in the INRIA layout")
    parser.add_argument(
        "--path",
        metavar="{" + ",".join(PATHS) + ",FILE.json}",
        default=PATHS[0],
        help="a full turn on the spot (default), a walk along the trajectories of the PLY's own job (the built-in ones "
        "where it lies in none), or the cameras of a transforms.json",
    )
    parser.add_argument("--out", metavar="PATH", help="an .mp4 file or a folder (default: an .mp4 here)")
    parser.add_argument(
        "--size", metavar="N", default=str(DEFAULT_SIZE), help="pixels of the longer side (default: 512)"
    )
    parser.add_argument("--fps", metavar="N", default=str(FRAME_RATE), help="frames a second of a video (default: 24)")
    parser.add_argument("--depth", action="store_true", help="depths instead of colours: the nearer the lighter")
    parser.add_argument(
        "--renderer",
        metavar="{" + ",".join(RENDERERS) + "}",
        default=RENDERERS[0],
        help="cpu, or gsplat on a CUDA GPU; auto takes the GPU where it can (default)",
    )
    parser.add_argument(
        "--up",
        metavar="{" + ",".join(("auto", *UP)) + "}",
        default="auto",
        help="which way is up in the file; auto (default) takes y-up unless a comment in its header says y down",
    )
    return parser
