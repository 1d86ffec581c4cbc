from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from worldexplorer.cli.signals import STOPPING_SIGNALS, exit_code_of, stop_on_signals

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).parent / "slow_batch.py"


@pytest.mark.parametrize("number", STOPPING_SIGNALS)
def test_the_first_signal_interrupts_and_later_ones_do_not(number):
    before = [signal.getsignal(one) for one in STOPPING_SIGNALS]
    with stop_on_signals():
        with pytest.raises(KeyboardInterrupt) as interrupt:
            signal.raise_signal(number)
        for later in STOPPING_SIGNALS:
            signal.raise_signal(later)
    assert interrupt.value.args == (number,)
    assert [signal.getsignal(one) for one in STOPPING_SIGNALS] == before


def test_a_signal_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signals():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_exit_codes_are_those_of_a_shell():
    assert (exit_code_of(signal.SIGINT), exit_code_of(signal.SIGTERM)) == (130, 143)


@pytest.fixture
def dataset(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    Image.radial_gradient("L").resize((96, 64)).save(folder / "a.png")
    samples = [{"index": index, "photorealistic": {"path": "a.png"}} for index in range(3)]
    (folder / "metadata.json").write_text(json.dumps({"samples": samples}))
    return folder


class Batch:
    """`worldexplorer batch` in a process group of its own, as a shell starts it, with an engine that takes its time."""

    def __init__(self, dataset: Path, moment: str) -> None:
        self.output = dataset.parent / "out"
        self.reached = dataset.parent / "reached"
        self._shown = dataset.parent / "stdout"
        self._errors = dataset.parent / "stderr"
        words = ["--dataset_dir", dataset, "--output_base", self.output, "--engine", "preview"]
        with self._shown.open("w") as stdout, self._errors.open("w") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, PROGRAM, moment, self.reached, *words],
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
            )

    def wait_for_the_moment(self) -> None:
        while not self.reached.exists():
            assert self.process.poll() is None, self._errors.read_text()
            time.sleep(0.02)

    def end(self) -> tuple[int, list[dict], str]:
        returned = self.process.wait()
        events = [json.loads(line) for line in self._shown.read_text().splitlines()]
        return returned, events, self._errors.read_text()

    def summary(self) -> dict:
        return json.loads((self.output / "batch_summary.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_batch_stopped_at_work_leaves_a_summary(dataset, number, code):
    batch = Batch(dataset, "sampling")
    batch.wait_for_the_moment()
    if number == signal.SIGINT:
        os.killpg(batch.process.pid, number)  # a terminal sends Ctrl-C to every process of the group
    else:
        batch.process.send_signal(number)
    returned, events, errors = batch.end()
    assert returned == code
    assert events[-1]["event"] == "summary"
    assert (events[-1]["interrupted"], events[-1]["skipped"]) == (True, 3)
    assert {entry["reason"] for entry in batch.summary()["results"]} == {"the run was interrupted"}
    assert "Traceback" not in errors


@pytest.mark.slow
def test_a_second_ctrl_c_does_not_lose_the_summary(dataset):
    batch = Batch(dataset, "summary")
    batch.wait_for_the_moment()
    os.killpg(batch.process.pid, signal.SIGINT)  # the first: all jobs are done, their summary is being written
    time.sleep(0.2)
    os.killpg(batch.process.pid, signal.SIGINT)
    os.killpg(batch.process.pid, signal.SIGTERM)
    returned, events, errors = batch.end()
    assert returned == 130
    assert (events[-1]["event"], events[-1]["interrupted"], events[-1]["success"]) == ("summary", True, 3)
    assert batch.summary()["success"] == 3
    assert "Traceback" not in errors
