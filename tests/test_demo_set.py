"""The demo data set: whole, small, licensed file by file, and geometrically what it says."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import map_coordinates

DEMO = Path(__file__).parents[1] / "examples/demo"
KNOWN_KEYS = {"index", "photorealistic", "stylized", "scene_type", "category", "theme", "scaffold", "expansion"}
SQUARE_CROP_FOV = 2.0 * math.atan(0.5 / 0.8645833134651184)
PHOTOS = ("photorealistic/china.jpg", "stylized/china.jpg", "photorealistic/lobby.jpg", "photorealistic/square.jpg")


def picture(path):
    with Image.open(DEMO / path) as image:
        return np.asarray(image.convert("RGB"))


def samples():
    return json.loads((DEMO / "metadata.json").read_text(encoding="utf-8"))["samples"]


def truth():
    return json.loads((DEMO / "truth/truth.json").read_text(encoding="utf-8"))


def demo_files():
    paths = (path for path in DEMO.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(DEMO).as_posix() for path in paths}


def provenance_rows():
    """{file: [source, author, licence, changes]} of the first table."""
    table = (DEMO / "PROVENANCE.md").read_text(encoding="utf-8").split("The packages' files")[0]
    cells = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| `")]
    return {row[0].strip("`"): [cell.strip(" |") for cell in row[1:]] for row in cells}


def load_filter():
    spec = importlib.util.spec_from_file_location("demo_watercolour", DEMO / "watercolour.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def grey(image):
    return image.astype(np.float64) @ (0.299, 0.587, 0.114)


def correlation(first, second):
    return np.corrcoef(first.ravel(), second.ravel())[0, 1]


def seen_in_panorama(panorama, height, width, horizontal_fov, turn_degrees=0.0):
    """What a level pinhole camera in the panorama's centre direction sees, bilinear, [height, width, 3]."""
    rows, columns = panorama.shape[:2]
    focal = width / (2.0 * math.tan(horizontal_fov / 2.0))
    y, x = np.mgrid[:height, :width] + 0.5
    rays = np.stack(((x - width / 2) / focal, (height / 2 - y) / focal, np.ones_like(x)), axis=2)
    rays /= np.linalg.norm(rays, axis=2, keepdims=True)
    azimuth = np.arctan2(rays[..., 0], rays[..., 2]) + math.radians(turn_degrees)
    place = (
        (0.5 - np.arcsin(rays[..., 1]) / math.pi) * rows - 0.5,
        (0.5 + azimuth / (2 * math.pi)) * columns - 0.5,
    )
    return np.stack([map_coordinates(panorama[..., c].astype(float), place, order=1) for c in range(3)], axis=2)


def test_the_metadata_gives_four_jobs():
    jobs = {
        (sample["index"], variant): sample[variant]["original_path"]
        for sample in samples()
        for variant in ("photorealistic", "stylized")
        if variant in sample
    }
    assert jobs == {
        (0, "photorealistic"): "photorealistic/china.jpg",
        (0, "stylized"): "stylized/china.jpg",
        (1, "photorealistic"): "photorealistic/lobby.jpg",
        (2, "photorealistic"): "photorealistic/square.jpg",
    }
    assert [sample["scene_type"] for sample in samples()] == ["outdoor", "indoor", "outdoor"]
    for sample in samples():
        assert set(sample) <= KNOWN_KEYS
        assert sample["category"]


@pytest.mark.parametrize("path", PHOTOS)
def test_photos_are_plain_srgb_jpegs_of_a_useful_size(path):
    with Image.open(DEMO / path) as image:
        assert image.format == "JPEG"
        assert image.mode == "RGB"
        assert max(image.size) >= 512
        assert not image.getexif()


def test_the_whole_set_stays_small():
    sizes = [(DEMO / path).stat().st_size for path in demo_files()]
    assert sum(sizes) < 1_500_000


def test_every_file_has_its_source_author_and_licence():
    rows = provenance_rows()
    assert set(rows) == demo_files()
    for source, author, licence, *_ in rows.values():
        assert source
        assert author
        assert re.search(r"\[.+\]\(.+\)", licence)
    for path in ("photorealistic/china.jpg", "stylized/china.jpg"):
        assert "danielbuechele" in rows[path][1]
        assert "https://creativecommons.org/licenses/by/2.0/" in rows[path][2]
    for place in truth()["panoramas"]:
        assert "https://creativecommons.org/publicdomain/zero/1.0/" in rows[place["panorama"]][2]


def test_the_photo_that_was_not_changed_is_the_file_its_provenance_names():
    digest = hashlib.sha256((DEMO / "photorealistic/china.jpg").read_bytes()).hexdigest()
    assert f"| `china.jpg` | `{digest}` |" in (DEMO / "PROVENANCE.md").read_text(encoding="utf-8")


def test_the_stylised_picture_is_another_picture_of_the_same_scene():
    photo, painting = picture("photorealistic/china.jpg"), picture("stylized/china.jpg")
    assert photo.shape == painting.shape
    assert np.abs(photo.astype(float) - painting).mean() > 10.0
    assert correlation(grey(photo), grey(painting)) > 0.85
    assert correlation(grey(photo), grey(painting[:, ::-1])) < 0.5


def test_the_filter_makes_the_committed_painting_again():
    module = load_filter()
    encoded = io.BytesIO()
    Image.fromarray(module.watercolour(picture("photorealistic/china.jpg"))).save(encoded, "JPEG", **module.JPEG)
    with Image.open(encoded) as image:
        again = np.asarray(image)
    difference = np.abs(again.astype(float) - picture("stylized/china.jpg"))
    assert difference.mean() < 1.0
    assert np.percentile(difference, 99.0) <= 8.0


def test_the_filter_gives_the_same_picture_twice_and_leaves_the_photo_alone():
    module = load_filter()
    photo = picture("photorealistic/china.jpg")[100:220, 60:260]
    before = photo.copy()
    first, second = module.watercolour(photo), module.watercolour(photo)
    assert (first == second).all()
    assert (photo == before).all()
    assert first.dtype == np.uint8


def test_truth_names_a_photo_and_a_whole_panorama_each():
    photos = {sample["index"]: sample for sample in samples()}
    assert [place["index"] for place in truth()["panoramas"]] == [1, 2]
    for place in truth()["panoramas"]:
        assert place["variant"] in photos[place["index"]]
        panorama = picture(place["panorama"])
        assert panorama.shape[1] == 2 * panorama.shape[0]
        # It closes: the step over the seam is no larger than the steps beside it.
        values = panorama.astype(float)
        steps = np.abs(np.diff(values[:, [-3, -2, -1, 0, 1, 2]], axis=1)).mean(axis=(0, 2))
        assert steps[2] <= 1.5 * steps.max(initial=0.0, where=[True, True, False, True, True])


@pytest.mark.parametrize("index", [1, 2])
def test_a_photo_is_the_level_middle_of_its_panorama_at_the_field_of_view_assumed_of_it(index):
    place = next(place for place in truth()["panoramas"] if place["index"] == index)
    sample = next(sample for sample in samples() if sample["index"] == index)
    photo, panorama = picture(sample[place["variant"]]["original_path"]), picture(place["panorama"])
    height, width = photo.shape[:2]
    expected_fov = 2.0 * math.atan(width / height * math.tan(SQUARE_CROP_FOV / 2.0))
    assert truth()["photo_horizontal_fov_degrees"] == pytest.approx(math.degrees(expected_fov), abs=1e-3)

    def error(fov=expected_fov, turn=0.0):
        return np.abs(seen_in_panorama(panorama, height, width, fov, turn) - photo).mean()

    fitting = error()
    assert fitting < 6.0
    for other in (error(fov=expected_fov * 0.96), error(fov=expected_fov * 1.04), error(turn=1.5), error(turn=-1.5)):
        assert other > 2.0 * fitting
