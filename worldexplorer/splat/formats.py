"""The smaller files of a world: SPZ and compressed PLY, written by the package gsply.

Both round every number, so they are for looking and sending; `splat.ply` stays the world itself. Gaussians are put in
the order of a space-filling curve, which keeps neighbours together (compressed PLY rounds positions within every 256),
and those with an opacity under 1/255, which no viewer draws, are left out.

* `splat.spz`: version 3 of Niantic's format (one gzip stream), axes right, up, backward as its description says: the
  scene frame as it is.
* `splat.compressed.ply`: PlayCanvas's packed PLY, y down like every PLY file for viewers.

Example:
    >>> require_formats(("spz",))                       # before hours of training
    >>> write_spz(Path("splat/splat.spz"), gaussians)
    {'gaussians': 219870, 'bytes': 3301220, 'clipped': 0}
"""

from __future__ import annotations

import gzip
import importlib.util
import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldexplorer.errors import DefectError, UsageError
from worldexplorer.geometry.gaussians import Gaussians
from worldexplorer.splat.thinning import chosen

ANTIALIASED_COMMENT = "SplatRenderMode: mip"
"""What the trainer Brush and PlayCanvas's tools write and look for in the header of a PLY file, packed or not."""

SPZ_VERSION = 3
"""The newest that readers without zstd understand."""

LEAST_OPACITY = 1.0 / 255.0
LEAST_LOGIT = math.log(LEAST_OPACITY / (1.0 - LEAST_OPACITY))
"""Below it no viewer draws a Gaussian."""
MOST_OPACITY = 254.0 / 255.0
MOST_LOGIT = math.log(MOST_OPACITY / (1.0 - MOST_OPACITY))
"""More is written as this: renderers stop at 0.99, and a reader has a logit for it."""

_SPZ_FLAGS = 14
"""The byte of an SPZ file's header, once unpacked, whose lowest bit says what the comment of a PLY file does."""
_GZIP_TIME = 4
"""Where gzip's header has four bytes with the time; zeros are for none (RFC 1952)."""
_SPZ_PACKING = 6
"""gzip's level, as gsply has it."""
_MOST_FRACTIONAL_BITS = 12
"""Of SPZ's positions: steps of 1/4096 trajectory unit, to 2,048 units from the origin."""
_POSITION_BITS = 23
_CURVE_BITS = 21
"""Bits a coordinate along the space-filling curve; three of them fill 63 of 64."""
_SPREAD = (
    (32, 0x001F00000000FFFF),
    (16, 0x001F0000FF0000FF),
    (8, 0x100F00F00F00F00F),
    (4, 0x10C30C30C30C30C3),
    (2, 0x1249249249249249),
)
"""Shifts and masks that bring 21 bits three places apart from each other, halves of them at a time."""

# What SPZ can hold. Beyond it, a number is clipped to the nearest that it can.
_SPZ_LOG_SCALES = (-10.0, -10.0 + 255.0 / 16.0)
_SPZ_COLOUR = 127.5 / (0.15 * 255.0)
_SPZ_SH = (-1.0, 127.0 / 128.0)
# What packed PLY can hold of the higher bands.
_PACKED_SH = 4.0


def missing_for_formats(formats: Iterable[str]) -> list[str]:
    """What keeps a world from being written in these formats here, one sentence each."""
    wanted = [name for name in formats if name != "ply"]
    if not wanted or importlib.util.find_spec("gsply") is not None:
        return []
    return [f"{' and '.join(wanted)} cannot be written without the package gsply"]


def require_formats(formats: Iterable[str]) -> None:
    """UsageError where a format other than PLY is asked for and gsply is not installed."""
    for what in missing_for_formats(formats):
        raise UsageError(
            what,
            where="--export_formats",
            remedy='pip install "worldexplorer[exports]", or leave --export_formats away',
        )


def write_spz(path: Path, gaussians: Gaussians, *, antialiased: bool = False) -> dict[str, int]:
    """Write `gaussians`, which are in the scene frame; with `antialiased` the header says that they are meant so.

    Positions are rounded to 1/4096 unit (to 1/2048 and so on where the world reaches past 2,048 units), log scales to
    1/16, colours and directional colours to a byte.

    Returns:
        `gaussians` and `bytes` of the file, and `clipped`: Gaussians of which a number lies outside the format.

    Raises:
        DefectError: a Gaussian is further away than the format can say, 4 million units.
    """
    import gsply

    shown = _shown(gaussians)
    furthest = float(np.abs(shown.means).max())
    bits = min(_MOST_FRACTIONAL_BITS, math.floor(math.log2((2**_POSITION_BITS - 1) / max(furthest, 1e-9))))
    if bits < 1:
        raise DefectError(f"a Gaussian lies {furthest:.3g} units away, more than an SPZ file can say", where=str(path))
    gsply.write_spz(path, _packed(shown), version=SPZ_VERSION, fractional_bits=bits)
    with path.open("r+b") as file:  # a small file says when it was packed, and equal worlds are to be equal files
        file.seek(_GZIP_TIME)
        file.write(bytes(4))
    if antialiased:  # gsply has no word for it
        data = bytearray(gzip.decompress(path.read_bytes()))
        data[_SPZ_FLAGS] |= 1
        path.write_bytes(gzip.compress(data, _SPZ_PACKING, mtime=0))
    outside = _outside(shown.log_scales, *_SPZ_LOG_SCALES, step=1 / 16)
    outside |= _outside(shown.sh[:, 0], -_SPZ_COLOUR, _SPZ_COLOUR, step=1 / (0.15 * 255.0))
    outside |= _outside(shown.sh[:, 1:], *_SPZ_SH, step=1 / 128)
    return {"gaussians": shown.count, "bytes": path.stat().st_size, "clipped": int(outside.sum())}


def write_compressed_ply(path: Path, gaussians: Gaussians, *, antialiased: bool = False) -> dict[str, int]:
    """Write `gaussians`, which are in the frame of the viewers; otherwise as :func:`write_spz`."""
    import gsply

    shown = _shown(gaussians)
    data: bytes = gsply.compress_to_bytes(_packed(shown))
    if antialiased:
        data = data.replace(b"\nelement ", f"\ncomment {ANTIALIASED_COMMENT}\nelement ".encode(), 1)
    path.write_bytes(data)
    outside = _outside(shown.sh[:, 1:], -_PACKED_SH, _PACKED_SH, step=1 / 32)
    return {"gaussians": shown.count, "bytes": path.stat().st_size, "clipped": int(outside.sum())}


def _packed(gaussians: Gaussians) -> Any:
    """The same as gsply has it; its guesses at what the numbers mean are not asked for."""
    import gsply

    return gsply.GSData.from_arrays(
        gaussians.means,
        gaussians.log_scales,
        gaussians.quaternions,
        gaussians.opacity_logits,
        np.ascontiguousarray(gaussians.sh[:, 0]),
        np.ascontiguousarray(gaussians.sh[:, 1:]) if gaussians.sh.shape[1] > 1 else None,
        format="ply",
    )


def _shown(gaussians: Gaussians) -> Gaussians:
    """Those that a viewer draws, along the curve."""
    drawn = np.flatnonzero(gaussians.opacity_logits >= LEAST_LOGIT)
    if not drawn.size:
        raise DefectError("no Gaussian is opaque enough to be drawn")
    shown = chosen(gaussians, drawn[np.argsort(_curve(gaussians.means[drawn]), kind="stable")])
    return replace(shown, opacity_logits=np.minimum(shown.opacity_logits, np.float32(MOST_LOGIT)))


def _curve(points: NDArray[np.float32]) -> NDArray[np.uint64]:
    """[N] places along the Z-order curve through the points' bounding cube.

    Source: G. M. Morton, "A computer oriented geodetic data base" (1966): the bits of the coordinates interleaved.
    """
    least = points.min(axis=0).astype(np.float64)
    side = max(float((points.max(axis=0) - least).max()), 1e-30)
    cells = ((points - least) / side * (2**_CURVE_BITS - 1)).astype(np.uint64)
    for shift, mask in _SPREAD:
        cells = (cells | (cells << np.uint64(shift))) & np.uint64(mask)
    return np.asarray(cells[:, 0] | (cells[:, 1] << np.uint64(1)) | (cells[:, 2] << np.uint64(2)))


def _outside(values: NDArray[np.float32], least: float, most: float, step: float) -> NDArray[np.bool_]:
    """[N] whether one of a Gaussian's numbers is further outside the range than rounding."""
    rows = values.reshape(len(values), -1)
    return np.asarray(((rows < least - step / 2) | (rows > most + step / 2)).any(axis=1), dtype=np.bool_)
