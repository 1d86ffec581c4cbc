"""Cutting a batch into runs: every job in exactly one, none too large, a sample's variants together."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from builders import write_dataset
from hypothesis import given
from hypothesis import strategies as st

from pipelines.split import JobCount, Part, count_jobs, plan_parts, ranges, split_samples
from worldexplorer.errors import UsageError
from worldexplorer.selection import IndexSelection

JOBS = st.dictionaries(st.integers(0, 400), st.integers(0, 2), min_size=1, max_size=80)


@given(jobs=JOBS, others=st.sets(st.integers(0, 400), max_size=40), limit=st.integers(2, 9))
def test_every_sample_is_in_exactly_one_run(jobs: dict[int, int], others: set[int], limit: int) -> None:
    existing = sorted(set(jobs) | others)
    parts = split_samples(jobs, limit, existing)
    seen: list[int] = []
    for part in parts:
        selection = IndexSelection.parse([part.indices])
        selection.require(existing, where="test")  # each range must match something, or planning refuses it
        chosen = [index for index in existing if selection.contains(index)]
        assert sum(jobs[index] for index in chosen) == part.jobs
        assert part.jobs is not None
        assert part.jobs <= limit
        seen += chosen
    assert seen == sorted(jobs)  # ascending over the runs too: the ranges are contiguous


@given(jobs=JOBS, limit=st.integers(2, 9))
def test_no_two_neighbouring_runs_would_fit_into_one(jobs: dict[int, int], limit: int) -> None:
    counts = [part.jobs or 0 for part in split_samples(jobs, limit, sorted(jobs))]
    assert all(one + two > limit for one, two in pairwise(counts))


def test_ranges_leap_over_samples_that_are_not_there_but_not_over_those_left_out() -> None:
    assert ranges([3, 7, 9], existing=[3, 7, 9, 12]) == "3-9"
    assert ranges([3, 9], existing=[3, 7, 9, 12]) == "3 9"


def test_variants_of_a_sample_stay_together() -> None:
    assert [part.indices for part in split_samples({0: 2, 1: 1, 2: 2}, 2, [0, 1, 2])] == ["0", "1", "2"]
    with pytest.raises(UsageError, match="give at least 2"):
        split_samples({0: 1, 1: 2}, 1, [0, 1])


def test_what_fits_into_one_run_keeps_the_words_of_the_command() -> None:
    count = JobCount({0: 1, 1: 1}, existing=[0, 1, 2])
    assert plan_parts(count, "0:1", limit=2) == [Part("0:1", 2)]
    assert [part.indices for part in plan_parts(count, "0:1", limit=1)] == ["0", "1"]


def test_counting_counts_what_planning_would(tmp_path: Path) -> None:
    write_dataset(
        tmp_path,
        [
            {"index": 4, "photorealistic": {"path": "a.png"}, "stylized": {"path": "b.png"}},
            {"index": 7, "photorealistic": {"path": "a.png"}},
            {"index": 9, "stylized": {"original_path": "missing.png"}},
        ],
    )
    count = count_jobs(str(tmp_path), "")
    assert count.jobs == {4: 2, 7: 1, 9: 0}
    assert count.total == 3
    assert any("samples without any job: 9" in line for line in count.warnings)
    assert count_jobs(str(tmp_path), "5-8").jobs == {7: 1}


def test_a_data_set_with_a_mistake_is_reported_as_such(tmp_path: Path) -> None:
    (tmp_path / "metadata.json").write_text("{")
    with pytest.raises(UsageError, match="is not JSON"):
        count_jobs(str(tmp_path), "")


def test_paths_that_lead_out_are_refused_here_as_they_are_in_pods(tmp_path: Path) -> None:
    write_dataset(tmp_path, [{"index": 0, "photorealistic": {"original_path": "../secret.png"}}])
    with pytest.raises(UsageError, match="leads out"):
        count_jobs(str(tmp_path), "")


@pytest.mark.parametrize("place", ["/nowhere/at/all", "s3://bucket/set"])
def test_what_cannot_be_read_from_here_names_the_way_round(place: str) -> None:
    with pytest.raises(UsageError, match="--no_split"):
        count_jobs(place, "")
