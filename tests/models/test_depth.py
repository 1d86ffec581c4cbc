"""Metric depth with a tiny network of the library's own class: its processor and its forward pass as the check."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_depth import FACTS, SIZE, save_depth, views
from transformers import DepthAnythingForDepthEstimation
from transformers.models.dpt.image_processing_pil_dpt import DPTImageProcessorPil

from worldexplorer.engine import DepthModel
from worldexplorer.errors import DefectError, OutOfMemoryError, UserError
from worldexplorer.models import depth as depth_module
from worldexplorer.models.depth import DepthAnythingModel
from worldexplorer.models.residents import Residents
from worldexplorer.trajectory.collision import clearance_threshold
from worldexplorer.units import GIB

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("depth")
    save_depth(place)
    return place


def model(folder: Path, residents: Residents | None = None) -> DepthAnythingModel:
    return DepthAnythingModel(FACTS, lambda: folder, residents or Residents(), CPU)


def test_metres_are_the_librarys_own_at_the_size_of_the_frames(folder: Path) -> None:
    given = views()
    maker: DepthModel = model(folder)
    found = maker.depth(given, None, 3.0)
    assert (found.shape, found.dtype) == ((5, SIZE, SIZE), np.float32)
    processor = DPTImageProcessorPil(
        size={"height": 56, "width": 56},
        keep_aspect_ratio=True,
        ensure_multiple_of=14,
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    )
    network = DepthAnythingForDepthEstimation.from_pretrained(folder)
    with torch.no_grad():
        small = network(**processor(list(given.images), return_tensors="pt")).predicted_depth
    expected = torch.nn.functional.interpolate(small[:, None], size=(SIZE, SIZE), mode="bilinear")[:, 0].numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    assert np.ptp(found) > 0.1, "the tiny network tells frames apart"
    assert small.min() <= found.min()
    assert found.max() <= min(20.0, float(small.max()) + 1e-4)
    assert clearance_threshold(found) >= 0.4


def test_the_translation_scale_changes_nothing(folder: Path) -> None:
    np.testing.assert_array_equal(model(folder).depth(views(), None, 3.0), model(folder).depth(views(), None, 10.0))


def test_batches_make_no_difference(folder: Path, monkeypatch: Any) -> None:
    whole = model(folder).depth(views(), None, 3.0)
    asked: list[int] = []
    plain = depth_module.look

    def look(network: Any, images: np.ndarray, size: int) -> np.ndarray:
        asked.append(len(images))
        return plain(network, images, size)

    monkeypatch.setattr(depth_module, "look", look)
    one = model(folder)
    one._most = 2
    np.testing.assert_allclose(one.depth(views(), None, 3.0), whole, rtol=1e-4)
    assert asked == [2, 2, 1]


def test_how_many_go_in_at_once_follows_from_free_memory(folder: Path, monkeypatch: Any) -> None:
    one, gpu = model(folder), torch.device("cuda")
    for free, count in ((80.0, 16), (FACTS.work_gib + 5.5 * FACTS.frame_gib, 5), (0.1, 1)):
        monkeypatch.setattr(depth_module, "free_gpu_bytes", lambda free=free: int(free * GIB))
        assert one._together(gpu) == count


def test_the_others_stay_where_there_is_room_for_a_frame_beside_them(folder: Path) -> None:
    for free, stays in ((FACTS.least_gib + 0.01, True), (FACTS.least_gib - 0.1, False)):
        residents = Residents(free=lambda free=free: int(free * GIB))  # type: ignore[misc]
        residents.get("seva", 0, lambda: "seva")
        model(folder, residents).depth(views(1), None, 3.0)
        assert ("seva" in residents) is stays


def short_of_memory(monkeypatch: Any, most: int) -> list[int]:
    asked: list[int] = []
    plain = depth_module.look

    def look(network: Any, images: np.ndarray, size: int) -> np.ndarray:
        asked.append(len(images))
        if len(images) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB.\nmore")
        return plain(network, images, size)

    monkeypatch.setattr(depth_module, "look", look)
    return asked


def test_when_memory_runs_out_the_others_leave_then_half_as_many_go_in(
    folder: Path, monkeypatch: Any, caplog: Any
) -> None:
    whole = model(folder).depth(views(), None, 3.0)
    asked = short_of_memory(monkeypatch, most=2)
    residents = Residents(free=lambda: None)
    residents.get("seva", 0, lambda: "seva")
    with caplog.at_level(logging.WARNING):
        found = model(folder, residents).depth(views(), None, 3.0)
    np.testing.assert_allclose(found, whole, rtol=1e-4)
    assert asked == [5, 5, 2, 2, 1]
    assert "seva" not in residents
    assert "the other networks leave the GPU" in caplog.text
    assert "trying again, 2 at once" in caplog.text


def test_memory_that_never_suffices_is_an_error_of_its_own_class(folder: Path, monkeypatch: Any) -> None:
    asked = short_of_memory(monkeypatch, most=0)
    with pytest.raises(OutOfMemoryError, match="the GPU's memory ran out over Depth Anything V2"):
        model(folder).depth(views(), None, 3.0)
    assert asked == [5, 2, 1]


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf"), -1.0])
def test_a_depth_that_is_none_is_a_failure_and_never_an_obstacle(folder: Path, monkeypatch: Any, value: float) -> None:
    plain = depth_module.look

    def look(network: Any, images: np.ndarray, size: int) -> np.ndarray:
        metres = plain(network, images, size)
        metres[3, 60, 2] = value
        return metres

    monkeypatch.setattr(depth_module, "look", look)
    with pytest.raises(DefectError, match=r"not a positive number \(frames \[3\] of 5\)"):
        model(folder).depth(views(), None, 3.0)


def test_it_is_loaded_once(folder: Path) -> None:
    asked: list[int] = []
    residents = Residents()
    for _ in range(2):
        DepthAnythingModel(FACTS, lambda: asked.append(1) or folder, residents, CPU).depth(views(1), None, 3.0)
    assert asked == [1]


def test_weights_that_do_not_give_metres_are_refused(tmp_path: Path) -> None:
    save_depth(tmp_path, "relative")
    with pytest.raises(UserError, match=r"do not give metres: config\.json says 'relative'"):
        model(tmp_path).depth(views(1), None, 3.0)


def test_damaged_weights_are_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(json.loads((folder / "config.json").read_text())))
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:500])
    with pytest.raises(UserError, match="the weights of Depth Anything V2"):
        model(tmp_path).depth(views(1), None, 3.0)
