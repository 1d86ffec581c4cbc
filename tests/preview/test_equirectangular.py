"""Pinhole pictures on panoramas: places, directions, and a photo that comes back as it was."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st

from worldexplorer.preview.equirectangular import (
    azimuths,
    column_of,
    directions,
    elevations,
    pitch_rotation,
    project_photo,
    project_pinhole,
    row_of,
    view_of_panorama,
)

FOCAL = 0.8645833134651184


def whole_fov(photo: np.ndarray) -> float:
    """Degrees across, where the square centre crop has the published camera's field of view."""
    height, width = photo.shape[:2]
    return math.degrees(2 * math.atan(0.5 / FOCAL * width / min(height, width)))


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b.astype(float)) ** 2)))


def square_view(photo: np.ndarray, size: int) -> np.ndarray:
    side = min(photo.shape[:2])
    centre = ((photo.shape[1] - 1) / 2, (photo.shape[0] - 1) / 2)
    return cv2.resize(cv2.getRectSubPix(photo, (side, side), centre), (size, size), interpolation=cv2.INTER_AREA)


def test_rows_and_columns_invert_directions() -> None:
    np.testing.assert_allclose(column_of(azimuths(64), 64), np.arange(64), atol=1e-9)
    np.testing.assert_allclose(row_of(elevations(32), 32), np.arange(32), atol=1e-9)
    rays = directions(32)
    np.testing.assert_allclose(np.linalg.norm(rays, axis=-1), 1, atol=1e-6)
    assert rays[0, :, 1].min() > 0.99  # straight up
    assert rays[16, 32, 2] < -0.99  # the centre looks forward
    assert rays[16, 48, 0] > 0.99  # to the right of it is right


@pytest.mark.parametrize("name", ["coffee", "astronaut"])
def test_a_photo_is_seen_again_where_it_was_taken(name: str) -> None:
    photo = getattr(skimage.data, name)()
    panorama, _ = project_photo(photo, whole_fov(photo), 0.0, 1080)
    view = view_of_panorama(panorama, np.eye(3), FOCAL, 256)
    inner = slice(2, -2)  # beside the photo this panorama is black
    assert psnr(view[inner, inner], square_view(photo, 256)[inner, inner]) >= 35


@pytest.mark.parametrize("pitch", [-35.0, 20.0])
def test_a_pitched_photo_is_seen_by_a_pitched_camera(pitch: float) -> None:
    photo = skimage.data.astronaut()
    panorama, known = project_photo(photo, whole_fov(photo), pitch, 720)
    view = view_of_panorama(panorama, pitch_rotation(pitch), FOCAL, 128)
    assert psnr(view[2:-2, 2:-2], square_view(photo, 128)[2:-2, 2:-2]) >= 35
    rows = np.flatnonzero(known.any(axis=1))
    assert np.sign(np.degrees(elevations(720)[rows]).mean()) == np.sign(pitch)


@settings(max_examples=25, deadline=None)
@given(
    yaw=st.floats(-180, 180), pitch=st.floats(-70, 70), focal=st.floats(0.3, 2.0), column=st.integers(0, 95),
    row=st.integers(0, 47),
)  # fmt: skip
def test_known_pixels_are_those_that_a_camera_sees(
    yaw: float, pitch: float, focal: float, column: int, row: int
) -> None:
    cosine, sine = math.cos(math.radians(yaw)), math.sin(math.radians(yaw))
    rotation = np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]]) @ pitch_rotation(pitch)
    _, known, inside = project_pinhole(np.full((24, 32, 3), 200, np.uint8), rotation, (focal, focal * 4 / 3), 48)
    ray = rotation.T @ directions(48)[row, column].astype(float)
    x, y = focal * ray[0] / -ray[2], focal * 4 / 3 * ray[1] / -ray[2]
    margin = min(0.5 - abs(x), 0.5 - abs(y)) if ray[2] < -1e-3 else -1.0
    if abs(margin) > 1e-4:
        assert known[row, column] == (margin > 0)
        assert inside[row, column] == pytest.approx(np.clip(2 * margin, 0, 1), abs=1e-4)


def test_colours_are_those_of_the_place_in_the_picture() -> None:
    x, y = np.meshgrid(np.arange(160), np.arange(120))
    ramp = np.stack([x, y, np.full_like(x, 50)], axis=-1).astype(np.uint8)
    colours, known = project_photo(ramp, 70.0, 0.0, 90)
    focal = 80 / math.tan(math.radians(35))
    rays = directions(90)
    column = 80 + focal * rays[..., 0] / -rays[..., 2] - 0.5
    row = 60 - focal * rays[..., 1] / -rays[..., 2] - 0.5
    inner = known & (column > 4) & (column < 155) & (row > 4) & (row < 115)
    assert inner.sum() > 300
    assert np.abs(colours[inner][:, 0] - column[inner]).max() < 2
    assert np.abs(colours[inner][:, 1] - row[inner]).max() < 2
    assert not colours[~known].any()


def test_the_stretched_edges_of_a_wide_photo_do_not_alias() -> None:
    stripes = np.tile(np.array([[[0] * 3, [255] * 3]], dtype=np.uint8), (400, 600, 1))  # finer than the panorama
    colours, known = project_photo(stripes, 140.0, 0.0, 180)
    edge = known & (np.abs(azimuths(360)) > math.radians(55))[None, :]
    assert np.abs(colours[edge].astype(float) - 127.5).max() < 30


def test_views_wrap_around_the_back() -> None:
    panorama = np.zeros((90, 180, 3), np.uint8)
    panorama[:, :90] = 100
    panorama[:, 90:] = 200
    back = view_of_panorama(panorama, np.diag([-1.0, 1.0, -1.0]), FOCAL, 32)
    assert (back[:, :15] == 200).all()  # what is right of forward is left when one turns round
    assert (back[:, 17:] == 100).all()
