"""PLY files: round trips, agreement with plyfile, and everything a file may have wrong."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path

import numpy as np
import plyfile
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worldexplorer.errors import DefectError, ErrorClass, UserError, classify
from worldexplorer.geometry import ply
from worldexplorer.geometry.gaussians import Gaussians
from worldexplorer.geometry.ply import (
    GAUSSIANS_LIMIT,
    POINTS_LIMIT,
    PointCloud,
    read_comments,
    read_gaussians,
    read_points,
    write_gaussians,
    write_points,
)
from worldexplorer.geometry.ply_header import HEADER_LIMIT

exactly = settings(derandomize=True, deadline=None)
FIELDS = ("means", "log_scales", "quaternions", "opacity_logits", "sh")
POINT_PROPERTIES = ["x", "y", "z", "nx", "ny", "nz", "red", "green", "blue"]


def some_gaussians(count=7, coefficients=16, seed=0):
    rng = np.random.default_rng(seed)
    quaternions = rng.normal(size=(count, 4))
    quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
    arrays = [
        rng.normal(size=(count, 3)),
        rng.normal(size=(count, 3)),
        quaternions,
        rng.normal(size=count),
        rng.normal(size=(count, coefficients, 3)),
    ]
    return Gaussians(*(array.astype(np.float32) for array in arrays))


def some_points(count=7, seed=0):
    rng = np.random.default_rng(seed)
    points, normals = rng.normal(size=(2, count, 3)).astype(np.float32)
    return PointCloud(points, normals, rng.integers(0, 256, size=(count, 3), dtype=np.uint8))


def assert_equal(one, other):
    for field in one.__dataclass_fields__:
        first, second = getattr(one, field), getattr(other, field)
        assert first.dtype == second.dtype
        assert second.flags.c_contiguous
        assert first.tobytes() == second.tobytes(), field
        assert first.shape == second.shape


def replaced(gaussians, **changes):
    return Gaussians(**{field: changes.get(field, getattr(gaussians, field)) for field in FIELDS})


# --- what is written


@pytest.mark.parametrize("coefficients", [1, 4, 9, 16])
@pytest.mark.parametrize("count", [0, 1, 7])
def test_gaussians_come_back_bit_for_bit(tmp_path, count, coefficients):
    world = some_gaussians(count, coefficients)
    write_gaussians(tmp_path / "a.ply", world)
    assert_equal(world, read_gaussians(tmp_path / "a.ply"))


@pytest.mark.parametrize("count", [0, 1, 7])
def test_points_come_back_bit_for_bit(tmp_path, count):
    cloud = some_points(count)
    write_points(tmp_path / "a.ply", cloud)
    assert_equal(cloud, read_points(tmp_path / "a.ply"))


def test_more_rows_than_a_block_come_back(tmp_path):
    count = 2 * ply._ROWS_AT_A_TIME + 5
    world, cloud = some_gaussians(count, 4), some_points(count)
    write_gaussians(tmp_path / "world.ply", world)
    write_points(tmp_path / "cloud.ply", cloud)
    assert_equal(world, read_gaussians(tmp_path / "world.ply"))
    assert_equal(cloud, read_points(tmp_path / "cloud.ply"))


def test_arrays_that_are_not_contiguous_are_written_as_they_read(tmp_path):
    world = some_gaussians(14)
    every_second = replaced(world, **{field: getattr(world, field)[::2] for field in FIELDS})
    write_gaussians(tmp_path / "a.ply", every_second)
    assert np.array_equal(read_gaussians(tmp_path / "a.ply").sh, world.sh[::2])


def test_equal_gaussians_are_equal_bytes(tmp_path):
    for name in ("a.ply", "b.ply"):
        write_gaussians(tmp_path / name, some_gaussians(), comments=["same"])
    assert (tmp_path / "a.ply").read_bytes() == (tmp_path / "b.ply").read_bytes()


def test_the_header_is_that_of_the_viewers(tmp_path):
    write_gaussians(tmp_path / "a.ply", some_gaussians(3, 4), comments=["y up", "synthesised preview"])
    header, rows = (tmp_path / "a.ply").read_bytes().split(b"end_header\n")
    names = ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"]
    names += [f"f_rest_{i}" for i in range(9)]
    names += ["opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]
    lines = ["ply", "format binary_little_endian 1.0", "comment y up", "comment synthesised preview"]
    lines += ["element vertex 3", *(f"property float {name}" for name in names)]
    assert header.decode().splitlines() == lines
    assert len(rows) == 3 * 4 * len(names)


def test_plyfile_reads_gaussians_and_finds_every_value_in_its_place(tmp_path):
    world = some_gaussians(5)
    write_gaussians(tmp_path / "a.ply", world, comments=["one", "two"])
    data = plyfile.PlyData.read(tmp_path / "a.ply")
    vertex = data["vertex"]
    assert data.comments == ["one", "two"]
    assert all(prop.val_dtype == "f4" for prop in vertex.properties)
    for row in range(5):
        assert [vertex[name][row] for name in "xyz"] == world.means[row].tolist()
        assert [vertex[f"n{name}"][row] for name in "xyz"] == [0.0, 0.0, 0.0]
        assert vertex["opacity"][row] == world.opacity_logits[row]
        for i in range(3):
            assert vertex[f"scale_{i}"][row] == world.log_scales[row, i]
            assert vertex[f"f_dc_{i}"][row] == world.sh[row, 0, i]
            for k in range(15):
                assert vertex[f"f_rest_{15 * i + k}"][row] == world.sh[row, 1 + k, i]  # red's 15, green's, blue's
        assert [vertex[f"rot_{i}"][row] for i in range(4)] == world.quaternions[row].tolist()


def as_vertices(path, order=None, drop=(), rows=None):
    """The file's vertices through plyfile, with another order of properties."""
    data = plyfile.PlyData.read(path)["vertex"].data
    names = [name for name in (order or data.dtype.names) if name not in drop]
    vertices = np.empty(len(data), dtype=[(name, data.dtype[name]) for name in names])
    for name in names:
        vertices[name] = data[name]
    return vertices if rows is None else vertices[rows]


def write_vertices(path, vertices, comments=()):
    plyfile.PlyData([plyfile.PlyElement.describe(vertices, "vertex")], byte_order="<", comments=list(comments)).write(
        path
    )


@exactly
@given(st.randoms(use_true_random=False), st.sampled_from([1, 4, 9, 16]), st.booleans())
def test_gaussians_by_plyfile_are_read_in_any_order_with_and_without_normals(tmp_path_factory, random, count, normals):
    folder = tmp_path_factory.mktemp("any-order")
    world = some_gaussians(4, count)
    write_gaussians(folder / "a.ply", world)
    names = list(plyfile.PlyData.read(folder / "a.ply")["vertex"].data.dtype.names)
    random.shuffle(names)
    drop = () if normals else ("nx", "ny", "nz")
    write_vertices(folder / "b.ply", as_vertices(folder / "a.ply", names, drop), ["by plyfile"])
    assert_equal(world, read_gaussians(folder / "b.ply"))
    assert read_comments(folder / "b.ply") == ("by plyfile",)


def test_points_by_plyfile_are_read_in_any_order_and_ours_by_plyfile(tmp_path):
    cloud = some_points(5)
    write_points(tmp_path / "a.ply", cloud, comments=["points"])
    data = plyfile.PlyData.read(tmp_path / "a.ply")["vertex"]
    assert [prop.name for prop in data.properties] == POINT_PROPERTIES
    assert [prop.val_dtype for prop in data.properties] == ["f4"] * 6 + ["u1"] * 3
    assert np.array_equal(np.stack([data[name] for name in ("red", "green", "blue")], axis=1), cloud.colours)
    assert np.array_equal(np.stack([data[name] for name in ("nx", "ny", "nz")], axis=1), cloud.normals)
    write_vertices(tmp_path / "b.ply", as_vertices(tmp_path / "a.ply", ["blue", "z", *POINT_PROPERTIES[3:8], "y", "x"]))
    assert_equal(cloud, read_points(tmp_path / "b.ply"))


def test_other_spellings_of_the_types_and_remarks_are_read(tmp_path):
    write_points(tmp_path / "a.ply", some_points())
    raw = (tmp_path / "a.ply").read_bytes().replace(b"property float ", b"property float32 ")
    raw = raw.replace(b"property uchar ", b"property uint8 ").replace(b"element", b"obj_info x y\ncomment\nelement")
    (tmp_path / "b.ply").write_bytes(raw)
    assert_equal(some_points(), read_points(tmp_path / "b.ply"))
    assert read_comments(tmp_path / "b.ply") == ("",)


def test_a_comment_may_say_end_header(tmp_path):
    write_points(tmp_path / "a.ply", some_points(), comments=["end_header", "  spaces  ", ""])
    assert_equal(some_points(), read_points(tmp_path / "a.ply"))
    assert read_comments(tmp_path / "a.ply") == ("end_header", "  spaces  ", "")


def test_quaternions_of_other_lengths_are_normalised(tmp_path):
    world = some_gaussians()
    write_gaussians(tmp_path / "a.ply", world)
    vertices = as_vertices(tmp_path / "a.ply")
    for i in range(4):
        vertices[f"rot_{i}"] *= np.float32([1, 2, 1e-30, 1e30, -1, 0.5, 3])
    write_vertices(tmp_path / "b.ply", vertices)
    signs = np.float32([1, 1, 1, 1, -1, 1, 1])[:, None]
    assert np.allclose(read_gaussians(tmp_path / "b.ply").quaternions, signs * world.quaternions, atol=2e-7)


# --- what is not written


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"means": np.zeros((7, 2), dtype=np.float32)}, r"means must be float32 with the shape \[7, 3\]"),
        ({"means": np.zeros((7, 3))}, "means must be float32 .* float64"),
        ({"sh": np.zeros((7, 3), dtype=np.float32)}, "sh must be"),
        ({"sh": np.zeros((7, 5, 3), dtype=np.float32)}, "1, 4, 9 or 16"),
        ({"sh": np.zeros((6, 4, 3), dtype=np.float32)}, r"sh must be float32 with the shape \[7, 4, 3\]"),
        ({"opacity_logits": np.zeros((7, 1), dtype=np.float32)}, "opacity_logits"),
        ({"quaternions": np.ones((7, 4), dtype=np.float32)}, "quaternion in row 0 has the length 2 instead of 1"),
    ],
)
def test_invalid_gaussians_are_not_written(tmp_path, changes, text):
    with pytest.raises(DefectError, match=text):
        write_gaussians(tmp_path / "a.ply", replaced(some_gaussians(), **changes))
    assert not (tmp_path / "a.ply").exists()


@pytest.mark.parametrize(
    ("field", "index", "name"),
    [
        ("means", (3, 1), "y"),
        ("sh", (3, 0, 2), "f_dc_2"),
        ("sh", (3, 5, 1), "f_rest_19"),
        ("opacity_logits", (3,), "opacity"),
        ("log_scales", (3, 2), "scale_2"),
        ("quaternions", (3, 0), "rot_0"),
    ],
)
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_a_number_that_is_not_finite_is_not_written_and_named(tmp_path, field, index, name, value):
    world = some_gaussians()
    array = getattr(world, field).copy()
    array[index] = value
    with pytest.raises(DefectError, match=rf"{name} in row 3 is {value}") as caught:
        write_gaussians(tmp_path / "a.ply", replaced(world, **{field: array}))
    assert caught.value.where == str(tmp_path / "a.ply")
    assert not (tmp_path / "a.ply").exists()


def test_invalid_points_are_not_written(tmp_path):
    cloud = some_points()
    bad = cloud.normals.copy()
    bad[4, 2] = np.nan
    for change, text in (
        (PointCloud(cloud.points, bad, cloud.colours), "nz in row 4 is nan"),
        (PointCloud(cloud.points, cloud.normals[1:], cloud.colours), "normals must be"),
        (PointCloud(cloud.points, cloud.normals, cloud.colours / np.float32(255)), "colours must be uint8"),
    ):
        with pytest.raises(DefectError, match=text):
            write_points(tmp_path / "a.ply", change)
    assert not (tmp_path / "a.ply").exists()


@pytest.mark.parametrize("comment", ["two\nlines", "carriage\rreturn", "ünicode", "tab\t", "nul\0"])
def test_comments_that_would_break_the_header_are_refused(tmp_path, comment):
    for write, data in ((write_points, some_points()), (write_gaussians, some_gaussians())):
        with pytest.raises(DefectError, match="one line of printable ASCII"):
            write(tmp_path / "a.ply", data, comments=[comment])
    assert not (tmp_path / "a.ply").exists()


def test_comments_that_the_reader_would_refuse_are_not_written(tmp_path):
    with pytest.raises(DefectError, match="longer than"):
        write_points(tmp_path / "a.ply", some_points(), comments=["x" * HEADER_LIMIT])
    room = HEADER_LIMIT
    write_points(tmp_path / "a.ply", some_points(0))
    room -= (tmp_path / "a.ply").stat().st_size + len("comment \n")
    write_points(tmp_path / "a.ply", some_points(), comments=["x" * room])
    assert_equal(some_points(), read_points(tmp_path / "a.ply"))


def test_more_rows_than_the_reader_takes_are_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(ply, "GAUSSIANS_LIMIT", 6)
    monkeypatch.setattr(ply, "POINTS_LIMIT", 6)
    with pytest.raises(DefectError, match="7 rows are more than"):
        write_gaussians(tmp_path / "a.ply", some_gaussians(7))
    with pytest.raises(DefectError, match="7 rows are more than"):
        write_points(tmp_path / "a.ply", some_points(7))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_a_full_disk_is_the_machines_fault(tmp_path):
    full = tmp_path / "full.ply"
    full.symlink_to("/dev/full")
    for write, data in ((write_points, some_points(50_000)), (write_gaussians, some_gaussians(50_000, 1))):
        with pytest.raises(OSError) as caught:
            write(full, data)
        assert classify(caught.value) is ErrorClass.INFRASTRUCTURE


def test_a_disk_that_fills_while_rows_are_written_keeps_its_error_number(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for write, data in ((write_points, some_points(50_000)), (write_gaussians, some_gaussians(50_000, 1))):
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, before[1]))
        try:
            with pytest.raises(OSError) as caught:
                write(tmp_path / "a.ply", data)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert caught.value.errno == errno.EFBIG


# --- what is not read


@pytest.fixture
def gaussian_bytes(tmp_path):
    write_gaussians(tmp_path / "good.ply", some_gaussians(7, 4))
    return (tmp_path / "good.ply").read_bytes()


@pytest.fixture
def point_bytes(tmp_path):
    write_points(tmp_path / "good.ply", some_points())
    return (tmp_path / "good.ply").read_bytes()


HOSTILE = {
    "empty": (lambda raw: b"", "not a PLY file"),
    "not a PLY file": (lambda raw: b"PK" + raw, "not a PLY file"),
    "carriage returns": (lambda raw: raw.replace(b"\n", b"\r\n", 20), "not a PLY file"),
    "carriage returns but in the first line": (lambda raw: raw.replace(b"1.0\n", b"1.0\r\n"), "line 2 .* printable"),
    "cut in the header": (lambda raw: raw[:100], "no end_header within the first 100 bytes"),
    "cut in the rows": (lambda raw: raw[:-1], "cut off: .* for 7 rows"),
    "no rows": (lambda raw: raw[: raw.index(b"end_header\n") + 11], "cut off"),
    "one byte too many": (lambda raw: raw + b"\0", "longer than it says"),
    "twice": (lambda raw: raw + raw, "longer than it says"),
    "count too large": (lambda raw: raw.replace(b"vertex 7", b"vertex 8"), "cut off"),
    "count too small": (lambda raw: raw.replace(b"vertex 7", b"vertex 6"), "longer than it says"),
    "giant count": (lambda raw: raw.replace(b"vertex 7", b"vertex 999999999999"), "announces 999999999999 rows"),
    "count of many digits": (lambda raw: raw.replace(b"vertex 7", b"vertex " + b"9" * 9999), r"announces 9{40}\.\.\."),
    "negative count": (lambda raw: raw.replace(b"vertex 7", b"vertex -7"), "announces -7 rows"),
    "fractional count": (lambda raw: raw.replace(b"vertex 7", b"vertex 7.0"), "announces 7.0 rows"),
    "count with an underscore": (lambda raw: raw.replace(b"vertex 7", b"vertex 0_7"), "announces 0_7 rows"),
    "no count": (lambda raw: raw.replace(b"vertex 7", b"vertex"), "line 3 .* not understood"),
    "ascii": (lambda raw: raw.replace(b"binary_little_endian", b"ascii"), "format is ascii 1.0"),
    "big-endian": (lambda raw: raw.replace(b"binary_little", b"binary_big"), "format is binary_big_endian 1.0"),
    "another version": (lambda raw: raw.replace(b"endian 1.0", b"endian 2.0"), "format is binary_little_endian 2.0"),
    "no format": (lambda raw: raw.replace(b"format binary_little_endian 1.0\n", b""), "second line .* format"),
    "no format but a comment": (lambda raw: raw.replace(b"format", b"comment format"), "second line .* format"),
    "two formats": (lambda raw: raw.replace(b"element", b"format ascii 1.0\nelement"), "line 3 .* not understood"),
    "giant header": (
        lambda raw: raw.replace(b"element", b"comment " + b"x" * HEADER_LIMIT + b"\nelement"),
        f"no end_header within the first {HEADER_LIMIT} bytes",
    ),
    "many comments": (lambda raw: raw.replace(b"element", b"comment\n" * 9000 + b"element"), "no end_header within"),
    "list": (lambda raw: raw.replace(b"float y", b"list uchar float y"), "property y has the type list"),
    "double": (lambda raw: raw.replace(b"float y", b"double y"), "property y has the type double"),
    "int": (lambda raw: raw.replace(b"float y", b"int y"), "property y has the type int"),
    "duplicate": (lambda raw: raw.replace(b"float y", b"float x"), "property x is there twice"),
    "missing": (lambda raw: raw.replace(b"property float y\n", b""), "property y is missing"),
    "renamed": (lambda raw: raw.replace(b"float y", b"float Y"), "property y is missing"),
    "unknown": (lambda raw: raw.replace(b"float y", b"float filter_3D\nproperty float y"), "filter_3D does not belong"),
    "property of another type": (lambda raw: raw.replace(b"float nx", b"uchar nx"), "nx has the type uchar instead of"),
    "property without a name": (lambda raw: raw.replace(b"float y", b"float"), "not understood"),
    "property before the element": (lambda raw: raw.replace(b"element", b"property float x\nelement"), "line 3"),
    "no element": (lambda raw: b"ply\nformat binary_little_endian 1.0\nend_header\n", "no element `vertex`"),
    "faces": (lambda raw: raw.replace(b"end_header", b"element face 0\nend_header"), "element 'face'"),
    "faces first": (lambda raw: raw.replace(b"element", b"element face 0\nelement", 1), "element 'face'"),
    "compressed splats": (lambda raw: raw.replace(b"element", b"element chunk 1\nelement", 1), "element 'chunk'"),
    "two elements of vertices": (lambda raw: raw.replace(b"end_header", b"element vertex 7\nend_header"), "'vertex'"),
    "unknown word": (lambda raw: raw.replace(b"element", b"include /etc/passwd\nelement"), "not understood"),
    "not ASCII": (lambda raw: raw.replace(b"element", b"comment \xc3\xa4\nelement"), "line 3 .* printable ASCII"),
    "NUL": (lambda raw: raw.replace(b"element", b"comment \0\nelement"), "line 3 .* printable ASCII"),
    "escape sequence": (lambda raw: raw.replace(b"element", b"comment \x1b[2J\nelement"), "line 3 .* printable ASCII"),
    "blank line": (lambda raw: raw.replace(b"element", b"\nelement"), "line 3 .* not understood"),
}


@pytest.mark.parametrize(("change", "text"), HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("kind", ["gaussians", "points"])
def test_hostile_files_are_one_clear_error(tmp_path, gaussian_bytes, kind, change, text):
    write_points(tmp_path / "points.ply", some_points())
    raw = gaussian_bytes if kind == "gaussians" else (tmp_path / "points.ply").read_bytes()
    bad = change(raw)
    assert bad != raw
    path = tmp_path / "bad.ply"
    path.write_bytes(bad)
    with pytest.raises(UserError, match=text) as caught:
        (read_gaussians if kind == "gaussians" else read_points)(path)
    assert caught.value.where == str(path)
    assert caught.value.remedy
    assert len(str(caught.value)) < 600


def test_hostile_words_do_not_fill_the_log(tmp_path, gaussian_bytes):
    long = b"A" * 50_000
    for old, new in ((b"float y", long + b" y"), (b"float y", b"float " + long), (b"element", long + b"\nelement")):
        (tmp_path / "bad.ply").write_bytes(gaussian_bytes.replace(old, new))
        with pytest.raises(UserError) as caught:
            read_gaussians(tmp_path / "bad.ply")
        assert len(str(caught.value)) < 600


@pytest.mark.parametrize("rest", [1, 3, 8, 10, 23, 44, 48, 72])
def test_other_numbers_of_coefficients_are_refused(tmp_path, gaussian_bytes, rest):
    head, tail = gaussian_bytes.split(b"property float f_rest_0\n")
    tail = tail[tail.index(b"property float opacity") :]
    middle = b"".join(b"property float f_rest_%d\n" % i for i in range(rest))
    (tmp_path / "bad.ply").write_bytes(head + middle + tail)
    with pytest.raises(UserError, match=rf"{rest} properties f_rest_\*; 0, 9, 24 or 45"):
        read_gaussians(tmp_path / "bad.ply")


def test_coefficients_with_a_gap_are_refused(tmp_path, gaussian_bytes):
    (tmp_path / "bad.ply").write_bytes(gaussian_bytes.replace(b"f_rest_3\n", b"f_rest_9\n"))
    with pytest.raises(UserError, match="f_rest_3 is missing"):
        read_gaussians(tmp_path / "bad.ply")


def test_half_of_the_normals_is_refused(tmp_path, gaussian_bytes):
    (tmp_path / "bad.ply").write_bytes(gaussian_bytes.replace(b"property float ny\n", b""))
    with pytest.raises(UserError, match="ny is missing"):
        read_gaussians(tmp_path / "bad.ply")


@pytest.mark.parametrize("name", ["x", "nz", "f_dc_1", "f_rest_8", "opacity", "scale_0", "rot_3"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_the_first_number_that_is_not_finite_is_named(tmp_path, name, value):
    write_gaussians(tmp_path / "good.ply", some_gaussians(40_000, 4))
    vertices = as_vertices(tmp_path / "good.ply")
    vertices[name][[35_000, 39_999]] = value  # not in the first block
    write_vertices(tmp_path / "bad.ply", vertices)
    with pytest.raises(UserError, match=f"{name} in row 35000 is {value}, not a finite number"):
        read_gaussians(tmp_path / "bad.ply")


def test_a_point_that_is_not_finite_is_named(tmp_path):
    write_points(tmp_path / "good.ply", some_points())
    vertices = as_vertices(tmp_path / "good.ply")
    vertices["ny"][5] = np.nan
    vertices["x"][6] = np.nan
    write_vertices(tmp_path / "bad.ply", vertices)
    with pytest.raises(UserError, match="ny in row 5 is nan"):
        read_points(tmp_path / "bad.ply")


def test_a_quaternion_of_length_zero_is_named(tmp_path):
    write_gaussians(tmp_path / "good.ply", some_gaussians())
    vertices = as_vertices(tmp_path / "good.ply")
    for i in range(4):
        vertices[f"rot_{i}"][4] = 0.0
    write_vertices(tmp_path / "bad.ply", vertices)
    with pytest.raises(UserError, match="quaternion in row 4 has length zero"):
        read_gaussians(tmp_path / "bad.ply")


@pytest.mark.parametrize(
    ("read", "limit", "row"), [(read_gaussians, GAUSSIANS_LIMIT, 14 * 4), (read_points, POINTS_LIMIT, 27)]
)
def test_a_sparse_file_over_the_limit_is_refused_before_anything_is_allocated(tmp_path, monkeypatch, read, limit, row):
    good = tmp_path / "good.ply"
    if read is read_points:
        write_points(good, some_points(0))
    else:
        write_gaussians(good, some_gaussians(0, 1))
    header = good.read_bytes().replace(b"vertex 0", b"vertex %d" % (limit + 1))
    path = tmp_path / "sparse.ply"
    path.write_bytes(header)
    os.truncate(path, len(header) + (limit + 1) * row)
    monkeypatch.setattr(np, "empty", lambda *_, **__: pytest.fail("memory was taken"))
    with pytest.raises(UserError, match=f"announces {limit + 1} rows; a number from 0 to {limit}"):
        read(path)


def test_a_wrong_size_takes_no_memory(tmp_path, gaussian_bytes, monkeypatch):
    (tmp_path / "bad.ply").write_bytes(gaussian_bytes.replace(b"vertex 7", b"vertex 9999999"))
    monkeypatch.setattr(np, "empty", lambda *_, **__: pytest.fail("memory was taken"))
    with pytest.raises(UserError, match="cut off"):
        read_gaussians(tmp_path / "bad.ply")


def test_a_file_that_shrinks_while_it_is_read_is_an_error(tmp_path, gaussian_bytes, monkeypatch):
    path = tmp_path / "good.ply"
    whole = ply._check_size

    def then_cut(file, header, wrong):
        whole(file, header, wrong)
        os.truncate(path, header.length)

    # More rows than Python's file buffer holds, so that the cut is seen.
    write_gaussians(path, some_gaussians(20_000))
    monkeypatch.setattr(ply, "_check_size", then_cut)
    with pytest.raises(UserError, match="cut off while it was read"):
        read_gaussians(path)


@pytest.mark.parametrize(
    "make", [lambda p: None, lambda p: p.mkdir(), lambda p: os.mkfifo(p)], ids=["none", "folder", "pipe"]
)
@pytest.mark.parametrize("read", [read_gaussians, read_points, read_comments])
def test_what_is_no_file_is_an_error_and_never_waits(tmp_path, make, read):
    make(tmp_path / "a.ply")
    with pytest.raises(UserError, match="no such file"):
        read(tmp_path / "a.ply")


def test_who_made_the_file_decides_the_class_of_the_error(tmp_path, point_bytes):
    (tmp_path / "bad.ply").write_bytes(point_bytes[:-1])
    for read in (read_points, read_gaussians):
        with pytest.raises(DefectError):
            read(tmp_path / "bad.ply", fault=DefectError)
    with pytest.raises(DefectError):
        read_comments(tmp_path / "none.ply", fault=DefectError)


@exactly
@given(st.data())
def test_no_change_of_a_few_bytes_makes_anything_but_a_value_or_a_clear_error(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("flips")
    write_gaussians(folder / "a.ply", some_gaussians(2, 4))
    raw = bytearray((folder / "a.ply").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    (folder / "a.ply").write_bytes(raw[: data.draw(st.sampled_from([len(raw), len(raw), len(raw) // 2]))])
    try:
        world = read_gaussians(folder / "a.ply")
    except UserError as error:
        assert error.where == str(folder / "a.ply")
    else:
        assert world.count == 2
        assert all(np.isfinite(getattr(world, field)).all() for field in FIELDS)
        assert np.allclose(np.linalg.norm(world.quaternions.astype(np.float64), axis=1), 1.0, atol=2e-6)
