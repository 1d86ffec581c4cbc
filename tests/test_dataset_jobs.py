"""From samples to jobs: what each variant starts from, and what is said where nothing is found."""

from __future__ import annotations

import json
import os

import pytest

from worldexplorer.dataset import (
    ExpansionOverrides,
    Job,
    ScaffoldOverrides,
    SkippedVariant,
    load_dataset,
    require_jobs,
    resolve_jobs,
)
from worldexplorer.errors import UsageError
from worldexplorer.layout import JobId
from worldexplorer.selection import IndexSelection

NOTHING = "it names no image, and there is none of images/{0}.*, images/index_{0:04d}.* (.png .jpg .jpeg .webp)"


@pytest.fixture
def find(tmp_path):
    """Write samples and the files they need, then resolve them."""

    def resolve(samples, files=(), indices=None, **options):
        for name in files:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"looked for, never opened")
        (tmp_path / "metadata.json").write_text(json.dumps({"samples": samples}))
        dataset = load_dataset(tmp_path, **{"confine_paths": False} | options)
        return resolve_jobs(dataset, None if indices is None else IndexSelection.parse(indices))

    return resolve


def starts(found, folder):
    """(index, variant, image, scaffold) of each job, relative to the data set."""
    return [
        (
            job.index,
            job.variant,
            job.image and str(job.image.relative_to(folder)),
            job.scaffold_path and str(job.scaffold_path.relative_to(folder)),
        )
        for job in found.jobs
    ]


def test_a_job_carries_all_that_its_sample_says(find, tmp_path):
    found = find(
        [
            {
                "index": 12,
                "scene_type": "outdoor",
                "category": "temple",
                "theme": "",
                "stylized": {"path": "a.png"},
                "scaffold": {"mode": "fast", "custom": True, "prompts": ["n", "w", "s", "e"]},
                "expansion": {
                    "translation_scaling_factor": 4,
                    "trajectory_order": "up in",
                    "num_images_for_vggt": 9,
                },
            }
        ],
        ["a.png"],
    )
    assert found.jobs == (
        Job(
            index=12,
            variant="stylized",
            image=tmp_path / "a.png",
            scaffold_path=None,
            scene_type="outdoor",
            category="temple",
            theme=None,
            scaffold=ScaffoldOverrides("fast", True, ("n", "w", "s", "e")),
            expansion=ExpansionOverrides(4.0, ("up", "in"), 9),
        ),
    )
    assert found.jobs[0].id == JobId(12, "stylized")
    assert found.skipped == () and found.warnings == ()


def test_what_a_sample_does_not_say_is_none(find):
    job = find([{"index": 1}], ["images/1.png"]).jobs[0]
    assert (job.scene_type, job.category, job.theme) == (None, None, None)
    assert job.scaffold == ScaffoldOverrides(None, None, None)
    assert job.expansion == ExpansionOverrides(None, None, None)


def test_the_order_is_by_index_then_photorealistic_stylized(find, tmp_path):
    both = {"stylized": {"path": "s.png"}, "photorealistic": {"path": "p.png"}}
    found = find([{"index": 10, **both}, {"index": 2, **both}, {"index": 3}], ["s.png", "p.png", "images/3.png"])
    assert starts(found, tmp_path) == [
        (2, "photorealistic", "p.png", None),
        (2, "stylized", "s.png", None),
        (3, "default", "images/3.png", None),
        (10, "photorealistic", "p.png", None),
        (10, "stylized", "s.png", None),
    ]


def test_a_file_name_lies_in_the_variants_folder(find, tmp_path):
    found = find([{"index": 0, "stylized": {"filename": "0.png"}}], ["stylized/0.png", "0.png"])
    assert starts(found, tmp_path) == [(0, "stylized", "stylized/0.png", None)]


def test_the_first_path_that_exists_is_taken_and_the_others_are_named(find, tmp_path):
    entry = {"original_path": "/gone/{}.png", "path": "gone/{}.png", "filename": "{}.png"}
    samples = [{"index": k, "photorealistic": {key: path.format(k) for key, path in entry.items()}} for k in (0, 1)]
    found = find(samples, ["photorealistic/0.png", "photorealistic/1.png"])
    assert starts(found, tmp_path) == [(k, "photorealistic", f"photorealistic/{k}.png", None) for k in (0, 1)]
    assert found.warnings == (
        "original_path names no file that can be read, filename taken (2 times, first at sample 0, photorealistic)",
        "path names no file that can be read, filename taken (2 times, first at sample 0, photorealistic)",
    )
    precedence = find(samples[:1], ["gone/0.png"])
    assert starts(precedence, tmp_path) == [(0, "photorealistic", "gone/0.png", None)]


def test_a_variant_without_its_image_is_skipped_and_its_sibling_is_not(find, tmp_path):
    (tmp_path / "folder.png").mkdir()
    found = find(
        [
            {"index": 4, "photorealistic": {"original_path": "gone.png"}, "stylized": {"path": "there.png"}},
            {"index": 5, "photorealistic": {"path": "folder.png", "filename": "x"}},
            {"index": 6, "photorealistic": {"path": "https://example.org/x.png"}},
            {"index": 7, "photorealistic": {"path": "there.png/below.png"}},
        ],
        ["there.png", "images/5.png"],
    )
    assert starts(found, tmp_path) == [(4, "stylized", "there.png", None)]
    assert found.skipped == (
        SkippedVariant(4, "photorealistic", 'original_path "gone.png": it does not exist'),
        SkippedVariant(
            5,
            "photorealistic",
            'path "folder.png": it is not a file; filename "photorealistic/x": it does not exist',
        ),
        SkippedVariant(
            6,
            "photorealistic",
            'path "https://example.org/x.png": it does not exist; '
            "URLs are not fetched, download the image into the data set",
        ),
        SkippedVariant(7, "photorealistic", 'path "there.png/below.png": it does not exist'),
    )
    assert found.warnings == ("samples without any job: 5-7",)


@pytest.mark.parametrize(
    ("files", "image"),
    [
        (["images/7.png"], "images/7.png"),
        (["images/7.JPG"], "images/7.JPG"),
        (["images/7.jpeg"], "images/7.jpeg"),
        (["images/7.WebP"], "images/7.WebP"),
        (["images/index_0007.png"], "images/index_0007.png"),
        (["images/INDEX_0007.png"], "images/INDEX_0007.png"),
    ],
)
def test_fallback_images_are_found_by_index(find, tmp_path, files, image):
    found = find([{"index": 7}], files)
    assert starts(found, tmp_path) == [(7, "default", image, None)]
    assert found.warnings == ()


def test_several_fallback_images_have_an_order_and_a_warning(find, tmp_path):
    names = ["images/7.webp", "images/7.jpeg", "images/index_0007.png", "images/7.JPG"]
    found = find([{"index": 7}], names)
    assert starts(found, tmp_path) == [(7, "default", "images/7.JPG", None)]
    assert found.warnings == (
        (
            "several images in images/ for one sample, the first taken "
            "(at sample 7: 7.JPG, 7.jpeg, 7.webp, index_0007.png)"
        ),
    )


def test_files_of_other_kinds_and_other_indices_are_no_fallback(find, tmp_path):
    (tmp_path / "images" / "7.png").mkdir(parents=True)
    found = find([{"index": 7}, {"index": 70}], ["images/7.txt", "images/07.png", "images/index_7.png"])
    assert found.jobs == ()
    assert found.skipped == tuple(SkippedVariant(k, "default", NOTHING.format(k)) for k in (7, 70))
    assert found.warnings == ("samples without any job: 7 70",)


def test_the_named_input_image_comes_before_the_folder(find, tmp_path):
    samples = [{"index": 0, "scaffold": {"input_image": "in.png"}}]
    assert starts(find(samples, ["in.png", "images/0.png"]), tmp_path) == [(0, "default", "in.png", None)]
    (tmp_path / "in.png").unlink()
    found = find(samples)
    assert starts(found, tmp_path) == [(0, "default", "images/0.png", None)]
    assert found.warnings == (
        "scaffold.input_image names no file that can be read, image in images/ taken (at sample 0)",
    )


def test_a_variant_without_paths_leaves_the_fallback(find, tmp_path):
    found = find([{"index": 0, "stylized": {}}], ["images/0.png"])
    assert starts(found, tmp_path) == [(0, "default", "images/0.png", None)]


def test_the_folder_is_listed_once(find, tmp_path, monkeypatch):
    listed = []
    scandir = os.scandir

    def counted(path):
        listed.append(str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", counted)
    found = find([{"index": k} for k in range(40)], [f"images/{k}.png" for k in range(40)])
    assert len(found.jobs) == 40
    assert listed == [str(tmp_path / "images")]


def test_a_finished_scaffold_makes_a_default_job_or_its_variants(find, tmp_path):
    found = find(
        [
            {"index": 0, "scaffold": {"scaffold_path": "scaffolds/a"}},
            {"index": 1, "photorealistic": {"path": "p.png", "scaffold_path": "scaffolds/a"}},
            {"index": 2, "stylized": {"scaffold_path": "scaffolds/a"}, "photorealistic": {"path": "p.png"}},
            {"index": 3, "scaffold": {"scaffold_path": "scaffolds/a", "input_image": "p.png"}},
        ],
        ["scaffolds/a/000.png", "p.png", "images/0.png"],
    )
    assert starts(found, tmp_path) == [
        (0, "default", None, "scaffolds/a"),
        (1, "photorealistic", "p.png", "scaffolds/a"),
        (2, "photorealistic", "p.png", None),
        (2, "stylized", None, "scaffolds/a"),
        (3, "default", "p.png", "scaffolds/a"),
    ]


def test_a_scaffold_that_is_not_there_is_skipped(find):
    found = find(
        [
            {"index": 0, "scaffold": {"scaffold_path": "gone"}},
            {"index": 1, "stylized": {"scaffold_path": "p.png"}},
            {"index": 2, "stylized": {"scaffold_path": "images", "path": "gone.png"}},
        ],
        ["p.png", "images/0.png"],
    )
    assert found.jobs == ()
    assert found.skipped == (
        SkippedVariant(0, "default", 'scaffold_path "gone": it does not exist'),
        SkippedVariant(1, "stylized", 'scaffold_path "p.png": it is not a folder'),
        SkippedVariant(2, "stylized", 'path "gone.png": it does not exist'),
    )


def test_only_what_is_selected_is_looked_for(find):
    samples = [{"index": k} for k in (0, 3, 4, 9)]
    files = ["images/0.png", "images/3.png", "images/4.png"]
    found = find(samples, files, indices=["2-4"])
    assert [job.index for job in found.jobs] == [3, 4]
    assert found.skipped == ()


def test_selecting_what_does_not_exist_is_an_error(find, tmp_path):
    with pytest.raises(UsageError) as caught:
        find([{"index": k} for k in (0, 1, 2, 9)], indices=["0-5", "7", "20:30"])
    assert str(caught.value) == (
        f"no such index: 7 20:30 (--indices, {tmp_path / 'metadata.json'}). "
        "What to do: choose among the indices of the data set: 0-2 9"
    )


def test_no_jobs_to_run(find, tmp_path):
    found = find([{"index": 3, "stylized": {"path": "gone.png"}}, {"index": 4}])
    dataset = load_dataset(tmp_path, False)
    with pytest.raises(UsageError) as caught:
        require_jobs(found, dataset)
    assert str(caught.value) == (
        "No jobs to run: nothing to start from was found for any of 2 variants, the first being sample 3, stylized: "
        f'path "gone.png": it does not exist ({tmp_path / "metadata.json"}). '
        "What to do: give each sample at least one image that exists: as photorealistic.original_path or "
        "stylized.original_path (or path), as scaffold.input_image, or as a file in the data set's folder images/ "
        "named after the index, such as images/0.png"
    )
    require_jobs(find([{"index": 4}], ["images/4.png"]), dataset)


def test_text_alone_is_a_job_where_views_are_made_from_text(find, tmp_path):
    samples = [{"index": 0, "theme": "castle"}, {"index": 1}, {"index": 2, "stylized": {"path": "gone.png"}}]
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.png").write_bytes(b"looked for, never opened")
    assert [job.index for job in find(samples).jobs] == [1]
    found = resolve_jobs(load_dataset(tmp_path, confine_paths=False), from_text=True)
    assert starts(found, tmp_path) == [(0, "default", None, None), (1, "default", "images/1.png", None)]
    # A variant that names a picture is not made from something else without a word.
    assert [(one.index, one.variant) for one in found.skipped] == [(2, "stylized")]


@pytest.mark.slow
def test_ten_thousand_samples_are_all_planned(find):
    samples = [{"index": k, "photorealistic": {"path": f"p/{k % 50}.png"}, "author": "x"} for k in range(10_000)]
    found = find(samples, [f"p/{k}.png" for k in range(49)])
    assert len(found.jobs) == 9_800 and len(found.skipped) == 200
    assert [job.index for job in found.jobs] == [k for k in range(10_000) if k % 50 != 49]
