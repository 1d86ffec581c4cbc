"""Films of a scene: one of every trajectory, there and back, and one that goes through them all.

Each film of a trajectory begins and ends where the scaffold view stands, so the one through all is those one after the
other, and between two views a turn of the camera on the spot. The turn shows the frames that stage 1 made there, where
its camera turned on the spot too, and fades from view to view elsewhere. Of a trajectory that a collision cut there is
what is left of it, and one without frames is left out: the camera never jumps.

Example:
    >>> write_walk(scene / "003_left", frames)
    >>> write_walkthrough(scene, shots, turns_of(context.inputs, scaffold.images), work)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from worldexplorer import layout
from worldexplorer.engine import Images
from worldexplorer.pictures import frame_name, read_pictures
from worldexplorer.report.video import join_videos, write_video
from worldexplorer.scaffold.poses import DEFAULT_PRIOR, VIEW_COUNT
from worldexplorer.scaffold.scaffold_file import read_scaffold
from worldexplorer.trajectory.paths import parse_folder_name
from worldexplorer.trajectory.scene import WALK_NAME, WALKTHROUGH_NAME

if TYPE_CHECKING:
    from worldexplorer.context import InputFiles
    from worldexplorer.trajectory.shots import Shot

RATE = 30
"""Frames a second."""
TURN_FRAMES = RATE
"""Frames of a turn from one view to the next, about: a second for 45 degrees, as fast as the trajectories turn."""
_PANNING_METHOD = "single_image"


def write_walk(folder: Path, frames: Images) -> None:
    """Write the film of one trajectory ([n, S, S, 3] uint8) into its folder: to its last frame and back."""
    write_video(folder / WALK_NAME, [*frames, *frames[-2::-1]], RATE)


def write_walkthrough(scene: Path, shots: Sequence[Shot], turns: Sequence[Images], work: Path) -> None:
    """Write the film through all trajectories; their own films are there.

    Args:
        scene: the scene folder.
        shots: of all trajectories, in the order they are walked.
        turns: for each view the frames of the turn to the next one, the view itself first: [n, S, S, 3] uint8.
        work: a folder for what is only needed meanwhile; it is made.
    """
    work.mkdir(parents=True, exist_ok=True)
    parts = []
    for view, turn in enumerate(turns):
        parts += [
            scene / shot.folder / WALK_NAME for shot in shots if len(shot) and parse_folder_name(shot.folder)[0] == view
        ]
        parts.append(work / f"turn_{view}.mp4")
        slowly = max(1, round(TURN_FRAMES / len(turn)))
        write_video(parts[-1], np.repeat(turn, slowly, axis=0), RATE)
    join_videos(scene / WALKTHROUGH_NAME, parts)


def turns_of(inputs: InputFiles, views: Images) -> list[Images]:
    """The frames of the turn from each of the views ([8, S, S, 3]) to the next, the view itself first."""
    path = _turning_frames(inputs)
    per_view = len(path) // VIEW_COUNT
    if per_view < 2:
        return [_fading(views[view], views[(view + 1) % VIEW_COUNT]) for view in range(VIEW_COUNT)]
    size = views.shape[1]
    return [
        np.concatenate([views[view : view + 1], read_pictures(path[view * per_view + 1 : (view + 1) * per_view], size)])
        for view in range(VIEW_COUNT)
    ]


def _turning_frames(inputs: InputFiles) -> list[Path]:
    """The frames of stage 1's turn on the spot, in order; none where its camera went elsewhere."""
    scaffold = read_scaffold(inputs.path(layout.SCAFFOLD_JSON))
    if scaffold.method != _PANNING_METHOD or scaffold.prior != DEFAULT_PRIOR:
        return []
    paths = inputs.paths(layout.GENERATED_VIEWS)
    in_order = [path.name for path in paths] == [frame_name(frame) for frame in range(len(paths))]
    return paths if in_order and len(paths) % VIEW_COUNT == 0 else []


def _fading(one: Images, other: Images) -> Images:
    share = np.arange(TURN_FRAMES)[:, None, None, None] / TURN_FRAMES
    return np.rint((1 - share) * one + share * other).astype(np.uint8)
