from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worldexplorer.cli.estimate import TimeLeft, clock_text, duration_text
from worldexplorer.events import JobFinished, StageFinished, StageProgress
from worldexplorer.layout import JobId

STAGES = ("scaffold", "trajectory", "splat")
WEIGHTS = (1.0, 3.0, 6.0)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def job(index: int) -> JobId:
    return JobId(index, "default")


def estimator(jobs: int, workers: int = 1) -> tuple[TimeLeft, Clock]:
    clock = Clock()
    return TimeLeft({job(i): STAGES for i in range(jobs)}, weights=WEIGHTS, workers=workers, clock=clock), clock


def progress(index: int, stage: str, share: float) -> StageProgress:
    return StageProgress(job(index), stage, round(1000 * share), 1000, "work")


def finished(index: int, stage: str, seconds: float, reused: bool = False) -> StageFinished:
    return StageFinished(job(index), stage, reused, seconds, {})


def test_nothing_is_claimed_before_anything_is_measured():
    left, clock = estimator(2)
    assert left.seconds() is None
    left.hear(progress(0, "scaffold", 0.01))
    clock.now += 60
    left.hear(progress(0, "scaffold", 0.02))  # too little to tell from
    assert left.seconds() is None
    assert left.job_seconds(job(0)) is None


def test_a_stage_under_way_is_projected_from_its_own_speed():
    left, clock = estimator(1)
    left.hear(progress(0, "scaffold", 0.0))
    clock.now += 5
    left.hear(progress(0, "scaffold", 0.5))
    # The scaffold takes 10 s; the others, three and six times its share, 30 and 60.
    assert left.seconds() == pytest.approx(5 + 30 + 60)
    assert left.job_seconds(job(0)) == pytest.approx(95)


def test_a_finished_stage_is_expected_to_take_as_long_again():
    left, clock = estimator(2)
    for stage, seconds in zip(STAGES, (10.0, 20.0, 15.0), strict=True):
        left.hear(progress(0, stage, 0.0))
        clock.now += seconds
        left.hear(finished(0, stage, seconds))
    left.hear(JobFinished(job(0), None))
    assert left.seconds() == pytest.approx(45)
    left.hear(progress(1, "scaffold", 0.0))
    clock.now += 1
    left.hear(progress(1, "scaffold", 0.5))
    assert left.seconds() == pytest.approx(5 + 20 + 15), "one second is too short to project from"


def test_workers_share_the_work_but_no_job_is_faster_than_its_own_pace():
    left, clock = estimator(4, workers=2)
    for index in (0, 1):
        left.hear(progress(index, "scaffold", 0.0))
    clock.now += 10
    for index in (0, 1):
        left.hear(finished(index, "scaffold", 10.0))
        left.hear(progress(index, "trajectory", 0.0))
    # By share: two jobs have 90 s each left, two have 100 s.
    assert left.seconds() == pytest.approx((90 + 90 + 100 + 100) / 2)
    for index in (1, 2, 3):
        left.hear(JobFinished(job(index), None))
    assert left.seconds() == pytest.approx(90)


def test_reused_stages_cost_nothing_and_tell_nothing():
    clock = Clock()
    left = TimeLeft({job(0): (), job(1): ("splat",)}, weights=WEIGHTS, workers=1, clock=clock)
    for stage in STAGES:
        left.hear(finished(0, stage, 1000.0, reused=True))
    left.hear(JobFinished(job(0), None))
    assert left.share() == 0.0
    assert left.seconds() is None
    left.hear(finished(1, "splat", 12.0))
    assert (left.share(), left.seconds()) == (1.0, 0.0)


def test_a_failed_job_leaves_nothing_to_do():
    left, _clock = estimator(2)
    left.hear(finished(0, "scaffold", 10.0))
    left.hear(progress(0, "trajectory", 0.5))
    left.hear(JobFinished(job(0), None))
    assert left.seconds() == pytest.approx(100)
    assert left.share() == pytest.approx(0.5)


def test_a_new_try_starts_its_clock_again():
    left, clock = estimator(1)
    left.hear(progress(0, "scaffold", 0.0))
    clock.now += 90
    left.hear(progress(0, "scaffold", 0.9))
    left.hear(progress(0, "scaffold", 0.0))
    clock.now += 4
    left.hear(progress(0, "scaffold", 0.4))
    assert left.seconds() == pytest.approx(6 + 30 + 60)


def test_a_stage_that_was_not_planned_adds_to_the_work():
    clock = Clock()
    left = TimeLeft({job(0): ("scaffold",)}, weights=WEIGHTS, workers=1, clock=clock)
    left.hear(finished(0, "scaffold", 10.0))
    assert left.share() == 1.0
    left.hear(progress(0, "trajectory", 0.0))
    assert left.share() == pytest.approx(0.25)
    assert left.seconds() == pytest.approx(30)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3), st.sampled_from(STAGES), st.floats(0, 1), st.floats(0, 100), st.sampled_from("pfjr")
        ),
        max_size=40,
    )
)
def test_whatever_comes_the_answers_stay_within_bounds(steps):
    left, clock = estimator(3, workers=2)
    for index, stage, share, seconds, kind in steps:
        clock.now += seconds
        if kind == "p":
            left.hear(progress(index, stage, share))
        elif kind == "j":
            left.hear(JobFinished(job(index), None))
        else:
            left.hear(finished(index, stage, seconds, reused=kind == "r"))
        assert 0.0 <= left.share() <= 1.0
        remaining = left.seconds()
        assert remaining is None or remaining >= -1e-6
        assert (left.job_seconds(job(index)) or 0.0) >= -1e-6


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "--:--"), (0, "0:00"), (5.4, "0:05"), (65, "1:05"), (3599.6, "1:00:00")]
)
def test_clock_text(seconds, text):
    assert clock_text(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (59.94, "59.9 s"), (59.96, "1:00"), (75.2, "1:15"), (7300, "2:01:40")]
)
def test_duration_text(seconds, text):
    assert duration_text(seconds) == text
