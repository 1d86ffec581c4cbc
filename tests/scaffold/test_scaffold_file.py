from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from worldexplorer.errors import UserError
from worldexplorer.geometry.cameras import normalised_intrinsics
from worldexplorer.scaffold.poses import scaffold_poses
from worldexplorer.scaffold.scaffold_file import ScaffoldFile, ScaffoldView, read_scaffold, write_scaffold


def scaffold() -> ScaffoldFile:
    views = [
        ScaffoldView(
            id=number,
            file=f"final/{number:03d}.png",
            sha256=f"{number:064x}",
            yaw_deg=45.0 * number,
            c2w=pose.tolist(),
            k_norm=(0.86, 0.87, 0.5, 0.51),
            source="input" if number == 0 else "generated",
        )
        for number, pose in enumerate(scaffold_poses())
    ]
    return ScaffoldFile(size=576, method="single_image", prior="pan-in-place", engine="preview", seed=0, views=views)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_scaffold(tmp_path / "scaffold.json", scaffold())
    return tmp_path / "scaffold.json"


def test_it_comes_back_as_it_was(path: Path) -> None:
    found = read_scaffold(path)
    assert found == scaffold()
    np.testing.assert_allclose(found.poses(), scaffold_poses(), atol=1e-12)
    assert found.poses().dtype == np.float64


def test_lenses_have_their_numbers_in_place(path: Path) -> None:
    expected = [[0.86, 0, 0.5], [0, 0.87, 0.51], [0, 0, 1]]
    np.testing.assert_array_equal(read_scaffold(path).intrinsics(), [expected] * 8)
    assert normalised_intrinsics().shape == (3, 3)


def test_equal_contents_give_equal_bytes(path: Path, tmp_path: Path) -> None:
    write_scaffold(tmp_path / "again.json", read_scaffold(path))
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()
    assert path.read_bytes().endswith(b"}\n")


def changed(document: dict[str, Any], place: str, value: Any) -> dict[str, Any]:
    *parents, last = [int(part) if part.isdigit() else part for part in place.split(".")]
    inner: Any = document
    for part in parents:
        inner = inner[part]
    inner[last] = value
    return document


@pytest.mark.parametrize(
    ("place", "value", "named"),
    [
        ("version", 2, "version"),
        ("convention", "opencv", "convention"),
        ("units", "metres", "units"),
        ("views", [], "views"),
        ("views.3.c2w.0.0", "one", "views.3.c2w.0.0"),
        ("views.3.c2w.0.0", float("nan"), "views.3.c2w.0.0"),
        ("views.3.k_norm", [1, 2, 3], "views.3.k_norm"),
        ("views.3.source", "dreamt", "views.3.source"),
        ("views.3.c2w.0.0", 0.5, "a c2w is not a camera pose"),
        ("views.3.c2w.3", [0, 0, 0, 2], "a c2w is not a camera pose"),
        ("views.3.c2w.1", [0, -1, 0, 0], "a c2w is not a camera pose"),
    ],
)
def test_what_is_wrong_is_named(path: Path, place: str, value: Any, named: str) -> None:
    path.write_text(json.dumps(changed(json.loads(path.read_bytes()), place, value)))
    with pytest.raises(UserError) as caught:
        read_scaffold(path)
    assert named in caught.value.what
    assert caught.value.where == str(path)
    assert caught.value.remedy


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xff", b"[]", b"null"])
def test_what_is_no_such_file_is_refused(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"scaffold\.json"):
        read_scaffold(path)
