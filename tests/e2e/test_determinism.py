"""The same seed gives the same bytes, however many processes and threads there are; another seed gives others."""

from __future__ import annotations

import pytest
from builders import canonical_tree
from e2e.program import Program

pytestmark = pytest.mark.slow


def job_files(program: Program, index: int) -> dict[str, object]:
    folder = f"photorealistic/index_{index:04d}/"
    return {name: content for name, content in canonical_tree(program.output).items() if name.startswith(folder)}


def differing(one: dict[str, object], other: dict[str, object]) -> list[str]:
    return [name for name in sorted(one.keys() | other.keys()) if one.get(name) != other.get(name)]


def test_two_processes_of_one_thread_make_the_bytes_of_one_process_of_two(reference, dataset, tmp_path):
    program = Program(tmp_path)
    done = program.succeed("--dataset_dir", dataset, "--indices", "0-1", "--workers", "2", NUMBA_NUM_THREADS="1")
    expected = canonical_tree(reference.output)
    found = canonical_tree(program.output)
    assert differing(expected, found) == []
    names = list(expected)
    for ending in ("splat/splat.ply", "splat/splat_rotated.ply", "img2trajvid/transforms.json", "vggt_pcl.ply"):
        assert sum(name.endswith(ending) for name in names) == 2
    assert sum(name.endswith(".png") for name in names) > 2 * 130
    # Both jobs began before either ended, so they were at work at the same time.
    kinds = [event["event"] for event in done.events if event["event"] in ("job_started", "job_finished")]
    assert kinds == ["job_started", "job_started", "job_finished", "job_finished"]


def test_another_seed_gives_another_world_of_the_same_photo(reference, dataset, tmp_path):
    program = Program(tmp_path)
    program.succeed("--dataset_dir", dataset, "--indices", "0", "--seed", "7")
    before, after = job_files(reference, 0), job_files(program, 0)
    assert before.keys() == after.keys()
    assert program.record("splat")["seed"] == 7
    changed = {name.removeprefix("photorealistic/index_0000/") for name in differing(before, after)}
    assert {"splat/splat.ply", "splat/splat_rotated.ply", "scaffold/final/004.png"} <= changed
    # View 000 is the photo, whatever the seed, and so are the cameras.
    assert "scaffold/final/000.png" not in changed
    assert "scenes/index_0000_10.0/img2trajvid/transforms.json" not in changed
