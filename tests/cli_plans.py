"""Plans made by hand, for tests of what is printed of them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from worldexplorer.batch import PreparedBatch
from worldexplorer.config import BatchConfig, RunConfig
from worldexplorer.dataset import ExpansionOverrides, Job, ScaffoldOverrides
from worldexplorer.decision import Action, Decision, Existing
from worldexplorer.errors import UserError
from worldexplorer.plan import BatchPlan, JobPlan, NotRun, PlanFile, PlannedJob
from worldexplorer.records import StageRecord
from worldexplorer.storage import LocalStorage

STAGES = ("scaffold", "trajectory", "splat")


def a_job(index: int, variant: str = "photorealistic") -> Job:
    return Job(
        index=index,
        variant=variant,
        image=Path(f"photos/{index}.png"),
        scaffold_path=None,
        scene_type=None,
        category=None,
        theme=None,
        scaffold=ScaffoldOverrides(),
        expansion=ExpansionOverrides(),
    )


def a_record(index: int, stage: str, published: bool = True, **facts) -> StageRecord:
    values = {
        "stage": stage,
        "index": index,
        "variant": "photorealistic",
        "status": "committed",
        "run_id": "run-1",
        "attempt": "a",
        "fingerprint": "f",
        "basis": {},
        "engine": "preview",
        "engine_label": "synthesised preview",
        "code_version": "0",
        "seed": 0,
        "started_at": "2026-01-01T00:00:00+00:00",
        "finished_at": "2026-01-01T00:00:00+00:00",
        "seconds": 1.5,
        "published": published,
    }
    return StageRecord(**(values | facts))


def fresh(index: int) -> JobPlan:
    return JobPlan(a_job(index), STAGES, tuple(Decision(stage, Action.RUN, "no result yet") for stage in STAGES))


def reused(index: int) -> JobPlan:
    decisions = tuple(
        Decision(stage, Action.REUSE, "finished before", existing=Existing(a_record(index, stage), "v"))
        for stage in STAGES
    )
    return JobPlan(a_job(index), STAGES, decisions)


def refused(index: int) -> JobPlan:
    error = UserError("stage 2 has a result made with other settings (cfg: 3 -> 4)", remedy="use --force")
    decisions = (
        Decision("scaffold", Action.REUSE, "finished before", existing=Existing(a_record(index, "scaffold"), "v")),
        Decision("trajectory", Action.REFUSE, str(error), error=error),
    )
    return JobPlan(a_job(index), STAGES, decisions)


def with_a_bad_photo(index: int) -> JobPlan:
    plan = fresh(index)
    return JobPlan(plan.job, plan.stages, plan.decisions, problem="the photo has 1 x 1 pixels (photos/1.png)")


class Engine:
    name = "preview"
    label = "synthesised preview"
    licence = "MIT"
    remedy = "take another engine"
    stage_weights = (1.0, 3.0, 6.0)

    def __init__(self, missing: dict[int, list[str]] | None = None) -> None:
        self._missing = missing or {}

    def check(self, stages, scaffold_method, traj_prior) -> list[str]:
        return [text for stage in stages for text in self._missing.get(stage, [])]


def prepared_batch(
    jobs: list[JobPlan],
    folder: Path,
    *,
    skipped: tuple[NotRun, ...] = (),
    warnings: tuple[str, ...] = (),
    engine: Engine | None = None,
    **batch,
) -> PreparedBatch:
    run = RunConfig(BatchConfig(dataset_dir="data", output_base=str(folder), engine="preview", **batch))
    engine = engine or Engine()
    file = PlanFile(
        run_id="run-1",
        created_at="2026-01-01T00:00:00+00:00",
        dataset_dir="data",
        engine=engine.name,
        engine_label=engine.label,
        only_stages=run.batch.only_stages,
        scaffold_method="single_image",
        jobs=tuple(PlannedJob(index=one.job.index, variant=one.job.variant, stages=one.stages) for one in jobs),
        skipped=skipped,
        warnings=warnings,
    )
    dataset = SimpleNamespace()
    plan = BatchPlan("run-1", tuple(jobs), file)
    return PreparedBatch(run, dataset, engine, LocalStorage(folder), plan, lambda batch: engine)


def a_result(index: int, status: str = "success", **facts) -> dict:
    folder = f"photorealistic/index_{index:04d}"
    done = status == "success"
    result = {
        "index": index,
        "variant": "photorealistic",
        "status": status,
        "reason": "",
        "quality": "ok",
        "stages_completed": [1, 2, 3] if done else [],
        "scaffold_path": f"{folder}/scaffold" if done else None,
        "scene_path": None,
        "export_path": f"{folder}/splat/splat.ply" if done else None,
        "contact_sheet": f"{folder}/contact_sheet.png" if done else None,
        "engine": "preview",
        "run_id": "run-1",
        "seconds": {"scaffold": 2.0, "trajectory": 20.4, "splat": 61.0} if done else {},
        "peak_memory_mib": {},
        "metrics": {"psnr_train": 35.04, "psnr_heldout": 33.91} if done else {},
        "notes": [],
        "retries": 0,
        "error": None,
    }
    return result | facts


def a_failure(index: int) -> dict:
    error = {"stage": "scaffold", "class": "user", "message": "the photo is black", "where": "7.png", "remedy": "x"}
    return a_result(index, "failed", reason="the photo is black", error=error)


def a_summary(results: list[dict], **facts) -> dict:
    counts = {
        status: sum(one["status"] == status for one in results)
        for status in ("success", "failed", "skipped", "waiting")
    }
    summary = {
        "schema_version": 1,
        "total": len(results),
        **counts,
        "failed_indices": " ".join(str(one["index"]) for one in results if one["status"] == "failed"),
        "elapsed_seconds": 84.0,
        "only_stages": [1, 2, 3],
        "scaffold_method": "single_image",
        "engine": "preview",
        "engine_label": "synthesised preview",
        "interrupted": False,
        "dataset_dir": "data",
        "output_base": "out",
        "run_id": "run-1",
        "code_version": "0",
        "versions": {},
        "results": results,
        "skipped_variants": [],
        "warnings": [],
    }
    return summary | facts
