"""SPZ and compressed PLY: what other readers find in our files, and what is said of what does not fit."""

from __future__ import annotations

import gzip
import importlib.util
import json
import math
import shutil
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from worldexplorer.errors import DefectError, UserError
from worldexplorer.geometry.gaussians import Gaussians
from worldexplorer.geometry.rotations import quaternion_to_matrix
from worldexplorer.splat import formats
from worldexplorer.splat.export import VIEWER_ROTATION, export_smaller
from worldexplorer.splat.formats import LEAST_OPACITY, require_formats, write_compressed_ply, write_spz

needs_gsply = pytest.mark.requires_part("gsply")

SPZ_READER = "@adobe/spz@0.2.3"
"""Niantic's own C++ code, compiled for WebAssembly."""

READ_SPZ = """
import createModule from '@adobe/spz';
import {readFileSync} from 'node:fs';
const module = await createModule();
const cloud = module.loadSpzFromBuffer(readFileSync(process.argv[2]), {to: module.CoordinateSystem[process.argv[3]]});
const found = {count: cloud.numPoints, degree: cloud.shDegree, antialiased: cloud.antialiased};
for (const name of ['positions', 'scales', 'rotations', 'alphas', 'colors', 'sh'])
  found[name] = Array.from(cloud[name]);
console.log(JSON.stringify(found));
"""


def a_world(count: int = 300, coefficients: int = 16, seed: int = 0) -> Gaussians:
    random = np.random.default_rng(seed)
    quaternions = random.normal(size=(count, 4))
    sh = random.uniform(-0.9, 0.9, (count, coefficients, 3))
    sh[:, 0] = random.uniform(-2, 2, (count, 3))
    return Gaussians(
        means=random.normal(0, 5, (count, 3)).astype(np.float32),
        log_scales=random.uniform(-8, 2, (count, 3)).astype(np.float32),
        quaternions=(quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)).astype(np.float32),
        opacity_logits=random.uniform(-5, 5, count).astype(np.float32),
        sh=sh.astype(np.float32),
    )


def opacity(logits: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-logits.astype(float))))


def angles(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Degrees between the axes of two sets of Gaussians; an axis turned around is the same one."""
    both = np.swapaxes(quaternion_to_matrix(first), -1, -2) @ quaternion_to_matrix(second)
    along = np.abs(np.diagonal(both, axis1=-2, axis2=-1))
    return np.asarray(np.degrees(np.arccos(np.clip(along, 0, 1))))


def matched(world: Gaussians, means: np.ndarray) -> np.ndarray:
    """Which of `world` each of the points is; all different."""
    rows = np.argmin(np.linalg.norm(world.means[None] - means[:, None], axis=2), axis=1)
    assert len(set(rows.tolist())) == len(means)
    return rows


# --- compressed PLY, unpacked as its description says


def unpack_compressed_ply(data: bytes) -> Gaussians:
    """PlayCanvas's layout: chunks of 256 with bounds, four packed words a Gaussian, bytes for the higher bands."""
    head, _, body = data.partition(b"end_header\n")
    lines = head.decode().split("\n")
    counts = {line.split()[1]: int(line.split()[2]) for line in lines if line.startswith("element")}
    count, chunks = counts["vertex"], counts["chunk"]
    bounds = np.frombuffer(body, "<f4", chunks * 18).reshape(chunks, 6, 3)[np.arange(count) // 256]
    words = np.frombuffer(body, "<u4", count * 4, chunks * 72).reshape(count, 4)
    rest = sum("f_rest_" in line for line in lines)
    assert len(body) == chunks * 72 + count * (16 + rest)

    def parts(word: np.ndarray, *bits: int) -> np.ndarray:
        found, shift = [], 32
        for width in bits:
            shift -= width
            found.append(((word >> np.uint32(shift)) & np.uint32(2**width - 1)) / (2**width - 1))
        return np.stack(found, axis=1)

    def between(place: np.ndarray, lower: int) -> np.ndarray:
        return bounds[:, lower] + place * (bounds[:, lower + 1] - bounds[:, lower])

    colour = parts(words[:, 3], 8, 8, 8, 8)
    rgb = between(colour[:, :3], 4)
    smaller = (parts(words[:, 1], 2, 10, 10, 10)[:, 1:] - 0.5) * math.sqrt(2)
    largest = (words[:, 1] >> np.uint32(30)).astype(int)
    quaternions = np.empty((count, 4))
    for row, place in enumerate(largest):
        quaternions[row] = np.insert(smaller[row], place, math.sqrt(max(0.0, 1 - (smaller[row] ** 2).sum())))
    higher = np.frombuffer(body, "u1", count * rest, chunks * 72 + count * 16).reshape(count, 3, rest // 3)
    bands = ((higher.astype(float) + 0.5) / 256 - 0.5) * 8
    sh = np.concatenate([((rgb - 0.5) / 0.28209479177387814)[:, None], bands.transpose(0, 2, 1)], axis=1)
    alpha = np.clip(colour[:, 3], 1e-9, 1 - 1e-9)
    return Gaussians(
        between(parts(words[:, 0], 11, 10, 11), 0),
        between(parts(words[:, 2], 11, 10, 11), 2),
        quaternions,
        np.log(alpha / (1 - alpha)),
        sh,
    )


@needs_gsply
@pytest.mark.parametrize("coefficients", [1, 4, 9, 16])
def test_a_compressed_ply_holds_the_world_within_its_steps(tmp_path: Path, coefficients: int) -> None:
    world = a_world(700, coefficients)
    said = write_compressed_ply(tmp_path / "a.ply", world)
    data = (tmp_path / "a.ply").read_bytes()
    found = unpack_compressed_ply(data)
    drawn = opacity(world.opacity_logits) >= LEAST_OPACITY
    assert said == {"gaussians": int(drawn.sum()), "bytes": len(data), "clipped": 0}
    assert found.means.shape == (drawn.sum(), 3)
    rows = matched(world, found.means)
    assert drawn[rows].all()
    # A step is the chunk's extent in that direction over 1023 at worst; half of it is the rounding.
    reach = 0.51 * np.ptp(world.means, axis=0) / 1023
    assert (np.abs(found.means - world.means[rows]) <= reach).all()
    assert np.abs(found.log_scales - world.log_scales[rows]).max() < 0.51 * 10 / 1023
    assert np.abs(opacity(found.opacity_logits) - opacity(world.opacity_logits[rows])).max() < 0.51 / 255
    assert angles(found.quaternions, world.quaternions[rows]).max() < 0.3
    assert np.abs(found.sh[:, 0] - world.sh[rows, 0]).max() < 0.51 * 4 / 255 / 0.28 * 0.3
    if coefficients > 1:
        assert np.abs(found.sh[:, 1:] - world.sh[rows, 1:]).max() < 1.01 / 64


@needs_gsply
def test_neighbours_share_a_chunk() -> None:
    """Eight far groups of 256, given in a random order, are eight chunks."""
    random = np.random.default_rng(1)
    group = np.repeat(np.arange(8), 256)
    corners = np.array([[x, y, z] for x in (0, 100) for y in (0, 100) for z in (0, 100)])
    means = (corners[group] + random.uniform(0, 1, (2048, 3)))[random.permutation(2048)]
    world = replace(a_world(2048, 1), means=means.astype(np.float32), opacity_logits=np.ones(2048, np.float32))
    shown = formats._shown(world).means.reshape(8, 256, 3)
    assert (np.ptp(shown, axis=1) < 1.0).all()


def test_the_curve_interleaves_the_bits_of_the_coordinates() -> None:
    """The bounding cube is one million units wide, so that a unit is about two cells."""
    random = np.random.default_rng(2)
    points = np.concatenate([[[0, 0, 0], [1e6, 1e6, 1e6]], random.uniform(0, 1e6, (50, 3))]).astype(np.float32)
    found = formats._curve(points)
    cells = (points.astype(float) / 1e6 * (2**21 - 1)).astype(int).tolist()
    for place, cell in zip(found.tolist(), cells, strict=True):
        expected = sum(((cell[axis] >> bit) & 1) << (3 * bit + axis) for bit in range(21) for axis in range(3))
        assert place == expected
    assert found[1] == 2**63 - 1


# --- SPZ


@needs_gsply
def test_an_spz_file_says_what_it_is(tmp_path: Path) -> None:
    said = write_spz(tmp_path / "a.spz", a_world(50, 9))
    data = gzip.decompress((tmp_path / "a.spz").read_bytes())
    magic, version, count, degree, fractional_bits, flags = struct.unpack_from("<4sIIBBB", data)
    assert (magic, version, count, degree, fractional_bits, flags) == (b"NGSP", 3, said["gaussians"], 2, 12, 0)
    assert len(data) == 16 + count * (9 + 1 + 3 + 3 + 4 + 8 * 3)


@needs_gsply
def test_worlds_for_antialiased_renderers_say_so_and_are_the_same_otherwise(tmp_path: Path) -> None:
    for suffix, write in (("spz", write_spz), ("ply", write_compressed_ply)):
        plain, marked = tmp_path / f"plain.{suffix}", tmp_path / f"marked.{suffix}"
        write(plain, a_world())
        said = write(marked, a_world(), antialiased=True)
        assert said["bytes"] == marked.stat().st_size
    plain_spz, marked_spz = (
        bytearray(gzip.decompress((tmp_path / f"{n}.spz").read_bytes())) for n in ("plain", "marked")
    )
    assert (plain_spz[14], marked_spz[14]) == (0, 1)
    plain_spz[14] = 1
    assert plain_spz == marked_spz
    plain_ply, marked_ply = ((tmp_path / f"{n}.ply").read_bytes() for n in ("plain", "marked"))
    head, _, body = marked_ply.partition(b"end_header\n")
    assert head.split(b"\n")[:2] == [b"ply", b"format binary_little_endian 1.0"]
    assert head.count(b"\ncomment SplatRenderMode: mip\n") == 1
    assert head.replace(b"comment SplatRenderMode: mip\n", b"") + b"end_header\n" + body == plain_ply
    write_spz(tmp_path / "again.spz", a_world(), antialiased=True)
    assert (tmp_path / "again.spz").read_bytes() == (tmp_path / "marked.spz").read_bytes()


@needs_gsply
@pytest.mark.parametrize(("furthest", "bits"), [(2047.9, 12), (2049.0, 11), (500_000.0, 4)])
def test_a_wide_world_is_rounded_more_rather_than_cut_off(tmp_path: Path, furthest: float, bits: int) -> None:
    world = a_world(5, 1)
    world.means[0] = [0, -furthest, 0]
    write_spz(tmp_path / "a.spz", replace(world, opacity_logits=np.ones(5, np.float32)))
    data = gzip.decompress((tmp_path / "a.spz").read_bytes())
    assert data[13] == bits
    raw = np.frombuffer(data, "u1", 45, 16).reshape(15, 3).astype(int)
    values = raw[:, 0] + (raw[:, 1] << 8) + (raw[:, 2] << 16)
    places = np.where(values >= 2**23, values - 2**24, values) / 2**bits
    assert places.min() == pytest.approx(-furthest, abs=0.51 / 2**bits + 1e-6 * furthest)


@needs_gsply
def test_a_world_too_wide_for_the_format_is_refused(tmp_path: Path) -> None:
    world = a_world(5, 1)
    world.means[3, 2] = 5e6
    with pytest.raises(DefectError, match="5e"):
        write_spz(tmp_path / "a.spz", replace(world, opacity_logits=np.ones(5, np.float32)))
    assert list(tmp_path.iterdir()) == []


@needs_gsply
def test_numbers_outside_the_formats_are_counted(tmp_path: Path) -> None:
    world = replace(a_world(40), opacity_logits=np.ones(40, np.float32))
    assert write_spz(tmp_path / "a.spz", world)["clipped"] == 0
    world.log_scales[1, 2], world.sh[2, 0, 1], world.sh[3, 9, 0], world.sh[3, 8, 0] = -11, 4, 1.5, -1.5
    assert write_spz(tmp_path / "a.spz", world)["clipped"] == 3
    assert write_compressed_ply(tmp_path / "a.ply", world)["clipped"] == 0
    world.sh[5, 15, 2] = -4.5
    assert write_compressed_ply(tmp_path / "a.ply", world)["clipped"] == 1


@needs_gsply
def test_equal_worlds_are_equal_bytes(tmp_path: Path) -> None:
    for name, write in (("a", write_spz), ("b", write_compressed_ply)):
        write(tmp_path / name, a_world())
        write(tmp_path / f"{name}2", a_world())
        assert (tmp_path / name).read_bytes() == (tmp_path / f"{name}2").read_bytes()


@needs_gsply
def test_what_no_viewer_draws_is_left_out_and_a_world_of_it_refused(tmp_path: Path) -> None:
    world = a_world(10, 1)
    world.opacity_logits[:] = 0
    world.opacity_logits[[2, 5]] = -8
    assert write_spz(tmp_path / "a.spz", world)["gaussians"] == 8
    world.opacity_logits[:] = -8
    for write in (write_spz, write_compressed_ply):
        with pytest.raises(DefectError, match="opaque"):
            write(tmp_path / "b", world)


@pytest.fixture(scope="module")
def spz_reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spz_reader")
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    npm = shutil.which("npm")
    assert npm is not None
    subprocess.run(
        [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--silent", SPZ_READER], cwd=folder, check=True
    )
    (folder / "read.mjs").write_text(READ_SPZ)
    return folder


def read_by_niantic(reader: Path, path: Path, axes: str) -> tuple[Gaussians, bool]:
    """The world, and whether it is meant for antialiased rendering."""
    node = shutil.which("node")
    assert node is not None
    done = subprocess.run([node, "read.mjs", str(path), axes], cwd=reader, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout.splitlines()[-1])  # what the reader says of the file comes first
    count, coefficients = found["count"], (found["degree"] + 1) ** 2
    colours = np.array(found["colors"]).reshape(count, 1, 3)
    world = Gaussians(
        np.array(found["positions"]).reshape(count, 3),
        np.array(found["scales"]).reshape(count, 3),
        np.roll(np.array(found["rotations"]).reshape(count, 4), 1, axis=1),
        np.array([math.inf if one is None else one for one in found["alphas"]]),
        np.concatenate([colours, np.array(found["sh"]).reshape(count, coefficients - 1, 3)], axis=1),
    )
    return world, found["antialiased"]


@needs_gsply
@pytest.mark.slow
@pytest.mark.requires_part("npm")
@pytest.mark.parametrize("coefficients", [1, 4, 9, 16])
@pytest.mark.parametrize(("axes", "turn"), [("RUB", np.eye(3)), ("RDF", VIEWER_ROTATION)])
def test_niantics_own_reader_finds_the_world(
    tmp_path: Path, spz_reader: Path, coefficients: int, axes: str, turn: np.ndarray
) -> None:
    """Asked for right, up, backward it gives the scene frame; asked for right, down, forward that of the viewers."""
    world = a_world(300, coefficients)
    write_spz(tmp_path / "a.spz", world, antialiased=axes == "RUB")
    found, antialiased = read_by_niantic(spz_reader, tmp_path / "a.spz", axes)
    assert antialiased == (axes == "RUB")
    expected = world.rotated(turn)
    rows = matched(expected, found.means)
    assert len(rows) == (opacity(world.opacity_logits) >= LEAST_OPACITY).sum()
    assert np.abs(found.means - expected.means[rows]).max() < 0.51 / 4096
    assert np.abs(found.log_scales - expected.log_scales[rows]).max() < 0.51 / 16
    assert np.abs(opacity(found.opacity_logits) - opacity(expected.opacity_logits[rows])).max() < 0.51 / 255
    assert angles(found.quaternions, expected.quaternions[rows]).max() < 0.3
    assert np.abs(found.sh[:, 0] - expected.sh[rows, 0]).max() < 0.51 / (0.15 * 255)
    if coefficients > 1:
        assert np.abs(found.sh[:, 1:] - expected.sh[rows, 1:]).max() < 0.51 / 128


# --- both


@needs_gsply
def test_the_smaller_files_are_those_asked_for_each_in_its_frame(tmp_path: Path) -> None:
    spz, compressed = tmp_path / "splat.spz", tmp_path / "splat.compressed.ply"
    world = a_world()
    assert export_smaller(spz, compressed, world, ()) == {}
    assert list(tmp_path.iterdir()) == []
    said = export_smaller(spz, compressed, world, ("compressed-ply", "spz"))
    assert {name: facts["bytes"] for name, facts in said.items()} == {
        path.name: path.stat().st_size for path in (spz, compressed)
    }
    assert unpack_compressed_ply(compressed.read_bytes()).means.mean(axis=0) == pytest.approx(
        (formats._shown(world).means * [1, -1, -1]).mean(axis=0), abs=0.02
    )
    data = gzip.decompress(spz.read_bytes())
    raw = np.frombuffer(data, "u1", 9 * said["splat.spz"]["gaussians"], 16).reshape(-1, 3).astype(int)
    values = raw[:, 0] + (raw[:, 1] << 8) + (raw[:, 2] << 16)
    places = (np.where(values >= 2**23, values - 2**24, values) / 4096).reshape(-1, 3)
    np.testing.assert_allclose(places, formats._shown(world).means, atol=0.51 / 4096)


def test_without_the_package_only_ply_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    require_formats(())
    require_formats(("ply",))
    with pytest.raises(UserError, match=r"compressed-ply and spz .* gsply .*worldexplorer\[exports\]"):
        require_formats(("compressed-ply", "spz"))
