"""The layout of a scene folder (`img2trajvid/`) and the views it starts from.

    input/000.png ... 007.png             the scaffold views
    IMG_TRAJ/samples-rgb/NNN.png          the frames of one trajectory of one scaffold view
    IMG_TRAJ/walk.mp4                     the same as a film, there and back
    walkthrough.mp4                       all films on one path
    NAME/samples-rgb/NNN.png              the views an engine adds for its trainer (preview: caps)
    heldout/NNN.png  heldout.json         views kept out of training, to measure with
    transforms.json                       every training view
    vggt_pcl.ply  alignment.json          the point cloud and how it was brought into the scene frame
    collision.json                        what every trajectory ran into
    samplings.json                        which frames were made together, and from which

Example:
    >>> frame_path("003_left", 7)
    '003_left/samples-rgb/007.png'
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from worldexplorer import layout
from worldexplorer.engine import Views
from worldexplorer.pictures import frame_name, read_pictures
from worldexplorer.scaffold.poses import VIEW_COUNT
from worldexplorer.scaffold.scaffold_file import read_scaffold

if TYPE_CHECKING:
    from worldexplorer.context import InputFiles

SCAFFOLD_VIEWS = VIEW_COUNT
INPUT_FOLDER = "input"
HELDOUT_FOLDER = "heldout"
FRAMES_FOLDER = "samples-rgb"
ALIGNMENT_NAME = "alignment.json"
COLLISION_NAME = "collision.json"
SAMPLINGS_NAME = "samplings.json"
WALK_NAME = "walk.mp4"
WALKTHROUGH_NAME = "walkthrough.mp4"


def input_path(view: int) -> str:
    """A scaffold view in the scene folder."""
    return f"{INPUT_FOLDER}/{frame_name(view)}"


def frame_path(folder: str, frame: int) -> str:
    """A frame of a trajectory in the scene folder."""
    return f"{folder}/{FRAMES_FOLDER}/{frame_name(frame)}"


def heldout_path(view: int) -> str:
    """A held-out view in the scene folder."""
    return f"{HELDOUT_FOLDER}/{frame_name(view)}"


def read_scaffold_views(inputs: InputFiles, size: int) -> Views:
    """The eight views of a scaffold, resized to `size`."""
    scaffold = read_scaffold(inputs.path(layout.SCAFFOLD_JSON))
    paths = inputs.files([f"{layout.SCAFFOLD_FINAL}/{frame_name(view)}" for view in range(VIEW_COUNT)])
    return Views(read_pictures(paths, size), scaffold.poses(), scaffold.intrinsics())
