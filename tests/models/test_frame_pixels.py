"""Frames as networks take them: the libraries' own processing as the check."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from transformers.models.dpt.image_processing_pil_dpt import DPTImageProcessorPil

from worldexplorer.errors import DefectError
from worldexplorer.models.frame_pixels import network_pixels

FRAMES = np.random.default_rng(0).integers(0, 256, (3, 72, 72, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [56, 98])
def test_bicubic_and_normalised_is_what_the_depth_models_processor_gives(size: int) -> None:
    processor = DPTImageProcessorPil(  # as the published preprocessor_config.json has it, but for the size
        size={"height": size, "width": size},
        keep_aspect_ratio=True,
        ensure_multiple_of=14,
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    )
    expected = np.stack(processor(list(FRAMES), return_tensors="np")["pixel_values"])
    found = network_pixels(FRAMES, size, "bicubic", normalise=True)
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-5


@pytest.mark.parametrize(("size", "kind"), [(56, cv2.INTER_AREA), (98, cv2.INTER_CUBIC)])
def test_areas_are_averaged_and_rounded(size: int, kind: int) -> None:
    found = network_pixels(FRAMES, size, "area", normalise=False)
    expected = np.stack([cv2.resize(frame, (size, size), interpolation=kind) for frame in FRAMES])
    np.testing.assert_array_equal(found, expected.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255))


def test_frames_of_the_right_size_stay_as_they_are() -> None:
    for kind in ("bicubic", "area"):
        found = network_pixels(FRAMES, 72, kind, normalise=False)  # type: ignore[arg-type]
        np.testing.assert_array_equal(np.rint(found * 255).transpose(0, 2, 3, 1), FRAMES)


@pytest.mark.parametrize("frames", [FRAMES[0], FRAMES[:, :40], FRAMES[..., :1], FRAMES.astype(np.float32)])
def test_what_is_no_square_picture_is_refused(frames: np.ndarray) -> None:
    with pytest.raises(DefectError, match="no square colour pictures"):
        network_pixels(frames, 56, "bicubic", normalise=True)
