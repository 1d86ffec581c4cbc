"""PLY files of Gaussians and of point clouds: written fast and always the same way, read strictly.

Binary little-endian only, one element `vertex`, float32 (and for colours uchar) properties. The reader believes
nothing: header and count are capped, the size must be exactly what the header announces, every property must be known
and there once, every number finite. It allocates only after that, so a hostile file costs no more than its own size.

Gaussians are in the INRIA layout: x y z, nx ny nz (zero), f_dc_0..2, f_rest_* (all of red's, then green's, then
blue's), opacity (logit), scale_0..2 (natural logarithm), rot_0..3 (w x y z).

Example:
    >>> write_gaussians(folder / "splat.ply", world, comments=["y up, trajectory units"])
    >>> read_gaussians(folder / "splat.ply").count == world.count
    True
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from worldexplorer.errors import DefectError, UserError, WorldExplorerError
from worldexplorer.geometry.gaussians import Gaussians
from worldexplorer.geometry.ply_header import BYTE, FLOAT, TYPE_NAMES, Fault, Header, header_bytes, read_header
from worldexplorer.geometry.spherical_harmonics import MAXIMUM_DEGREE, coefficient_count, degree_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from io import BufferedReader
    from pathlib import Path

    from numpy.typing import NDArray

GAUSSIANS_LIMIT = 10_000_000
"""Gaussians a file may hold."""

POINTS_LIMIT = 50_000_000
"""Points a file may hold."""

_ROWS_AT_A_TIME = 32_768
"""Rows converted at once; 8 MB of Gaussians, which the processor's caches hold."""

_NORMALS = ("nx", "ny", "nz")
_POINT_LAYOUT = dict.fromkeys(("x", "y", "z", *_NORMALS), FLOAT) | dict.fromkeys(("red", "green", "blue"), BYTE)

_UNIT = 1e-3
"""How far from 1 a quaternion's length may be where Gaussians are written."""

_ROUNDING = 1e-6
"""How far from 1 a quaternion's length is by float32 rounding alone."""


@dataclass(frozen=True)
class PointCloud:
    """P coloured points with normals.

    Attributes:
        points: [P, 3] float32.
        normals: [P, 3] float32.
        colours: [P, 3] uint8 sRGB.
    """

    points: NDArray[np.float32]
    normals: NDArray[np.float32]
    colours: NDArray[np.uint8]


def write_gaussians(path: Path, gaussians: Gaussians, comments: Sequence[str] = ()) -> None:
    """Write Gaussians; equal Gaussians and comments give equal bytes.

    Nothing is written when the Gaussians are not valid.

    Args:
        path: of the file, replaced where it exists.
        gaussians: to write.
        comments: lines for the header, printable ASCII.

    Raises:
        DefectError: shapes or types do not fit, a number is not finite (the text names the first one's row and
            property), a quaternion has not length 1, there are too many Gaussians, or a comment is not one ASCII line.
        OSError: the file cannot be written.
    """
    place = os.fspath(path)
    layout = _check_gaussians(gaussians, place)
    header = header_bytes(gaussians.count, layout, comments, place)
    with path.open("wb") as file:
        file.write(header)
        for _, table in _tables(gaussians, len(layout)):
            # Not tofile(), which loses the error number of a full disk.
            file.write(table.view(np.uint8).data)


def read_gaussians(path: Path, fault: type[WorldExplorerError] = UserError) -> Gaussians:
    """Read Gaussians, whatever the order of their properties; the normals may be absent.

    Args:
        path: of the file.
        fault: the class of the error that a bad file raises: DefectError where this program made the file.

    Returns:
        The Gaussians, quaternions normalised.

    Raises:
        WorldExplorerError: of class `fault`; the file is absent or not exactly such a file. The text names what is
            wrong: the property that is missing, double, unknown or of another type, or the first row that is not valid.
    """
    wrong = _fault(path, fault, "make it again, as binary little-endian PLY of Gaussians in the INRIA layout")
    with _open(path, wrong) as file:
        header = read_header(file, GAUSSIANS_LIMIT, wrong)
        count = _coefficients(header, wrong)
        layout = _gaussian_layout(count)
        optional = () if header.properties.keys() & set(_NORMALS) else _NORMALS
        _check_layout(header, {name: kind for name, kind in layout.items() if name not in optional}, wrong)
        _check_size(file, header, wrong)
        columns = list(header.properties)
        order = np.array([columns.index(name) for name in layout if name not in _NORMALS])
        means, log_scales, quaternions = (np.empty((header.count, n), dtype=np.float32) for n in (3, 3, 4))
        logits = np.empty(header.count, dtype=np.float32)
        sh = np.empty((header.count, count, 3), dtype=np.float32)
        for rows, block in _blocks(file, header, wrong):
            table = block.view(FLOAT).reshape(len(block), len(columns))
            _check_finite(table, columns, rows.start, wrong)
            values = table[:, order]
            means[rows] = values[:, 0:3]
            sh[rows, 0] = values[:, 3:6]
            sh[rows, 1:] = values[:, 6:-8].reshape(len(block), 3, count - 1).transpose(0, 2, 1)
            logits[rows] = values[:, -8]
            log_scales[rows] = values[:, -7:-4]
            quaternions[rows] = _normalised(values[:, -4:], rows.start, wrong)
    return Gaussians(means, log_scales, quaternions, logits, sh)


def write_points(path: Path, cloud: PointCloud, comments: Sequence[str] = ()) -> None:
    """Write a point cloud; equal clouds and comments give equal bytes.

    Nothing is written when the cloud is not valid.

    Args:
        path: of the file, replaced where it exists.
        cloud: to write.
        comments: lines for the header, printable ASCII.

    Raises:
        DefectError: shapes or types do not fit, a number is not finite, there are too many points, or a comment is not
            one ASCII line.
        OSError: the file cannot be written.
    """
    place = os.fspath(path)
    count = len(cloud.points)
    _check_array("points", cloud.points, (count, 3), np.float32, place)
    _check_array("normals", cloud.normals, (count, 3), np.float32, place)
    _check_array("colours", cloud.colours, (count, 3), np.uint8, place)
    _check_count(count, POINTS_LIMIT, place)
    wrong = _fault(path, DefectError, "")
    _check_finite(cloud.points, "xyz", 0, wrong)
    _check_finite(cloud.normals, _NORMALS, 0, wrong)
    header = header_bytes(count, _POINT_LAYOUT, comments, place)
    with path.open("wb") as file:
        file.write(header)
        for start in range(0, count, _ROWS_AT_A_TIME):
            rows = slice(start, min(start + _ROWS_AT_A_TIME, count))
            block = np.empty(rows.stop - rows.start, dtype=list(_POINT_LAYOUT.items()))
            for names, values in _point_fields(cloud):
                for column, name in enumerate(names):
                    block[name] = values[rows, column]
            file.write(block.view(np.uint8).data)


def read_points(path: Path, fault: type[WorldExplorerError] = UserError) -> PointCloud:
    """Read a point cloud with normals and colours, whatever the order of its properties.

    Args:
        path: of the file.
        fault: the class of the error that a bad file raises: DefectError where this program made the file.

    Returns:
        The points.

    Raises:
        WorldExplorerError: of class `fault`, as :func:`read_gaussians`.
    """
    wrong = _fault(path, fault, "make it again, as binary little-endian PLY with x y z nx ny nz and red green blue")
    with _open(path, wrong) as file:
        header = read_header(file, POINTS_LIMIT, wrong)
        _check_layout(header, _POINT_LAYOUT, wrong)
        _check_size(file, header, wrong)
        points, normals = (np.empty((header.count, 3), dtype=np.float32) for _ in range(2))
        cloud = PointCloud(points, normals, np.empty((header.count, 3), dtype=np.uint8))
        for rows, block in _blocks(file, header, wrong):
            for names, values in _point_fields(cloud):
                for column, name in enumerate(names):
                    values[rows, column] = block[name]
            floats = [name for name, kind in header.properties.items() if kind == FLOAT]
            _check_finite(np.stack([block[name] for name in floats], axis=1), floats, rows.start, wrong)
    return cloud


def read_comments(path: Path, fault: type[WorldExplorerError] = UserError) -> tuple[str, ...]:
    """The comment lines of a PLY file's header, in order.

    Raises:
        WorldExplorerError: of class `fault`; the file is absent or has no such header.
    """
    wrong = _fault(path, fault, "make it again, as binary little-endian PLY")
    with _open(path, wrong) as file:
        return read_header(file, POINTS_LIMIT, wrong).comments


def _fault(path: Path, fault: type[WorldExplorerError], remedy: str) -> Fault:
    return lambda what: fault(what, where=os.fspath(path), remedy=remedy)


def _gaussian_layout(count: int) -> dict[str, str]:
    """Property types, in the order of the files, for `count` coefficients a channel."""
    colour = [f"f_dc_{i}" for i in range(3)] + [f"f_rest_{i}" for i in range(3 * (count - 1))]
    shape = ["opacity", *(f"scale_{i}" for i in range(3)), *(f"rot_{i}" for i in range(4))]
    return dict.fromkeys(["x", "y", "z", *_NORMALS, *colour, *shape], FLOAT)


def _point_fields(cloud: PointCloud) -> tuple[tuple[Sequence[str], NDArray[Any]], ...]:
    return ("xyz", cloud.points), (_NORMALS, cloud.normals), (("red", "green", "blue"), cloud.colours)


def _check_gaussians(gaussians: Gaussians, where: str) -> dict[str, str]:
    """The layout of the file, if the Gaussians are valid."""
    count = gaussians.count
    coefficients = gaussians.sh.shape[1] if gaussians.sh.ndim == 3 else 0
    arrays = {
        "means": (gaussians.means, (count, 3)),
        "log_scales": (gaussians.log_scales, (count, 3)),
        "quaternions": (gaussians.quaternions, (count, 4)),
        "opacity_logits": (gaussians.opacity_logits, (count,)),
        "sh": (gaussians.sh, (count, coefficients, 3)),
    }
    for name, (array, shape) in arrays.items():
        _check_array(name, array, shape, np.float32, where)
    _check_count(count, GAUSSIANS_LIMIT, where)
    layout = _gaussian_layout(coefficient_count(degree_of(coefficients)))
    if not all(np.isfinite(array).all() for array, _ in arrays.values()):
        for start, table in _tables(gaussians, len(layout)):
            _check_finite(table, list(layout), start, lambda what: DefectError(what, where=where))
    length = np.linalg.norm(gaussians.quaternions.astype(np.float64), axis=1)
    if (np.abs(length - 1.0) > _UNIT).any():
        row = int(np.argmax(np.abs(length - 1.0) > _UNIT))
        raise DefectError(f"the quaternion in row {row} has the length {length[row]:.6g} instead of 1", where=where)
    return layout


def _check_array(name: str, array: NDArray[Any], shape: tuple[int, ...], kind: type, where: str) -> None:
    if array.dtype != kind or array.shape != shape:
        raise DefectError(
            f"{name} must be {np.dtype(kind)} with the shape {list(shape)}; "
            f"the array is {array.dtype} with the shape {list(array.shape)}",
            where=where,
        )


def _check_count(count: int, limit: int, where: str) -> None:
    if count > limit:
        raise DefectError(f"{count} rows are more than a PLY file may hold here, {limit}", where=where)


def _tables(gaussians: Gaussians, columns: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """The rows of the file, block by block: the first row's number and [n, columns] little-endian float32."""
    for start in range(0, gaussians.count, _ROWS_AT_A_TIME):
        rows = slice(start, min(start + _ROWS_AT_A_TIME, gaussians.count))
        sh = gaussians.sh[rows]
        table = np.zeros((len(sh), columns), dtype=FLOAT)
        table[:, 0:3] = gaussians.means[rows]
        table[:, 6:9] = sh[:, 0]
        table[:, 9:-8] = sh[:, 1:].transpose(0, 2, 1).reshape(len(sh), -1)
        table[:, -8] = gaussians.opacity_logits[rows]
        table[:, -7:-4] = gaussians.log_scales[rows]
        table[:, -4:] = gaussians.quaternions[rows]
        yield start, table


def _open(path: Path, wrong: Fault) -> BufferedReader:
    if not path.is_file():  # before opening: a pipe in the file's place would wait for ever
        raise wrong("there is no such file")
    return path.open("rb")


def _coefficients(header: Header, wrong: Fault) -> int:
    """How many coefficients a channel has, from the number of f_rest properties."""
    rest = sum(name.startswith("f_rest_") for name in header.properties)
    for degree in range(MAXIMUM_DEGREE + 1):
        if 3 * (coefficient_count(degree) - 1) == rest:
            return coefficient_count(degree)
    raise wrong(f"the file has {rest} properties f_rest_*; 0, 9, 24 or 45 are possible")


def _check_layout(header: Header, layout: dict[str, str], wrong: Fault) -> None:
    for name, kind in layout.items():
        if name not in header.properties:
            raise wrong(f"the property {name} is missing")
        if header.properties[name] != kind:
            raise wrong(
                f"the property {name} has the type {TYPE_NAMES[header.properties[name]]} instead of {TYPE_NAMES[kind]}"
            )
    for name in header.properties:
        if name not in layout:
            raise wrong(f"the property {name[:40]} does not belong into such a file")


def _check_size(file: BufferedReader, header: Header, wrong: Fault) -> None:
    size = os.fstat(file.fileno()).st_size
    due = header.length + header.count * header.row.itemsize
    if size != due:
        state = "cut off" if size < due else "longer than it says"
        raise wrong(f"the file is {state}: {size} bytes instead of {due} for {header.count} rows")


def _blocks(file: BufferedReader, header: Header, wrong: Fault) -> Iterator[tuple[slice, NDArray[Any]]]:
    """The file's rows, block by block, and where they belong."""
    for start in range(0, header.count, _ROWS_AT_A_TIME):
        rows = slice(start, min(start + _ROWS_AT_A_TIME, header.count))
        block = np.empty(rows.stop - rows.start, dtype=header.row)
        # Not fromfile(), which takes a read error for the end of the file.
        if file.readinto(block.view(np.uint8).data) != block.nbytes:
            raise wrong("the file was cut off while it was read")
        yield rows, block


def _check_finite(table: NDArray[Any], names: Sequence[str], first_row: int, wrong: Fault) -> None:
    finite = np.isfinite(table)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise wrong(f"{names[column]} in row {first_row + row} is {table[row, column]}, not a finite number")


def _normalised(quaternions: NDArray[np.float32], first_row: int, wrong: Fault) -> NDArray[np.float32]:
    """Unit quaternions; those that are unit but for rounding stay as they are, bit for bit."""
    length = np.linalg.norm(quaternions.astype(np.float64), axis=1, keepdims=True)
    if not length.all():
        raise wrong(f"the quaternion in row {first_row + int(np.argmin(length))} has length zero")
    unit = np.where(np.abs(length - 1.0) <= _ROUNDING, quaternions, quaternions / length)
    return unit.astype(np.float32)
