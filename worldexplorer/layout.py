"""The output tree, and the only module that knows it.

Every function returns a key: a POSIX path relative to `output_base`, the same on a local disk and in a bucket.

    output_base/
      batch_summary.json
      runs/RUN_ID/plan.json                            what one run set out to do
      runs/RUN_ID/run.json, plan.failed.json, ABORT    a cluster run: its settings, why there is no plan, stop
      runs/RUN_ID/inputs/VARIANT/index_XXXX/           a cluster run from stage 2 or 3: the record it starts from
      VARIANT/index_XXXX/                              one job
        records/STAGE.json, STAGE.failed.json, STAGE.damaged.json, STAGE.waiting.json
        scaffold/picks/                                only while a person is asked: variants, sheets, picks.json
        scaffold/generated_views/  scaffold/scaffold/  scaffold/final/000.png-007.png  scaffold/scaffold.json
        all_seva_frames/                               on request
        scenes/index_XXXX_TSF/img2trajvid/             frames, transforms.json, vggt_pcl.ply, alignment.json
        splat/splat.ply  splat/splat_rotated.ply  splat/splat.json
        splat/splat.spz  splat/splat.compressed.ply    on request
        splat/renders/  splat/depth/  splat/turntable.mp4  splat/walk.mp4
        contact_sheet.png
        .attempts/                                     work that is not committed yet

Example:
    >>> job_folder(JobId(7, "stylized"))
    'stylized/index_0007'
"""

from __future__ import annotations

from dataclasses import dataclass

SUMMARY = "batch_summary.json"
RUNS = "runs"
VARIANTS = ("photorealistic", "stylized", "default")

SCAFFOLD_FOLDER = "scaffold"
GENERATED_VIEWS = "scaffold/generated_views"
SCAFFOLD_KEYS = "scaffold/scaffold"
SCAFFOLD_FINAL = "scaffold/final"
SCAFFOLD_JSON = "scaffold/scaffold.json"
SCAFFOLD_CORNERS = "scaffold/corners.json"
SCAFFOLD_WORLD = "scaffold/world"
SCAFFOLD_PICKS = "scaffold/picks"
ALL_SEVA_FRAMES = "all_seva_frames"
SPLAT_FOLDER = "splat"
SPLAT_PLY = "splat/splat.ply"
SPLAT_ROTATED_PLY = "splat/splat_rotated.ply"
SPLAT_SPZ = "splat/splat.spz"
SPLAT_COMPRESSED_PLY = "splat/splat.compressed.ply"
SPLAT_RENDERS = "splat/renders"
SPLAT_DEPTH = "splat/depth"
SPLAT_TURNTABLE = "splat/turntable.mp4"
SPLAT_WALK = "splat/walk.mp4"
SPLAT_JSON = "splat/splat.json"
CONTACT_SHEET = "contact_sheet.png"


@dataclass(frozen=True, order=True)
class JobId:
    """One sample in one variant."""

    index: int
    variant: str

    def __str__(self) -> str:
        return job_folder(self)


def sample_name(index: int) -> str:
    """`index_0007`."""
    return f"index_{index:04d}"


def job_folder(job: JobId) -> str:
    """The folder of a job."""
    return f"{job.variant}/{sample_name(job.index)}"


def scene_id(index: int, translation_scaling_factor: float) -> str:
    """The scene's name: the sample's and its translation scaling."""
    return f"{sample_name(index)}_{float(translation_scaling_factor)}"


def scene_folder(index: int, translation_scaling_factor: float) -> str:
    """Where stage 2 puts a scene, relative to the job's folder."""
    return f"scenes/{scene_id(index, translation_scaling_factor)}/img2trajvid"


def record(job: JobId, stage: str) -> str:
    """The commit record of a stage."""
    return f"{job_folder(job)}/records/{stage}.json"


def failed_record(job: JobId, stage: str) -> str:
    """The record of a stage's last failure."""
    return f"{job_folder(job)}/records/{stage}.failed.json"


def waiting_record(job: JobId, stage: str) -> str:
    """The record of what a stage waits for a person to say."""
    return f"{job_folder(job)}/records/{stage}.waiting.json"


def damaged_marker(job: JobId, stage: str) -> str:
    """Says that files of a committed stage were found changed."""
    return f"{job_folder(job)}/records/{stage}.damaged.json"


def attempts_folder(job: JobId) -> str:
    """Where work lies until it is committed and published."""
    return f"{job_folder(job)}/.attempts"


def attempt_folder(job: JobId, attempt: str) -> str:
    """One attempt's folder."""
    return f"{attempts_folder(job)}/{attempt}"


def attempt_output(job: JobId, attempt: str, stage: str) -> str:
    """An attempt's finished files, laid out as the job's folder will be."""
    return f"{attempt_folder(job, attempt)}/{stage}"


def plan(run_id: str) -> str:
    """What one run set out to do."""
    return f"{RUNS}/{run_id}/plan.json"


def run_file(run_id: str) -> str:
    """A cluster run's configuration and jobs."""
    return f"{RUNS}/{run_id}/run.json"


def plan_failure(run_id: str) -> str:
    """Why a cluster run could not be planned."""
    return f"{RUNS}/{run_id}/plan.failed.json"


def abort_marker(run_id: str) -> str:
    """Says that the rest of a cluster run is to stop."""
    return f"{RUNS}/{run_id}/ABORT"


def run_input(run_id: str, job: JobId) -> str:
    """The folder with the record that a job of a cluster run starts from."""
    return f"{RUNS}/{run_id}/inputs/{job_folder(job)}"
