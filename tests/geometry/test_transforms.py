"""transforms.json: what is written is read back, byte for byte the same, and nothing else is accepted."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from worldexplorer.errors import DefectError, UserError
from worldexplorer.geometry.cameras import normalised_intrinsics
from worldexplorer.geometry.transforms import Transforms, json_path, read_transforms, write_transforms
from worldexplorer.scaffold.poses import scaffold_poses

steady = settings(deadline=None, derandomize=True)

SCENE = Transforms(
    file_paths=tuple(f"final/{view:03d}.png" for view in range(8)),
    c2w=scaffold_poses(),
    intrinsics=np.tile(normalised_intrinsics(), (8, 1, 1)),
    width=576,
    height=576,
    ply_file_path="vggt_pcl.ply",
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "transforms.json"


def test_the_file_is_what_nerfstudio_reads(path):
    write_transforms(path, SCENE)
    document = json.loads(path.read_text())
    assert document.keys() == {
        "camera_model",
        "orientation_override",
        "fl_x",
        "fl_y",
        "cx",
        "cy",
        "w",
        "h",
        "frames",
        "ply_file_path",
    }
    assert (document["camera_model"], document["orientation_override"]) == ("OPENCV", "none")
    assert document["fl_x"] == document["fl_y"] == pytest.approx(498, abs=1e-4)
    assert (document["cx"], document["cy"], document["w"], document["h"]) == (288, 288, 576, 576)
    assert document["ply_file_path"] == "vggt_pcl.ply"
    assert [frame["file_path"] for frame in document["frames"]] == list(SCENE.file_paths)
    np.testing.assert_allclose(document["frames"][2]["transform_matrix"], SCENE.c2w[2], atol=1e-12)


def test_equal_content_gives_equal_bytes_free_of_rounding_noise(path, tmp_path):
    write_transforms(path, SCENE)
    noisy = replace(
        SCENE,
        c2w=SCENE.c2w
        + 1e-16
        * np.random.default_rng(0).choice([-1, 1], SCENE.c2w.shape)
        * np.array([[1, 1, 1, 1]] * 3 + [[0, 0, 0, 0]]),
    )
    write_transforms(tmp_path / "again.json", noisy)
    assert path.read_bytes() == (tmp_path / "again.json").read_bytes()
    assert b"-0.0" not in path.read_bytes()
    assert b"\r" not in path.read_bytes()


poses = st.lists(st.tuples(*[st.floats(-3, 3)] * 3, *[st.floats(-1e3, 1e3)] * 3), min_size=1, max_size=5)


@steady
@given(poses, st.integers(1, 2000), st.integers(1, 2000), st.floats(0.1, 5), st.booleans())
def test_what_is_written_is_read_back(tmp_path_factory, values, width, height, focal, with_points):
    c2w = np.tile(np.eye(4), (len(values), 1, 1))
    c2w[:, :3, :3] = Rotation.from_rotvec([value[:3] for value in values]).as_matrix()
    c2w[:, :3, 3] = [value[3:] for value in values]
    scene = Transforms(
        file_paths=tuple(f"{number:03d}_left/{number}.png" for number in range(len(values))),
        c2w=c2w,
        intrinsics=np.tile(normalised_intrinsics(focal), (len(values), 1, 1)),
        width=width,
        height=height,
        ply_file_path="points.ply" if with_points else None,
    )
    path = tmp_path_factory.mktemp("scene") / "heldout.json"
    write_transforms(path, scene)
    again = read_transforms(path)
    assert replace(again, c2w=c2w, intrinsics=scene.intrinsics) == scene
    np.testing.assert_allclose(again.c2w, c2w, rtol=1e-15, atol=6e-13)
    np.testing.assert_allclose(again.intrinsics, scene.intrinsics, atol=1e-9)
    content = path.read_bytes()
    write_transforms(path, again)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../x.png",
        "a/../../x.png",
        "a//b.png",
        "./a.png",
        "",
        "a/",
        "C:/x.png",
        "a\\b.png",
        "gs://b/x",
        "a\0b",
    ],
)
@pytest.mark.parametrize("where", ["frame", "points"])
def test_paths_that_leave_the_folder_are_refused(path, name, where):
    write_transforms(path, SCENE)
    document = json.loads(path.read_text())
    if where == "frame":
        document["frames"][3]["file_path"] = name
        scene, place = replace(SCENE, file_paths=(name, *SCENE.file_paths[1:])), r"frames\[3\]\.file_path"
    else:
        document["ply_file_path"] = name
        scene, place = replace(SCENE, ply_file_path=name), "ply_file_path"
    path.write_text(json.dumps(document))
    with pytest.raises(UserError, match=rf"not a plain path.*transforms\.json: {place}"):
        read_transforms(path)
    with pytest.raises(DefectError, match="not a plain path"):
        write_transforms(path, scene)


def set_in(*keys_and_value):
    *keys, last, value = keys_and_value

    def spoil(document):
        for key in keys:
            document = document[key]
        document[last] = value

    return spoil


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (set_in("frames", 1, "transform_matrix", 0, 2, math.nan), r"frames\[1\]\.transform_matrix\[0\]\[2\]"),
        (set_in("frames", 1, "transform_matrix", 2, 3, math.inf), r"frames\[1\]\.transform_matrix\[2\]\[3\]"),
        (set_in("frames", 1, "transform_matrix", 2, 3, "1"), r"frames\[1\]\.transform_matrix\[2\]\[3\]"),
        (set_in("frames", 1, "transform_matrix", 2, [1.0, 0.0, 0.0]), r"frames\[1\]\.transform_matrix\[2\]"),
        (set_in("frames", 1, "transform_matrix", [[1.0, 0, 0, 0]] * 3), r"frames\[1\]\.transform_matrix"),
        (set_in("frames", 1, "transform_matrix", 0, 0, 2.0), r"not a camera-to-world pose.*frames\[1\]"),
        (set_in("frames", 1, "transform_matrix", 3, 3, 2.0), r"not a camera-to-world pose.*frames\[1\]"),
        (set_in("frames", 0, "transform_matrix", 0, 0, -1.0), r"not a camera-to-world pose.*frames\[0\]"),
        (set_in("frames", 4, "file_path", "final/000.png"), r"listed twice.*frames\[4\]\.file_path"),
        (set_in("frames", 4, "fl_x", 300.0), r"frames\[4\]: |go together"),
        (set_in("frames", []), "frames"),
        (set_in("frames", {}), "frames"),
        (set_in("w", 0), "transforms.json: w"),
        (set_in("w", 576.5), "transforms.json: w"),
        (set_in("h", True), "transforms.json: h"),
        (set_in("fl_y", 0.0), "fl_y"),
        (set_in("cx", math.nan), "cx"),
        (set_in("camera_model", "FISHEYE"), "camera_model"),
        (set_in("orientation_override", "up"), "orientation_override"),
        (set_in("k1", 0.1), "k1"),
        (lambda document: document.pop("fl_x"), "fl_x"),
    ],
)
def test_what_is_wrong_is_named_with_its_json_path(path, spoil, text):
    write_transforms(path, SCENE)
    document = json.loads(path.read_text())
    spoil(document)
    path.write_text(json.dumps(document))
    with pytest.raises(UserError, match=text) as caught:
        read_transforms(path)
    assert caught.value.where.startswith(str(path))
    assert caught.value.remedy


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"frames": ' + b"[" * 10000])
def test_other_files_are_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"transforms\.json"):
        read_transforms(path)


def test_missing_and_huge_files_are_refused(path, tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_transforms(path)
    with pytest.raises(UserError, match="cannot be read"):
        read_transforms(tmp_path)
    with path.open("wb") as file:
        file.truncate(64 * 2**20 + 1)
    with pytest.raises(UserError, match="larger than 64 MiB"):
        read_transforms(path)


@pytest.mark.parametrize(
    "scene",
    [
        replace(SCENE, c2w=SCENE.c2w[:7]),
        replace(SCENE, c2w=np.full((8, 4, 4), np.nan)),
        replace(SCENE, file_paths=("a.png",) * 8),
        replace(SCENE, file_paths=(), c2w=np.empty((0, 4, 4))),
        replace(SCENE, c2w=SCENE.c2w @ np.diag([1.0, -1, 1, 1])),
        replace(SCENE, intrinsics=np.zeros((8, 3, 3))),
        replace(SCENE, intrinsics=normalised_intrinsics()),
    ],
)
def test_what_could_not_be_read_is_not_written(path, scene):
    with pytest.raises(DefectError):
        write_transforms(path, scene)
    assert not path.exists()


def test_json_paths_read_as_people_write_them():
    assert json_path(("frames", 3, "transform_matrix", 0)) == "frames[3].transform_matrix[0]"
    assert json_path(()) == ""


def test_frames_of_different_lenses_carry_their_own(path):
    scene = replace(SCENE, intrinsics=np.stack([normalised_intrinsics(0.5 + 0.1 * view) for view in range(8)]))
    write_transforms(path, scene)
    document = json.loads(path.read_text())
    assert "fl_x" not in document
    assert [frame["fl_x"] for frame in document["frames"]] == pytest.approx(
        [576 * (0.5 + 0.1 * view) for view in range(8)]
    )
    np.testing.assert_allclose(read_transforms(path).intrinsics, scene.intrinsics, rtol=1e-11)


def test_a_frame_without_any_intrinsics_is_named(path):
    write_transforms(path, SCENE)
    document = json.loads(path.read_text())
    for name in ("fl_x", "fl_y", "cx", "cy"):
        del document[name]
    path.write_text(json.dumps(document))
    with pytest.raises(UserError, match=r"frames\[0\].*no intrinsics|no intrinsics.*frames\[0\]"):
        read_transforms(path)
