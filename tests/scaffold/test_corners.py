"""Corner views: what the neighbours show, what is left to be made, and how the two meet."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from worldexplorer.geometry.cameras import focal_of_horizontal_fov, normalised_intrinsics
from worldexplorer.scaffold.corners import CARDINALS, CORNERS, corner_view, grown, laid_over, neighbours
from worldexplorer.scaffold.homography import turned_view
from worldexplorer.scaffold.poses import scaffold_poses

SIZE = 576
RING = scaffold_poses()


def coverage(hfov_deg: float | None) -> tuple[np.ndarray, np.ndarray]:
    """What the left and the right neighbour of view 001 cover of it."""
    intrinsics = (
        normalised_intrinsics() if hfov_deg is None else normalised_intrinsics(focal_of_horizontal_fov(hfov_deg))
    )
    blank = np.zeros((SIZE, SIZE, 3), dtype=np.uint8)
    left, right = (turned_view(blank, RING[one], RING[1], intrinsics, SIZE)[1] for one in neighbours(1))
    return left, right


@pytest.mark.parametrize(
    ("hfov_deg", "side", "hole", "columns"),
    [(60.0, 0.261, 0.478, (153, 422)), (None, 0.2625, 0.4750, (154, 421))],
    ids=["60 degrees, as published", "60.08 degrees, ours"],
)
def test_how_much_the_neighbours_cover(
    hfov_deg: float | None, side: float, hole: float, columns: tuple[int, int]
) -> None:
    left, right = coverage(hfov_deg)
    assert left.mean() == pytest.approx(side, abs=5e-4)
    assert right.mean() == pytest.approx(side, abs=5e-4)
    assert (~(left | right)).mean() == pytest.approx(hole, abs=5e-4)
    assert not (left & right).any()
    middle = SIZE // 2
    assert (np.flatnonzero(left[middle]).max(), np.flatnonzero(right[middle]).min()) == columns
    assert (left == right[:, ::-1]).all()


def test_neighbours_are_the_cardinals_on_either_side() -> None:
    assert [neighbours(corner) for corner in CORNERS] == [(2, 0), (4, 2), (6, 4), (0, 6)]


def cardinals(size: int = SIZE) -> dict[int, np.ndarray]:
    return {one: np.full((size, size, 3), 40 * (one + 1) // 2, dtype=np.uint8) for one in CARDINALS}


@pytest.mark.parametrize("corner", CORNERS)
def test_left_comes_from_the_left_and_right_from_the_right(corner: int) -> None:
    pictures = cardinals()
    view = corner_view(corner, pictures)
    assert (view.image[:, 0] == pictures[view.left][0, 0]).all()
    assert (view.image[:, -1] == pictures[view.right][0, 0]).all()
    left, right = coverage(None)
    assert (view.image[left] == pictures[view.left][0, 0]).all()
    assert (view.image[right] == pictures[view.right][0, 0]).all()
    assert (view.image[~(left | right)] == 0).all()


def test_the_mask_is_the_hole_and_two_pixels_around() -> None:
    left, right = coverage(None)
    hole = ~(left | right)
    mask = corner_view(1, cardinals()).mask
    # Every pixel within two steps, diagonal ones included, of a pixel of the hole, and no other.
    expected = ndimage.maximum_filter(hole, size=5, mode="constant", cval=0)
    assert (mask == expected).all()
    row = SIZE // 2
    assert (np.flatnonzero(mask[row]).min(), np.flatnonzero(mask[row]).max()) == (153, 422)


def test_white_is_a_colour_like_any_other() -> None:
    """The mask comes from the geometry: neither white walls nor black ones are taken for holes."""
    colours = (0, 255)
    masks = [
        corner_view(3, {one: np.full((96, 96, 3), colour, np.uint8) for one in CARDINALS}).mask for colour in colours
    ]
    assert (masks[0] == masks[1]).all()
    assert 0.4 < masks[1].mean() < 0.6
    white = corner_view(3, {one: np.full((96, 96, 3), 255, np.uint8) for one in CARDINALS})
    made = np.full((96, 96, 3), 255, dtype=np.uint8)
    assert (laid_over(white.image, white.mask, made)[~white.mask] == 255).all()


def test_corners_that_look_alike_have_one_digest() -> None:
    pictures = cardinals(64)
    assert corner_view(1, pictures).digest == corner_view(1, {**pictures, 4: pictures[0]}).digest
    brighter = {**pictures, 2: pictures[2] + np.uint8(1)}
    assert corner_view(1, pictures).digest != corner_view(1, brighter).digest


class TestLayingOver:
    def test_beyond_a_narrow_band_what_was_given_stays(self) -> None:
        view = corner_view(1, cardinals())
        made = np.full_like(view.image, 200)
        result = laid_over(view.image, view.mask, made)
        assert (result[view.mask] == 200).all()
        distance = ndimage.distance_transform_edt(~view.mask)
        assert (result[distance >= 9] == view.image[distance >= 9]).all()

    def test_the_band_has_no_step(self) -> None:
        """The largest difference of two neighbouring pixels is a ninth of the whole: eight pixels lie between."""
        image = np.zeros((SIZE, SIZE, 3), dtype=np.uint8)
        mask = np.zeros((SIZE, SIZE), dtype=bool)
        mask[:, 200:300] = True
        row = laid_over(image, mask, np.full_like(image, 180))[7, :, 0].astype(int)
        assert (row[200:300] == 180).all()
        assert np.abs(np.diff(row)).max() <= 21
        assert (np.diff(row[150:250]) >= 0).all()
        assert (row[190], row[309]) == (0, 0)

    def test_nothing_to_make_and_everything_to_make(self) -> None:
        image, made = np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 9, np.uint8)
        assert (laid_over(image, np.zeros((8, 8), bool), made) == image).all()
        assert (laid_over(image, np.ones((8, 8), bool), made) == made).all()


def test_a_hole_that_is_none_does_not_grow() -> None:
    assert not grown(np.zeros((5, 5), dtype=bool)).any()
