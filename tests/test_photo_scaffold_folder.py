"""Finished scaffolds that a data set brings along."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from worldexplorer.errors import UserError
from worldexplorer.photo import VIEW_NAMES, validate_scaffold_folder

EXPECTED = (
    "put the eight square views there as 000 to 007 (png, jpg, jpeg or webp), in the folder or in final/ inside it"
)


def view(width=64, height=64, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def fill(folder, names=tuple(f"{name}.png" for name in VIEW_NAMES)):
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(names):
        view(seed=seed).save(folder / name)
    return folder


def message(folder):
    with pytest.raises(UserError) as caught:
        validate_scaffold_folder(folder)
    return str(caught.value)


def test_eight_views_in_the_folder_or_in_final(tmp_path):
    plain = fill(tmp_path / "plain")
    assert validate_scaffold_folder(plain) == [plain / f"00{k}.png" for k in range(8)]
    nested = fill(tmp_path / "nested" / "final").parent
    assert validate_scaffold_folder(nested) == [nested / "final" / f"00{k}.png" for k in range(8)]


def test_endings_and_sizes_may_differ_and_other_files_may_lie_there(tmp_path):
    names = ["000.png", "001.JPG", "002.jpeg", "003.webp", "004.PNG", "005.png", "006.png", "007.png"]
    folder = fill(tmp_path / "mixed", names)
    view(96, 96).save(folder / "005.png")
    (folder / "scaffold.json").write_text("{}")
    (folder / "contact_sheet.png").write_bytes(b"not looked at")
    (folder / "008.txt").write_text("not an image by its name")
    assert [path.name for path in validate_scaffold_folder(folder)] == names


def test_final_counts_alone(tmp_path):
    folder = fill(tmp_path / "both")
    fill(folder / "final", ["000.png"])
    assert message(folder) == f"the scaffold has no view 001 ({folder / 'final'}). What to do: {EXPECTED}"


def test_a_folder_that_is_not_there(tmp_path):
    folder = tmp_path / "gone"
    assert message(folder) == f"the scaffold folder does not exist ({folder}). What to do: {EXPECTED}"


def test_a_view_is_missing(tmp_path):
    folder = fill(tmp_path / "views")
    (folder / "006.png").unlink()
    (folder / "003.png").unlink()
    assert message(folder) == f"the scaffold has no view 003 ({folder}). What to do: {EXPECTED}"


def test_a_view_too_many(tmp_path):
    folder = fill(tmp_path / "views", [f"00{k}.png" for k in range(9)])
    assert message(folder) == (
        f"the scaffold holds 008.png besides the views 000 to 007 ({folder / '008.png'}). "
        "What to do: take it away, so that exactly eight numbered images are left"
    )


def test_a_view_twice(tmp_path):
    folder = fill(tmp_path / "views")
    view().save(folder / "002.jpg")
    assert message(folder) == (
        f"the scaffold has view 002 twice: 002.jpg and 002.png ({folder}). What to do: keep one of them"
    )


def test_a_view_that_is_not_square(tmp_path):
    folder = fill(tmp_path / "views")
    view(64, 65).save(folder / "004.png")
    view(65, 64).save(folder / "005.png")
    assert message(folder) == (
        f"the scaffold view has 64x65 pixels and is not square ({folder / '004.png'}). "
        "What to do: use views as wide as they are high, 60.08 degrees across"
    )


def test_a_view_of_one_colour(tmp_path):
    folder = fill(tmp_path / "views")
    Image.new("RGB", (64, 64), (200, 0, 30)).save(folder / "001.png")
    assert message(folder) == (
        f"the scaffold view is of one colour ({folder / '001.png'}). What to do: make the scaffold again"
    )


def test_a_view_that_cannot_be_decoded(tmp_path):
    folder = fill(tmp_path / "views")
    data = (folder / "007.png").read_bytes()
    (folder / "007.png").write_bytes(data[: len(data) // 2])
    assert message(folder) == (
        f"the image is damaged or cut short: image file is truncated ({folder / '007.png'}). "
        "What to do: replace it by a whole copy"
    )
    (folder / "005.png").write_text("no image")
    assert message(folder) == (f"the file is not an image ({folder / '005.png'}). What to do: save it as PNG or JPEG")


def test_a_view_that_is_too_small(tmp_path):
    folder = fill(tmp_path / "views")
    view(32, 32).save(folder / "000.png")
    assert message(folder) == (
        f"the image has 32x32 pixels, under 64 on a side ({folder / '000.png'}). What to do: use a larger one"
    )
