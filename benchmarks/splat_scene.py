"""The scene that splat trainers are measured on: views of the preview engine's world of a demo photo.

240 training frames and 24 held-out ones of 576 pixels as JPEG of quality 95, and 100,000 points. The training frames
are the eight scaffold views, the twelve caps, and 220 frames spread evenly over the four trajectories of all eight
views, where a camera has room. Held-out cameras stand on the same paths and look anywhere.

The folder holds what stage 3 reads (`transforms.json`, `heldout.json`, `vggt_pcl.ply`) beside the frames, so any
trainer of nerfstudio's format can read it too.

Example:
    python benchmarks/splat_scene.py /data/scene
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from PIL import Image

from worldexplorer.engine import Images, Poses, SplatScene, Views
from worldexplorer.geometry.cameras import normalised_intrinsics
from worldexplorer.geometry.ply import read_points, write_points
from worldexplorer.geometry.transforms import (
    HELDOUT_NAME,
    POINT_CLOUD_NAME,
    TRANSFORMS_NAME,
    Transforms,
    read_transforms,
    write_transforms,
)
from worldexplorer.pictures import read_pictures

PHOTO = Path(__file__).parents[1] / "examples" / "demo" / "photorealistic" / "square.jpg"
SIZE = 576
TRAINING_FRAMES, HELDOUT_FRAMES, POINTS = 240, 24, 100_000
TRANSLATION_SCALING = 10.0
PIXELS_PER_DEGREE = 10
_QUALITY = 95
_POINT_VIEWS = 40
_SEED = 1


def main() -> None:
    """Make the scene and say how long it took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=SIZE)
    parser.add_argument("--frames", type=int, default=TRAINING_FRAMES)
    parser.add_argument("--heldout", type=int, default=HELDOUT_FRAMES)
    parser.add_argument("--points", type=int, default=POINTS)
    arguments = parser.parse_args()
    start = time.perf_counter()
    make_scene(arguments.folder, arguments.size, arguments.frames, arguments.heldout, arguments.points)
    written = sum(path.stat().st_size for path in arguments.folder.rglob("*") if path.is_file())
    print(f"{arguments.folder}: {written / 2**20:.1f} MiB in {time.perf_counter() - start:.1f} s")


def make_scene(
    folder: Path,
    size: int = SIZE,
    frames: int = TRAINING_FRAMES,
    heldout: int = HELDOUT_FRAMES,
    points: int = POINTS,
) -> None:
    """Write the scene into a folder, which is made."""
    from worldexplorer.photo.pixels import load_photo
    from worldexplorer.photo.view import photo_hfov
    from worldexplorer.preview.models import (
        METRES_A_SCALED_UNIT,
        PreviewGeometry,
        WorldRenderers,
        cap_views,
        has_room,
    )
    from worldexplorer.preview.panorama import build_world
    from worldexplorer.progress import silent
    from worldexplorer.scaffold.poses import scaffold_poses
    from worldexplorer.trajectory.alignment import align
    from worldexplorer.trajectory.heldout import heldout_poses
    from worldexplorer.trajectory.paths import published_trajectories, trajectory_poses
    from worldexplorer.trajectory.point_cloud import build_point_cloud

    photo = load_photo(PHOTO)
    world = build_world(
        photo,
        hfov_deg=photo_hfov(photo.shape[1], photo.shape[0]),
        scene_type="outdoor",
        seed=_SEED,
        pixels_per_degree=PIXELS_PER_DEGREE,
        progress=silent,
    )
    metres = METRES_A_SCALED_UNIT * TRANSLATION_SCALING
    scaffold = scaffold_poses()
    paths, origins = [], []
    for view in scaffold:
        for trajectory in published_trajectories().values():
            poses = trajectory_poses(view, trajectory, np.arange(trajectory.count, dtype=np.float64))
            room = has_room(world, poses[:, :3, 3] * metres)
            kept = len(poses) if room.all() else int(np.argmin(room))
            if kept > 1:
                paths.append(poses[:kept])
                origins.append(view)
    fixed = np.concatenate([scaffold, cap_views()])
    train = np.concatenate([fixed, _spread([path[1:] for path in paths], max(frames - len(fixed), 0))])[:frames]
    novel = heldout_poses(np.stack(origins), paths, heldout, _SEED)
    renderers = WorldRenderers()

    def render(c2w: Poses) -> Images:
        scaled = c2w.copy()
        scaled[:, :3, 3] *= metres
        return renderers.of(world).render(scaled, _lenses(len(c2w)), size)

    pictures = render(train)
    _write(folder, "frames", TRANSFORMS_NAME, pictures, train)
    _write(folder, "heldout", HELDOUT_NAME, render(novel), novel)
    chosen = np.unique(np.linspace(0, len(train) - 1, min(_POINT_VIEWS, len(train))).round().astype(np.int64))
    views = Views(pictures[chosen], train[chosen], _lenses(len(chosen)))
    maps = PreviewGeometry(renderers).points(views, world, TRANSLATION_SCALING)
    aligned, report = align(maps, views.c2w)
    cloud = build_point_cloud(
        aligned, maps.confidence, views.images, views.c2w, count=points, seed=_SEED, use=report.usable
    )
    write_points(folder / POINT_CLOUD_NAME, cloud)


def load_scene(folder: Path) -> tuple[SplatScene, Views]:
    """The training scene and the held-out views."""
    cloud = read_points(folder / POINT_CLOUD_NAME)
    return (
        SplatScene(_views(folder, TRANSFORMS_NAME), cloud.points, cloud.normals, cloud.colours),
        _views(folder, HELDOUT_NAME),
    )


def _views(folder: Path, name: str) -> Views:
    transforms = read_transforms(folder / name)
    return Views(
        read_pictures([folder / path for path in transforms.file_paths]), transforms.c2w, transforms.intrinsics
    )


def _write(folder: Path, subfolder: str, name: str, pictures: Images, c2w: Poses) -> None:
    (folder / subfolder).mkdir(parents=True, exist_ok=True)
    files = tuple(f"{subfolder}/{number:03d}.jpg" for number in range(len(pictures)))
    for file, picture in zip(files, pictures, strict=True):
        Image.fromarray(picture).save(folder / file, quality=_QUALITY)
    size = pictures.shape[1]
    write_transforms(folder / name, Transforms(files, c2w, _lenses(len(c2w)), size, size, POINT_CLOUD_NAME))


def _spread(paths: list[Poses], count: int) -> Poses:
    """`count` poses spread evenly over the frames of all paths, one path after the other."""
    every = np.concatenate(paths)
    places = np.linspace(0, len(every) - 1, count).round().astype(np.int64)
    return every[places]


def _lenses(count: int) -> Poses:
    return np.tile(normalised_intrinsics(), (count, 1, 1))


if __name__ == "__main__":
    main()
