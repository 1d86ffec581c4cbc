"""How far a run is and how long it will still take.

The unit of work is a stage of a job, weighted by the engine's shares of a job's time. A stage that has been measured in
this run, whole or in part, is expected to take as long again; one that has not is expected to keep its share. Nothing
is known, and nothing is claimed, before some work has been measured.

Example:
    >>> left = TimeLeft({job: ("scaffold", "trajectory", "splat")}, weights=(1.0, 3.0, 6.0), workers=1)
    >>> left.hear(StageProgress(job, "scaffold", 1, 10, "layout"))
    >>> left.share(), left.seconds()
    (0.01, None)
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from worldexplorer.config import STAGE_NAMES
from worldexplorer.events import Event, JobFinished, StageFinished, StageProgress
from worldexplorer.layout import JobId

NO_ESTIMATE = "--:--"
_LEAST_SHARE = 0.05
_LEAST_SECONDS = 2.0


@dataclass
class _Running:
    """A stage under way: when it began and how far it is, from 0 to 1."""

    stage: str
    began: float
    share: float = 0.0


@dataclass
class _Measured:
    """Whole durations of a stage, added up."""

    seconds: float = 0.0
    count: int = 0


class TimeLeft:
    """Follows a run through its events; an event costs the same in a run of ten jobs and of ten thousand.

    Args:
        work: the stages that are to run, by job; those that are only reused cost nothing.
        weights: the shares of a job's time by stage, in the order of the stages.
        workers: how many jobs run at the same time.
        clock: seconds, never going back.
    """

    def __init__(
        self,
        work: Mapping[JobId, Sequence[str]],
        *,
        weights: Sequence[float],
        workers: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._left = {job: list(stages) for job, stages in work.items()}
        self._counts = Counter(stage for stages in work.values() for stage in stages)
        self._weights = dict(zip(STAGE_NAMES.values(), weights, strict=True))
        self._total = self._weight(self._counts)
        self._workers = workers
        self._clock = clock
        self._running: dict[JobId, _Running] = {}
        self._measured: dict[str, _Measured] = {}

    def hear(self, event: Event) -> None:
        """Take one event in."""
        if isinstance(event, StageProgress):
            self._progress(event)
        elif isinstance(event, StageFinished):
            self._running.pop(event.job, None)
            self._strike(event.job, [event.stage])
            if not event.reused:
                measured = self._measured.setdefault(event.stage, _Measured())
                measured.seconds += event.seconds
                measured.count += 1
        elif isinstance(event, JobFinished):
            self._running.pop(event.job, None)
            self._strike(event.job, list(self._left.get(event.job, ())))

    def share(self) -> float:
        """How much of the run is done, from 0 to 1."""
        if not self._total:
            return 1.0
        begun = sum(self._weights[running.stage] * running.share for running in self._running.values())
        return min(max(1.0 - (self._weight(self._counts) - begun) / self._total, 0.0), 1.0)

    def seconds(self) -> float | None:
        """Seconds left of the run; None while nothing is measured."""
        expected = self._expected()
        if expected is None:
            return None
        whole = sum(expected[stage] * count for stage, count in self._counts.items())
        jobs = [(job, self._job_seconds(job, expected)) for job in self._running]
        saved = sum(expected[stage] for job, _ in jobs for stage in self._left[job]) - sum(left for _, left in jobs)
        return max((whole - saved) / self._workers, max((left for _, left in jobs), default=0.0))

    def job_seconds(self, job: JobId) -> float | None:
        """Seconds left of one job; None while nothing is measured."""
        expected = self._expected()
        return None if expected is None else self._job_seconds(job, expected)

    def _job_seconds(self, job: JobId, expected: Mapping[str, float]) -> float:
        running = self._running.get(job)
        seconds = sum(expected[stage] for stage in self._left.get(job, ()))
        if running is not None:
            seconds -= expected[running.stage]
            seconds += (self._projected(running) or expected[running.stage]) * (1.0 - running.share)
        return seconds

    def _progress(self, event: StageProgress) -> None:
        share = min(max(event.done / event.total, 0.0), 1.0) if event.total else 0.0
        running = self._running.get(event.job)
        if running is None or running.stage != event.stage or share < running.share:
            # A first sign of the stage, or a new try at it: what went before says nothing about its speed.
            running = self._running[event.job] = _Running(event.stage, self._clock())
            if event.stage not in self._left.setdefault(event.job, []):
                self._left[event.job].append(event.stage)
                self._counts[event.stage] += 1
                self._total += self._weights[event.stage]
        running.share = share

    def _strike(self, job: JobId, stages: Sequence[str]) -> None:
        left = self._left.setdefault(job, [])
        for stage in stages:
            if stage in left:
                left.remove(stage)
                self._counts[stage] -= 1

    def _weight(self, counts: Mapping[str, int]) -> float:
        return sum(self._weights[stage] * count for stage, count in counts.items())

    def _projected(self, running: _Running) -> float | None:
        """The whole duration of a stage under way, from how far it came in its time."""
        spent = self._clock() - running.began
        return spent / running.share if running.share >= _LEAST_SHARE and spent >= _LEAST_SECONDS else None

    def _expected(self) -> dict[str, float] | None:
        """The whole duration of every stage: measured, or in proportion to what is; None while nothing is."""
        known = {stage: one.seconds / one.count for stage, one in self._measured.items()}
        for running in self._running.values():
            projected = self._projected(running)
            if projected is not None:
                known.setdefault(running.stage, projected)
        weight = sum(self._weights[stage] for stage in known)
        if not weight:
            return None
        pace = sum(known.values()) / weight
        return {stage: known.get(stage, pace * share) for stage, share in self._weights.items()}


def duration_text(seconds: float) -> str:
    """How long something took: `4.2 s` under a minute, then as a clock."""
    return clock_text(seconds) if round(seconds, 1) >= 60 else f"{seconds:.1f} s"


def clock_text(seconds: float | None) -> str:
    """`1:05` or `2:00:00`; `--:--` for None."""
    if seconds is None:
        return NO_ESTIMATE
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
