"""The frame that nerfstudio trains in, and the way back.

nerfstudio moves and scales a scene before it trains: p' = scale * (R p + t), with R and t in `transform` [3, 4] and
`scale` in `dataparser_transforms.json`. A scene of this program says that it is level already, so R is the identity;
the way back does not count on it: positions, sizes, orientations and the colours' directions are all undone.

Example:
    >>> in_scene = undone(trained, read_frame(run_data / "dataparser_transforms.json"))
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from worldexplorer.errors import DefectError, UserError
from worldexplorer.geometry.gaussians import Gaussians
from worldexplorer.geometry.rotations import is_rotation, nearest_rotation
from worldexplorer.geometry.similarity import Similarity
from worldexplorer.geometry.transforms import Row, read_checked

_REMEDY = "remove the run data, and run it again"


def read_frame(path: Path) -> Similarity:
    """The map from the scene frame to the one trained in.

    Raises:
        DefectError: nerfstudio has written no such file, or something else in it.
    """
    try:
        found = read_checked(path, _Transforms, _REMEDY)
    except UserError as error:
        raise DefectError(error.what, where=error.where, remedy=error.remedy) from error
    matrix = np.array(found.transform)
    if not is_rotation(matrix[:, :3]):
        raise DefectError("the frame that nerfstudio trained in is no turned one", where=str(path), remedy=_REMEDY)
    return Similarity(found.scale, nearest_rotation(matrix[:, :3]), found.scale * matrix[:, 3])


def undone(gaussians: Gaussians, frame: Similarity) -> Gaussians:
    """Gaussians of a frame in the scene that the frame was made of."""
    back = frame.inverse()
    turned = gaussians.rotated(back.rotation)
    return Gaussians(
        means=np.ascontiguousarray(back.apply(gaussians.means), dtype=np.float32),
        log_scales=np.ascontiguousarray(gaussians.log_scales + np.log(back.scale), dtype=np.float32),
        quaternions=turned.quaternions,
        opacity_logits=gaussians.opacity_logits,
        sh=turned.sh,
    )


class _Transforms(BaseModel):
    model_config = ConfigDict(extra="forbid")

    transform: tuple[Row, Row, Row]
    scale: Annotated[float, Field(gt=0, allow_inf_nan=False)]
