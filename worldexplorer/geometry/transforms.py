"""The `transforms.json` of a scene: which image was taken where, in nerfstudio's format.

Intrinsics in pixels (at the top level where all frames share them, else with each frame), no distortion, OpenGL
camera-to-world matrices in the scene frame and trajectory units, `orientation_override` "none" because the world is
level already, and paths relative to the file's folder, so that a scene can be moved. Held-out frames go into a second
file of the same format.

The writer gives the same bytes for the same content: sorted keys, numbers rounded to twelve decimals. The reader
accepts nothing else than what the writer can have written, down to paths that stay inside the folder.

Example:
    >>> write_transforms(folder / "transforms.json", Transforms(("final/000.png",), np.eye(4)[None], K[None], 576, 576))
    >>> read_transforms(folder / "transforms.json").file_paths
    ('final/000.png',)
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Annotated, Literal, Self, TypeAlias, TypeVar

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from worldexplorer.errors import DefectError, UserError
from worldexplorer.geometry.cameras import pixel_intrinsics
from worldexplorer.geometry.rotations import is_rotation

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

Poses: TypeAlias = "NDArray[np.float64]"
TRANSFORMS_NAME = "transforms.json"
HELDOUT_NAME = "heldout.json"
POINT_CLOUD_NAME = "vggt_pcl.ply"

_DECIMALS = 12
"""Far below any meaning of a pose, and above the rounding that differs between machines."""
_LENS_DECIMALS = 9
"""Of focal lengths and centres in pixels: coarse enough that reading and writing again changes nothing."""
_LARGEST_FILE = 64 * 2**20
_LARGEST_SIDE = 65536
_REMEDY = "make the scene again with stage 2"


@dataclass(frozen=True)
class Transforms:
    """Posed images of one size.

    Attributes:
        file_paths: N paths relative to the folder of the file, POSIX style, no two the same.
        c2w: [N, 4, 4] OpenGL camera-to-world, scene frame, trajectory units.
        intrinsics: [N, 3, 3] normalised, without skew.
        width: of every image, pixels.
        height: of every image, pixels.
        ply_file_path: the initial points, relative to the folder of the file; None where there are none.
    """

    file_paths: tuple[str, ...]
    c2w: Poses
    intrinsics: NDArray[np.float64]
    width: int
    height: int
    ply_file_path: str | None = None


def write_transforms(path: Path, transforms: Transforms) -> None:
    """Write `path`; its folder exists.

    Raises:
        DefectError: the content is not what :func:`read_transforms` would accept.
    """
    c2w = np.asarray(transforms.c2w, dtype=np.float64)
    if c2w.shape != (len(transforms.file_paths), 4, 4):
        raise DefectError(f"{len(transforms.file_paths)} frames have poses of shape {c2w.shape}", where=str(path))
    intrinsics = np.asarray(transforms.intrinsics, dtype=np.float64)
    if intrinsics.shape != (len(c2w), 3, 3):
        raise DefectError(f"{len(c2w)} frames have intrinsics of shape {intrinsics.shape}", where=str(path))
    lenses = [_lens(matrix) for matrix in pixel_intrinsics(intrinsics, transforms.width, transforms.height)]
    shared = all(lens == lenses[0] for lens in lenses)
    document: dict[str, object] = {
        "camera_model": "OPENCV",
        "orientation_override": "none",
        "w": transforms.width,
        "h": transforms.height,
        **(lenses[0] if shared and lenses else {}),
        "frames": [
            {
                "file_path": name,
                "transform_matrix": [[_number(value) for value in row] for row in pose],
                **({} if shared else lens),
            }
            for name, pose, lens in zip(transforms.file_paths, c2w.tolist(), lenses, strict=True)
        ],
    }
    if transforms.ply_file_path is not None:
        document["ply_file_path"] = transforms.ply_file_path
    text = json.dumps(document, sort_keys=True, indent=1) + "\n"
    try:
        _transforms(_parsed(text.encode(), _SceneFile, str(path), _REMEDY), str(path))
    except UserError as error:
        raise DefectError(
            f"a scene was about to be written that cannot be read: {error.what}", where=error.where
        ) from error
    path.write_text(text, encoding="utf-8", newline="\n")


def read_transforms(path: Path) -> Transforms:
    """Read a scene's file.

    Raises:
        UserError: the file is missing, is not JSON, or holds something that does not belong there; names the file and
            the JSON path.
    """
    return _transforms(read_checked(path, _SceneFile, _REMEDY), str(path))


Model = TypeVar("Model", bound=BaseModel)


def read_checked(path: Path, model: type[Model], remedy: str) -> Model:
    """Read a JSON file into a pydantic model.

    Args:
        path: the file; at most 64 MiB are read.
        model: what it must hold.
        remedy: what a person can do when it does not.

    Raises:
        UserError: names the file, the JSON path and what is wrong there.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        if isinstance(error, (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)):
            raise UserError(f"the file cannot be read ({error.strerror})", where=str(path), remedy=remedy) from error
        raise
    if len(content) > _LARGEST_FILE:
        raise UserError(f"the file is larger than {_LARGEST_FILE // 2**20} MiB", where=str(path), remedy=remedy)
    return _parsed(content, model, str(path), remedy)


def json_path(location: tuple[int | str, ...]) -> str:
    """`frames[3].transform_matrix[0]` from ("frames", 3, "transform_matrix", 0)."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return text.removeprefix(".")


def _parsed(content: bytes, model: type[Model], where: str, remedy: str) -> Model:
    try:
        return model.model_validate_json(content, strict=True)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        first = problems[0]
        place = json_path(first["loc"])
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise UserError(
            f"{first['msg']}{more}", where=f"{where}: {place}" if place else where, remedy=remedy
        ) from error


def _inside(path: str) -> str:
    """Refuse what is not the plain relative path of a file below the folder."""
    parts = path.split("/")
    if (
        "\\" in path
        or "\0" in path
        or any(part in ("", ".", "..") for part in parts)
        or PurePosixPath(path).is_absolute()
        or ":" in parts[0]
    ):
        raise ValueError(f"{path!r} is not a plain path inside the folder of the file")
    return path


Finite = Annotated[float, Field(allow_inf_nan=False)]
Row = tuple[Finite, Finite, Finite, Finite]
_Path = Annotated[str, AfterValidator(_inside)]
_Focal = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Side = Annotated[int, Field(ge=1, le=_LARGEST_SIDE)]


class _Lens(BaseModel):
    """Intrinsics in pixels; all four or none."""

    model_config = ConfigDict(extra="forbid")

    fl_x: _Focal | None = None
    fl_y: _Focal | None = None
    cx: Finite | None = None
    cy: Finite | None = None

    @model_validator(mode="after")
    def _all_or_none(self) -> Self:
        if len({value is None for value in (self.fl_x, self.fl_y, self.cx, self.cy)}) > 1:
            raise ValueError("fl_x, fl_y, cx and cy go together")
        return self

    def matrix(self) -> list[list[float]] | None:
        """3 x 3 in pixels; None where something is missing."""
        if self.fl_x is None or self.fl_y is None or self.cx is None or self.cy is None:
            return None
        return [[self.fl_x, 0.0, self.cx], [0.0, self.fl_y, self.cy], [0.0, 0.0, 1.0]]


class _Frame(_Lens):
    file_path: _Path
    transform_matrix: tuple[Row, Row, Row, Row]


class _SceneFile(_Lens):
    camera_model: Literal["OPENCV"]
    orientation_override: Literal["none"]
    w: _Side
    h: _Side
    frames: Annotated[list[_Frame], Field(min_length=1)]
    ply_file_path: _Path | None = None


def _transforms(scene: _SceneFile, where: str) -> Transforms:
    c2w = np.array([frame.transform_matrix for frame in scene.frames], dtype=np.float64)
    flawed = np.flatnonzero(~is_rotation(c2w[:, :3, :3]) | (c2w[:, 3] != (0.0, 0.0, 0.0, 1.0)).any(axis=1))
    if flawed.size:
        raise UserError(
            "the matrix is not a camera-to-world pose (a proper rotation, a position and the row 0 0 0 1)",
            where=f"{where}: frames[{flawed[0]}].transform_matrix",
            remedy=_REMEDY,
        )
    seen: set[str] = set()
    for index, frame in enumerate(scene.frames):
        if frame.file_path in seen:
            raise UserError(
                f"{frame.file_path} is listed twice", where=f"{where}: frames[{index}].file_path", remedy=_REMEDY
            )
        seen.add(frame.file_path)
    lenses = []
    for index, frame in enumerate(scene.frames):
        lens = frame.matrix() or scene.matrix()
        if lens is None:
            raise UserError(
                "the frame has no intrinsics (fl_x, fl_y, cx, cy), and the file has none for all frames",
                where=f"{where}: frames[{index}]",
                remedy=_REMEDY,
            )
        lenses.append(lens)
    intrinsics = np.array(lenses) / np.array([[scene.w], [scene.h], [1.0]])
    return Transforms(
        file_paths=tuple(frame.file_path for frame in scene.frames),
        c2w=c2w,
        intrinsics=intrinsics,
        width=scene.w,
        height=scene.h,
        ply_file_path=scene.ply_file_path,
    )


def _lens(pixels: NDArray[np.float64]) -> dict[str, float]:
    places = {"fl_x": (0, 0), "fl_y": (1, 1), "cx": (0, 2), "cy": (1, 2)}
    return {name: round(_number(pixels[place]), _LENS_DECIMALS) for name, place in places.items()}


def _number(value: float) -> float:
    """Rounded for the file; never -0.0. What is not finite stays so and is refused when the text is checked."""
    return round(float(value), _DECIMALS) + 0.0 if math.isfinite(value) else float(value)
