"""Which paths a data set may use: all on its owner's machine, only its own files where it is confined."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worldexplorer.dataset import load_dataset, resolve_jobs
from worldexplorer.dataset.paths import PathRules
from worldexplorer.errors import UsageError

INSIDE = "What to do: copy what it needs into the data set, and name it by a path relative to the data set"
OUTSIDE = "leads out of the data set"


@pytest.fixture
def world(tmp_path):
    """A data set beside a folder that it has no business in."""
    for name in ("set/photos/a.png", "set/views/000.png", "private/key.png", "private/views/000.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path


def load(world, *samples, confine_paths):
    document = {"samples": [{"index": index, **fields} for index, fields in enumerate(samples)]}
    (world / "set" / "metadata.json").write_text(json.dumps(document))
    return load_dataset(world / "set", confine_paths)


def refusal(world, *samples):
    with pytest.raises(UsageError) as caught:
        load(world, *samples, confine_paths=True)
    return str(caught.value)


def leaving_paths(world):
    """Paths that end in the private folder, each by another way."""
    (world / "set" / "link.png").symlink_to("../private/key.png")
    (world / "set" / "folder").symlink_to(world / "private")
    (world / "set" / "chain").symlink_to("folder")
    return [
        "../private/key.png",
        "photos/../../private/key.png",
        str(world / "private" / "key.png"),
        "link.png",
        "folder/key.png",
        "chain/key.png",
        "folder/../private/key.png",
    ]


def test_the_owner_may_use_any_path(world):
    paths = leaving_paths(world)
    found = resolve_jobs(load(world, *({"stylized": {"path": path}} for path in paths), confine_paths=False))
    assert [job.image.resolve() for job in found.jobs] == [world / "private" / "key.png"] * len(paths)


def test_a_confined_data_set_keeps_to_itself(world):
    paths = leaving_paths(world)
    for path in paths:
        assert refusal(world, {"stylized": {"original_path": path}}) == (
            f"samples[0].stylized.original_path {OUTSIDE}: {json.dumps(path)} "
            f"({world / 'set' / 'metadata.json'}). {INSIDE}"
        )
    lines = refusal(world, *({"stylized": {"path": path}} for path in paths)).splitlines()
    assert lines[0] == f"metadata.json has {len(paths)} problems:"
    assert [line.strip() for line in lines[1:-1]] == [
        f"samples[{k}].stylized.path {OUTSIDE}: {json.dumps(path)}" for k, path in enumerate(paths)
    ]


@pytest.mark.parametrize(
    "path", ["gs://bucket/a.png", "https://example.org/a.png", "file:/etc/passwd", "data:image/png;base64,AA", "S3://a"]
)
def test_a_confined_data_set_names_no_urls(world, path):
    assert refusal(world, {"photorealistic": {"path": path}}) == (
        f"samples[0].photorealistic.path is a URL, and only files of the data set may be named: {json.dumps(path)} "
        f"({world / 'set' / 'metadata.json'}). {INSIDE}"
    )


def test_every_kind_of_path_is_confined(world):
    out = "../private/key.png"
    text = refusal(
        world,
        {"photorealistic": {"original_path": "photos/a.png", "path": out, "filename": "../" + out}},
        {"stylized": {"scaffold_path": "../private/views"}},
        {"scaffold": {"scaffold_path": "../private/views", "input_image": out}},
    )
    assert [line.split(" leads")[0].strip() for line in text.splitlines()[1:-1]] == [
        "samples[0].photorealistic.path",
        "samples[0].photorealistic.filename",
        "samples[1].stylized.scaffold_path",
        "samples[2].scaffold.input_image",
        "samples[2].scaffold.scaffold_path",
    ]


def test_paths_that_stay_inside_are_fine_however_they_go(world):
    folder = world / "set"
    (folder / "inner.png").symlink_to("photos/a.png")
    (folder / "loop").symlink_to(folder)
    paths = [
        "photos/a.png",
        "./photos//a.png",
        "photos/../photos/a.png",
        str(folder / "photos" / "a.png"),
        "inner.png",
        "loop/loop/photos/a.png",
        "../set/photos/a.png",
    ]
    found = resolve_jobs(load(world, *({"stylized": {"path": path}} for path in paths), confine_paths=True))
    assert [job.image for job in found.jobs] == [folder / "photos" / "a.png"] * len(paths)


def test_a_folder_whose_name_begins_alike_is_outside(world):
    (world / "set2").mkdir()
    (world / "set2" / "a.png").write_bytes(b"x")
    assert f"samples[0].stylized.path {OUTSIDE}" in refusal(world, {"stylized": {"path": "../set2/a.png"}})


def test_the_data_set_itself_may_be_a_link(world):
    (world / "alias").symlink_to("set")
    load(world, {"stylized": {"path": "photos/a.png"}}, confine_paths=False)
    found = resolve_jobs(load_dataset(world / "alias", confine_paths=True))
    assert [job.image for job in found.jobs] == [world / "set" / "photos" / "a.png"]


def test_links_inside_a_scaffold_may_not_leave(world):
    sample = {"stylized": {"scaffold_path": "views"}}
    load(world, sample, confine_paths=True)
    (world / "set" / "views" / "001.png").symlink_to(world / "private" / "key.png")
    assert refusal(world, sample) == (
        f'samples[0].stylized.scaffold_path holds the link 001.png, which {OUTSIDE}: "views" '
        f"({world / 'set' / 'metadata.json'}). {INSIDE}"
    )
    (world / "set" / "views" / "001.png").unlink()
    (world / "set" / "views" / "final").mkdir()
    (world / "set" / "views" / "final" / "002.png").symlink_to(world / "private" / "key.png")
    assert f"holds the link 002.png, which {OUTSIDE}" in refusal(world, sample)
    load(world, sample, confine_paths=False)


def test_fallback_images_may_not_leave(world):
    images = world / "set" / "images"
    images.mkdir()
    (images / "0.png").symlink_to(world / "private" / "key.png")
    assert refusal(world, {}) == (
        f'the folder of fallback images holds the link 0.png, which {OUTSIDE}: "images" '
        f"({world / 'set' / 'metadata.json'}). {INSIDE}"
    )
    (images / "0.png").unlink()
    images.rmdir()
    images.symlink_to(world / "private")
    assert f"the folder of fallback images {OUTSIDE}" in refusal(world, {})
    load(world, {"stylized": {"path": "photos/a.png"}}, confine_paths=True)  # needs no fallback


def test_the_metadata_itself_may_not_be_elsewhere(world):
    secret = world / "private" / "metadata.json"
    secret.write_text(json.dumps({"samples": [{"index": 0}]}))
    path = world / "set" / "metadata.json"
    path.symlink_to(secret)
    with pytest.raises(UsageError) as caught:
        load_dataset(world / "set", confine_paths=True)
    assert str(caught.value) == f"metadata.json {OUTSIDE} ({path}). {INSIDE}"
    assert load_dataset(world / "set", confine_paths=False).samples[0].index == 0


@given(st.lists(st.sampled_from(["..", ".", "photos", "back", "out", "a.png", "", "nowhere"]), min_size=1, max_size=6))
def test_a_confined_path_ends_where_the_kernel_says(tmp_path_factory, parts):
    root = tmp_path_factory.getbasetemp() / "kernel"
    if not root.exists():
        (root / "set" / "photos").mkdir(parents=True)
        (root / "set" / "photos" / "back").symlink_to("..")
        (root / "set" / "out").symlink_to("..")
    rules = PathRules(root / "set", confined=True)
    path = "/".join(parts) or "."
    real = os.path.realpath(root / "set" / path.lstrip("/") if not path.startswith("/") else path)
    inside = os.path.commonpath([real, root / "set"]) == str(root / "set")
    assert (rules.refusal(path) is None) == inside
    assert rules.locate(path) == real
