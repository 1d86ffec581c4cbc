"""Models of points without a network: passes, memory that runs out, and the way to the scene frame and back."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from worldexplorer.engine import Views
from worldexplorer.errors import DefectError, OutOfMemoryError, UserError
from worldexplorer.geometry.cameras import camera_rays, normalised_intrinsics, opengl_to_opencv, pose, yaw_matrix
from worldexplorer.geometry.similarity import Similarity
from worldexplorer.models.geometry_models import GEOMETRY, FrameModel
from worldexplorer.models.point_maps import PointMapModel, Seen, unproject
from worldexplorer.models.residents import Residents
from worldexplorer.trajectory.alignment import align
from worldexplorer.units import GIB

CPU = torch.device("cpu")
FACTS = GEOMETRY["vggt"]
SIZE = 12
HALF = 4.0


def views(count: int) -> Views:
    """Inside of a cube of side 8."""
    generator = np.random.default_rng(1)
    c2w = pose(yaw_matrix(45.0 * np.arange(count)), generator.uniform(-1.5, 1.5, (count, 3)))
    return Views(np.zeros((count, 24, 24, 3), np.uint8), c2w, np.tile(normalised_intrinsics(), (count, 1, 1)))


def depth_of(c2w: np.ndarray) -> np.ndarray:
    rays = camera_rays(normalised_intrinsics(), SIZE, SIZE)
    turned = rays @ c2w[:3, :3].T
    reach = (np.where(turned > 0, HALF, -HALF) - c2w[:3, 3]) / turned
    return np.asarray(reach.min(axis=-1) * -rays[..., 2])


class Knowing(PointMapModel):
    """Answers with the truth, in another frame and scale at each look; its memory bears so many frames."""

    def __init__(self, most: int = 400, residents: Residents | None = None) -> None:
        super().__init__(FACTS, lambda: Path("weights"), residents or Residents(free=lambda: None), CPU)
        self.most = most
        self.looks: list[int] = []
        self.loads = 0

    def _load(self, folder: Path, device: torch.device) -> Any:
        self.loads += 1
        return "network"

    def _look(self, network: Any, views: Views, device: torch.device) -> Seen:
        self.looks.append(len(views.images))
        if len(views.images) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.\nmore")
        seed = len(self.looks)
        turn = Rotation.random(rng=np.random.default_rng(seed)).as_matrix()
        own = Similarity(1.0 + 0.5 * seed, turn, np.array([1.0, 2.0, seed]))
        depth = own.scale * np.stack([depth_of(one) for one in views.c2w])
        return Seen(
            torch.from_numpy(depth).float(),
            torch.ones(depth.shape),
            own.apply_poses(opengl_to_opencv(views.c2w)),
            views.intrinsics,
        )


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FrameModel, "absent_packages", lambda self: None)


def on_the_walls(points: np.ndarray) -> float:
    return float(np.abs(np.abs(points).max(axis=-1) - HALF).max())


def test_points_are_where_depth_and_camera_put_them() -> None:
    given = views(9)
    model = Knowing()
    maps = model.points(given, None, 3.0)
    assert model.looks == [9]
    assert maps.notes == ()
    assert maps.points.dtype == np.float32
    for placement in ("known", "model"):
        points, report = align(maps, given.c2w, placement=placement)
        assert on_the_walls(points) < 1e-4
        assert report.similarity.scale == pytest.approx(1 / 1.5)


def test_unprojected_points_lie_on_the_rays_of_pixel_centres() -> None:
    generator = np.random.default_rng(0)
    c2w = pose(Rotation.random(2, rng=generator).as_matrix(), generator.normal(size=(2, 3)))
    intrinsics = np.tile(normalised_intrinsics(0.7), (2, 1, 1))
    intrinsics[1, :2, 2] = 0.45, 0.6
    depth = torch.from_numpy(generator.uniform(1, 5, (2, 4, 6))).float()
    points = unproject(depth, c2w, intrinsics).numpy()
    for view in range(2):
        inside = points[view] @ c2w[view, :3, :3] - c2w[view, :3, :3].T @ c2w[view, :3, 3]
        np.testing.assert_allclose(inside[..., 2], depth[view], rtol=1e-4)
        pixels = inside / inside[..., 2:] @ intrinsics[view].T
        np.testing.assert_allclose(pixels[2, 3, :2], [3.5 / 6, 2.5 / 4], atol=1e-5)
        np.testing.assert_allclose(pixels[0, 0, :2], [0.5 / 6, 0.5 / 4], atol=1e-5)


def test_with_little_memory_frames_come_in_passes_that_are_put_together(caplog: Any, monkeypatch: Any) -> None:
    given = views(30)
    monkeypatch.setattr(Knowing, "_room", lambda self, count, device: 20)
    with caplog.at_level(logging.WARNING):
        maps = (model := Knowing(most=20)).points(given, None, 3.0)
    assert model.looks == [19, 19]
    assert maps.passes.tolist() == [0] * 8 + [0, 1] * 11
    assert [frames.tolist() for frames, _ in maps.looks] == [[*range(8), *range(8 + n, 30, 2)] for n in range(2)]
    for number, (frames, poses) in enumerate(maps.looks):
        own = maps.passes[frames] == number
        assert np.array_equal(poses[own], maps.c2w[frames[own]])
    assert maps.notes == ("VGGT looked at 30 frames in 2 passes of at most 19: too little memory",)
    assert maps.notes[0] in caplog.text
    for placement in ("known", "model"):
        points, report = align(maps, given.c2w, placement=placement)
        assert on_the_walls(points) < 1e-4
        assert [round(one.scale, 6) for one in report.similarities] == [round(1 / 1.5, 6), 0.5]
    assert report.to_json()["notes"] == list(maps.notes)


def test_when_memory_runs_out_the_others_leave_then_fewer_frames_are_tried(caplog: Any) -> None:
    residents = Residents(free=lambda: None)
    residents.get("seva", 0, lambda: "seva")
    model = Knowing(most=15, residents=residents)
    with caplog.at_level(logging.WARNING):
        maps = model.points(views(30), None, 3.0)
    assert model.looks == [30, 30, 19, 13, 13, 12, 12, 12]
    assert "seva" not in residents
    assert model.loads == 1
    assert "the other networks leave the GPU" in caplog.text
    assert "ran out of GPU memory over 30 frames (CUDA out of memory. Tried to allocate 20 GiB.): trying" in caplog.text
    assert "passes" in maps.notes[0]


def test_memory_that_never_suffices_is_an_error_of_its_own_class() -> None:
    model = Knowing(most=5)
    with pytest.raises(OutOfMemoryError, match="over VGGT with 12 frames") as caught:
        model.points(views(30), None, 3.0)
    assert "num_images_for_vggt" in caught.value.remedy
    assert model.looks == [30, 19, 13, 12]


def test_free_memory_says_how_many_frames_go_together(monkeypatch: Any) -> None:
    monkeypatch.setattr("worldexplorer.models.point_maps.free_gpu_bytes", lambda: int(3.5 * GIB))
    model = Knowing()
    assert model._room(48, torch.device("cuda")) == int((3.5 - FACTS.work_gib) / FACTS.frame_gib)
    monkeypatch.setattr("worldexplorer.models.point_maps.free_gpu_bytes", lambda: GIB)
    with pytest.raises(UserError, match="too little GPU memory for VGGT"):
        model._room(48, torch.device("cuda"))


def test_others_leave_before_frames_come_in_passes(monkeypatch: Any) -> None:
    """As for a job with more frames than the one before it, whose networks are all still there."""
    residents = Residents(free=lambda: None)
    model, gpu = Knowing(residents=residents), torch.device("cuda")
    residents.get(model._key, 0, lambda: "network")
    residents.get("seva", 0, lambda: "seva")
    monkeypatch.setattr(
        "worldexplorer.models.point_maps.free_gpu_bytes", lambda: (5 if "seva" in residents else 20) * GIB
    )
    assert model._room(40, gpu) == 40
    assert "seva" in residents
    assert model._room(100, gpu) == 100
    assert "seva" not in residents
    assert model._key in residents


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda seen: seen.depth.__setitem__((2, 3, 3), torch.nan), "gave depth not finite"),
        (lambda seen: seen.depth.__setitem__((2, 3, 3), 0.0), "gave depth that is not positive"),
        (lambda seen: seen.confidence.__setitem__((0, 0, 0), torch.inf), "gave confidence not finite"),
        (lambda seen: seen.c2w.__setitem__((1, 0, 3), np.nan), "gave poses not finite"),
    ],
)
def test_an_answer_that_is_none_is_a_defect(monkeypatch: Any, spoil: Any, text: str) -> None:
    plain = Knowing._look

    def spoiled(self: Knowing, *arguments: Any) -> Seen:
        seen = plain(self, *arguments)
        spoil(seen)
        return seen

    monkeypatch.setattr(Knowing, "_look", spoiled)
    with pytest.raises(DefectError, match=text):
        Knowing().points(views(4), None, 3.0)
