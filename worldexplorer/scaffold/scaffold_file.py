"""`scaffold.json`: where the eight views were taken and what they come from.

Example:
    >>> scaffold = read_scaffold(Path("scaffold/scaffold.json"))
    >>> scaffold.poses().shape
    (8, 4, 4)
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from worldexplorer.errors import UserError
from worldexplorer.geometry.rotations import is_rotation

VIEW_COUNT = 8
Source = Literal["input", "input+generated", "generated", "inpainted", "provided", "unknown"]

_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Row = tuple[_Finite, _Finite, _Finite, _Finite]


class ScaffoldView(BaseModel):
    """One of the eight views.

    Attributes:
        c2w: 4 x 4 OpenGL camera-to-world, scene frame, trajectory units.
        k_norm: focal lengths and centre, normalised by width and height.
    """

    model_config = ConfigDict(frozen=True)

    id: int
    file: str
    sha256: str
    yaw_deg: _Finite
    c2w: tuple[_Row, _Row, _Row, _Row]
    k_norm: tuple[_Finite, _Finite, _Finite, _Finite]
    source: Source


class ScaffoldFile(BaseModel):
    """The whole file."""

    model_config = ConfigDict(frozen=True)

    version: Literal[1] = 1
    size: int
    convention: Literal["opengl_c2w"] = "opengl_c2w"
    units: Literal["trajectory"] = "trajectory"
    method: str
    prior: str | None
    engine: str
    seed: int
    views: Annotated[list[ScaffoldView], Field(min_length=VIEW_COUNT, max_length=VIEW_COUNT)]

    def poses(self) -> NDArray[np.float64]:
        """[8, 4, 4] OpenGL camera-to-world."""
        return np.array([view.c2w for view in self.views], dtype=np.float64)

    def intrinsics(self) -> NDArray[np.float64]:
        """[8, 3, 3] normalised."""
        matrices = np.tile(np.eye(3), (VIEW_COUNT, 1, 1))
        for matrix, view in zip(matrices, self.views, strict=True):
            matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2] = view.k_norm
        return matrices


def write_scaffold(path: Path, scaffold: ScaffoldFile) -> None:
    """Write the file; equal contents give equal bytes."""
    document: dict[str, Any] = scaffold.model_dump(mode="json")
    path.write_text(json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")


def read_scaffold(path: Path) -> ScaffoldFile:
    """Read the file; UserError naming it and the place in it that is wrong."""
    remedy = "correct the file, or remove it where the views are the plain ring of eight"
    try:
        scaffold = ScaffoldFile.model_validate_json(path.read_bytes())
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in problem["loc"])
        raise UserError(f"scaffold.json: {place}: {problem['msg']}", where=str(path), remedy=remedy) from None
    poses = scaffold.poses()
    if not is_rotation(poses[:, :3, :3]).all() or not (poses[:, 3] == (0.0, 0.0, 0.0, 1.0)).all():
        raise UserError("scaffold.json: a c2w is not a camera pose", where=str(path), remedy=remedy)
    return scaffold
