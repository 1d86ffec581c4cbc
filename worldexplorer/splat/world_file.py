"""A world as one file, after its training: read with the frame it is in, made smaller, written as another kind.

Of a PLY file the comments are kept, what they say of the frame being brought up to date; `splat.ply` and
`splat_rotated.ply` say which way is up, files by others are told. Nothing is turned that need not be, so numbers that
stay in their frame stay what they are.

Example:
    >>> world = read_world(Path("splat/splat.ply"))
    >>> write_world(Path("splat.spz"), "spz", world)
    {'gaussians': 219870, 'bytes': 3301220, 'clipped': 0}
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worldexplorer.geometry.gaussians import Gaussians
from worldexplorer.geometry.ply import read_comments, read_gaussians, write_gaussians
from worldexplorer.geometry.transforms import TRANSFORMS_NAME
from worldexplorer.splat.export import FRAME_COMMENTS, VIEWER_ROTATION
from worldexplorer.splat.formats import ANTIALIASED_COMMENT, write_compressed_ply, write_spz
from worldexplorer.splat.thinning import chosen

UP = {
    "y-up": np.eye(3),
    "y-down": VIEWER_ROTATION,
    "z-up": np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]]),
}
"""How a file is turned into the frame with y up, by which way is up in it."""

SUFFIXES = {"spz": ".spz", "compressed-ply": ".compressed.ply", "ply": ".ply"}
"""How the names of files end, by their kind; the first that fits says which it is."""

_FRAME = "frame:"
_Y_DOWN = "frame: y down"


@dataclass(frozen=True)
class World:
    """What a PLY file holds.

    Attributes:
        gaussians: in the file's own frame.
        up: which way is up there, one of :data:`UP`.
        comments: of its header.
    """

    gaussians: Gaussians
    up: str
    comments: tuple[str, ...]

    @property
    def antialiased(self) -> bool:
        """Whether it is meant for antialiased rendering."""
        return ANTIALIASED_COMMENT in self.comments

    def turned(self, up: str) -> World:
        """The same world in another frame; itself where it is in that already."""
        if up == self.up:
            return self
        rotation = UP[up].T @ UP[self.up] + 0.0  # no negative zeros
        return World(self.gaussians.rotated(rotation), up, _comments(self.comments, up))

    def only(self, rows: NDArray[np.intp]) -> World:
        """The world without any other Gaussians than these."""
        return replace(self, gaussians=chosen(self.gaussians, rows))


def read_world(path: Path, up: str = "auto") -> World:
    """Read a PLY file; with `auto` y is up unless a comment says that it is down.

    Raises:
        UserError: the file is no PLY file of Gaussians in the INRIA layout.
    """
    comments = read_comments(path)
    if up == "auto":
        up = "y-down" if any(line.startswith(_Y_DOWN) for line in comments) else "y-up"
    return World(read_gaussians(path), up, comments)


def write_world(path: Path, kind: str, world: World, frame: str | None = None) -> dict[str, int]:
    """Write a world as `spz`, `compressed-ply` or `ply`.

    An SPZ file has y up and a compressed PLY y down, as those that stage 3 writes. A plain one has `frame` (y-up or
    y-down); without, the world's own, and y up where neither is.

    Returns:
        `gaussians` and `bytes` of the file, and `clipped` of :func:`worldexplorer.splat.formats.write_spz`.

    Raises:
        DefectError: the Gaussians cannot be written as that.
    """
    if kind == "spz":
        return write_spz(path, world.turned("y-up").gaussians, antialiased=world.antialiased)
    if kind == "compressed-ply":
        return write_compressed_ply(path, world.turned("y-down").gaussians, antialiased=world.antialiased)
    turned = world.turned(frame or (world.up if world.up in FRAME_COMMENTS else "y-up"))
    write_gaussians(path, turned.gaussians, turned.comments)
    return {"gaussians": turned.gaussians.count, "bytes": path.stat().st_size, "clipped": 0}


def kind_of(name: str) -> str | None:
    """The kind of file that a name's ending means; None for another one."""
    return next((kind for kind, suffix in SUFFIXES.items() if name.endswith(suffix)), None)


def scene_of(ply: Path) -> Path | None:
    """The transforms.json of the one scene in the job's folder that holds `ply`; None where there is none or many."""
    found = list(ply.absolute().parent.parent.glob(f"scenes/*/img2trajvid/{TRANSFORMS_NAME}"))
    return found[0] if len(found) == 1 else None


def _comments(comments: tuple[str, ...], up: str) -> tuple[str, ...]:
    """The comments of a world that was turned."""
    own = set(FRAME_COMMENTS.values())
    if own & set(comments) and up in FRAME_COMMENTS:
        return tuple(FRAME_COMMENTS[up] if line in own else line for line in comments)
    said = f"{_FRAME} {up.replace('-', ' ')}"
    return (*(line for line in comments if not line.startswith(_FRAME)), said)
