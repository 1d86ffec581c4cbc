"""How long the same command takes again over a batch that is finished: planning, reporting, summary.

One job is made on the engine of the tests, all three stages; the others are copies of it under their own names. Every
record names some 200 files. Nothing is computed a second time, and the benchmark fails if it were.

Example:
    python benchmarks/resume.py --jobs 1000
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from builders import STAGES, Workbench, photo_sample, write_dataset
from tiny_engine import TinyEngine

from worldexplorer import layout
from worldexplorer.batch import prepare_batch, run_batch
from worldexplorer.layout import JobId
from worldexplorer.records import InputEntry, StageRecord

PHOTO = "photo.png"


def main() -> None:
    """Make the batch, resume it, print seconds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--jobs", type=int, default=1000)
    jobs = parser.parse_args().jobs
    console = Console()
    with tempfile.TemporaryDirectory() as temporary:
        bench = Workbench(Path(temporary), [_sample(0)])
        bench.batch(engine=TinyEngine(), run=bench.config(trajectory_order=None))
        write_dataset(bench.data, [_sample(index) for index in range(jobs)])
        for index in range(1, jobs):
            _copy_job(bench, index)
        files = sum(len(bench.record(stage).files) for stage in STAGES)
        console.print(f"{jobs:,} finished jobs of {files} files each")
        start = time.perf_counter()
        engine = TinyEngine()
        prepared = prepare_batch(bench.config(trajectory_order=None), lambda _batch: engine)
        planned = time.perf_counter()
        outcome = run_batch(prepared, lambda _event: None)
        end = time.perf_counter()
        if outcome.summary["success"] != jobs or engine.calls:
            raise SystemExit(f"not everything was reused: {outcome.summary['success']} of {jobs}")
        console.print(f"planning             {planned - start:6.2f} s")
        console.print(f"reporting, summary   {end - planned:6.2f} s")
        console.print(f"together             {end - start:6.2f} s")
        console.print(f"peak memory          {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:6.0f} MiB")


def _sample(index: int) -> dict[str, object]:
    return {**photo_sample(index), "photorealistic": {"path": PHOTO}}


def _copy_job(bench: Workbench, index: int) -> None:
    """The finished job 0 as job `index`: its files as hard links, its records with the other name in them."""
    old, new = JobId(0, "photorealistic"), JobId(index, "photorealistic")
    names = (layout.sample_name(0), layout.sample_name(index))
    source, target = (bench.output / layout.job_folder(job) for job in (old, new))
    shutil.copytree(source, target, copy_function=os.link)
    for scene in (target / "scenes").iterdir():
        scene.rename(scene.with_name(scene.name.replace(*names)))
    before: StageRecord | None = None
    for stage in STAGES:
        path = bench.output / layout.record(new, stage)
        document = json.loads(path.read_text().replace(*names)) | {"index": index}
        record = StageRecord.model_validate(document)
        if before is not None:
            entry = InputEntry(stage=before.stage, fingerprint=before.fingerprint, content=before.content)
            record = record.model_copy(update={"input": entry})
        path.unlink()  # it is a link to the record of job 0
        path.write_bytes(record.to_json())
        before = record
    sheet = target / layout.CONTACT_SHEET
    data = sheet.read_bytes()
    sheet.unlink()
    sheet.write_bytes(data)


if __name__ == "__main__":
    main()
