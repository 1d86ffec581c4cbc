"""What is made of a job's committed results for a person to look at; made again at any time, part of no record.

    contact_sheet.png      photo, scaffold, frames and splat renders in one picture
    all_seva_frames/       a copy of every frame of stage 1, on request

Example:
    >>> write_extras(storage, job, all_frames=False)
"""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path, PurePosixPath

import numpy as np

from worldexplorer import layout
from worldexplorer.config import STAGE_NAMES
from worldexplorer.dataset import Job
from worldexplorer.geometry.transforms import TRANSFORMS_NAME, read_transforms
from worldexplorer.inputs import RecordedInputs
from worldexplorer.photo import load_photo
from worldexplorer.pictures import Pictures, read_picture
from worldexplorer.report.contact_sheet import SheetRow, contact_sheet, scaffold_row
from worldexplorer.scaffold.scaffold_file import read_scaffold
from worldexplorer.storage import NotFoundError, ObjectInfo, Storage

_SHOWN_FRAMES = 18
_SHOWN_METRICS = {
    "psnr_train": "training views",
    "psnr_heldout": "held-out views of the generated world",
    "psnr_input_view": "the photo's view",
}
_logger = logging.getLogger(__name__)


def write_extras(storage: Storage, job: Job, *, all_frames: bool) -> None:
    """Make what is missing or older than the job's results.

    A failure here is logged and does not fail the job, whatever it is: everything it is made of is committed.
    """
    try:
        scaffold = storage.stat(layout.record(job.id, STAGE_NAMES[1]))
        if scaffold is None:
            return
        if all_frames:
            _copy_frames(storage, job, scaffold)
        sheet = f"{layout.job_folder(job.id)}/{layout.CONTACT_SHEET}"
        if _is_stale(storage, job, sheet):
            with ExitStack() as stack:
                stages = [stack.enter_context(closing(inputs)) for inputs in _committed(storage, job)]
                storage.write(sheet, _draw_sheet(job, stages))
    except Exception as error:  # noqa: BLE001 (a picture for people is no reason to lose a job that took hours)
        _logger.warning("%s: the contact sheet or the copied frames could not be made: %s", job.id, error)


def _committed(storage: Storage, job: Job) -> list[RecordedInputs]:
    """The committed stages of a job, as far as they reach without a gap."""
    found: list[RecordedInputs] = []
    for stage in STAGE_NAMES.values():
        try:
            found.append(RecordedInputs(storage, job.id, stage))
        except NotFoundError:
            break
    return found


def _copy_frames(storage: Storage, job: Job, record: ObjectInfo) -> None:
    """Copy the frames of stage 1 unless the copies are there and younger than its record."""
    folder = f"{layout.job_folder(job.id)}/{layout.ALL_SEVA_FRAMES}"
    copies = {info.key: info for info in storage.list(folder)}
    scaffold = RecordedInputs(storage, job.id, STAGE_NAMES[1])
    names = [entry.path for entry in scaffold.record.files if entry.path.startswith(f"{layout.GENERATED_VIEWS}/")]
    wanted = {f"{folder}/{PurePosixPath(name).name}": name for name in names}
    storage.map(storage.delete, sorted(copies.keys() - wanted.keys()))
    stale = [key for key in wanted if key not in copies or copies[key].modified < record.modified]
    with closing(scaffold):
        paths = dict(zip(stale, scaffold.files([wanted[key] for key in stale]), strict=True))
        storage.map(lambda key: storage.write(key, paths[key].read_bytes()), stale)


def _is_stale(storage: Storage, job: Job, key: str) -> bool:
    sheet = storage.stat(key)
    if sheet is None:
        return True
    records = storage.map(lambda stage: storage.stat(layout.record(job.id, stage)), list(STAGE_NAMES.values()))
    return any(record is not None and record.modified > sheet.modified for record in records)


def _draw_sheet(job: Job, stages: Sequence[RecordedInputs]) -> bytes:
    scaffold = stages[0]
    description = read_scaffold(scaffold.path(layout.SCAFFOLD_JSON))
    views = [read_picture(path) for path in scaffold.paths(layout.SCAFFOLD_FINAL)]
    yaws = [view.yaw_deg for view in description.views]
    if job.image is not None:
        rows = [scaffold_row(load_photo(job.image), views, yaws)]
    else:
        captions = [f"{index:03d}  yaw {round(yaw)}°" for index, yaw in enumerate(yaws)]
        rows = [SheetRow("Scaffold", views, captions)]
    metrics: dict[str, object] = {}
    if len(stages) > 1:
        rows.append(_frames_row(stages[1]))
    if len(stages) > 2:
        renders = [read_picture(path) for path in stages[2].paths(f"{layout.SPLAT_FOLDER}/renders")]
        rows.append(SheetRow("Gaussian splats, from the scaffold's views", renders, _names(len(renders))))
        metrics = dict(stages[2].record.metrics)
    line = ",  ".join(f"{metrics[name]:.1f} dB {what}" for name, what in _SHOWN_METRICS.items() if name in metrics)
    sheet = contact_sheet(
        layout.job_folder(job.id), stages[-1].record.engine_label, rows, metrics=f"PSNR  {line}" if line else ""
    )
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    return buffer.getvalue()


def _frames_row(scene: RecordedInputs) -> SheetRow:
    """Frames spread evenly over the trajectories."""
    scene_path = scene.record.outputs["scene_path"]
    paths = read_transforms(scene.path(f"{scene_path}/{TRANSFORMS_NAME}")).file_paths
    generated = [path for path in paths if PurePosixPath(path).parts[0] != "input"]
    picks = np.unique(np.linspace(0, len(generated) - 1, min(_SHOWN_FRAMES, len(generated))).round().astype(int))
    chosen = [generated[pick] for pick in picks]
    pictures: list[Pictures] = [read_picture(path) for path in scene.files([f"{scene_path}/{name}" for name in chosen])]
    captions = [f"{PurePosixPath(path).parts[0].replace('_', ' ')}  {Path(path).stem}" for path in chosen]
    return SheetRow("Generated frames", pictures, captions)


def _names(count: int) -> list[str]:
    return [f"{index:03d}" for index in range(count)]
