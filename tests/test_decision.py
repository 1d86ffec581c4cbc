"""What happens to a stage: every row of the table, as the plan tells it and as the run does it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import (
    STAGES,
    SmallEngine,
    Workbench,
    flip_byte,
    no_waiting_for_the_disk,  # noqa: F401 (a fixture that is used without being named)
    photo_sample,
    picture,
    toy_room,
    toy_rooms,
    write_views,
)

from worldexplorer.config import RunConfig
from worldexplorer.context import Outcome, StageContext, StageDefinition
from worldexplorer.decision import Action
from worldexplorer.progress import silent
from worldexplorer.stage import StageFailedError

RUN, REUSE, REFUSE = Action.RUN, Action.REUSE, Action.REFUSE


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    return Workbench(tmp_path)


@pytest.fixture
def finished(bench: Workbench) -> Workbench:
    go(bench)
    return bench


def decide(bench: Workbench, run: RunConfig | None = None) -> list[tuple[str, Action, str]]:
    decisions = bench.runner(run, definitions=toy_rooms()).decide(bench.job())
    return [(decision.stage, decision.action, decision.reason) for decision in decisions]


def go(bench: Workbench, run: RunConfig | None = None, **rooms: Any) -> list[str]:
    """Run the stages of the job until one fails; returns those that were made and not reused."""
    runner = bench.runner(run, definitions=toy_rooms(**rooms))
    job = bench.job()
    stages = runner.stages_of(job)
    return [stage for stage in stages if runner.run(job, stage, silent).run_id == runner.run_id]


def refusal(bench: Workbench, run: RunConfig) -> str:
    """What the job fails with; the plan says the same."""
    with pytest.raises(StageFailedError) as caught:
        go(bench, run)
    error = caught.value.record.error
    assert error is not None
    assert error.error_class.value == "user"
    text = f"{error.message} ({error.where}). What to do: {error.remedy}"
    assert decide(bench, run)[-1][1:] == (REFUSE, text)
    return text


def test_nothing_there(bench: Workbench) -> None:
    assert decide(bench) == [(stage, RUN, "no result yet") for stage in STAGES]
    assert go(bench) == list(STAGES)


def test_everything_there(finished: Workbench) -> None:
    assert decide(finished) == [(stage, REUSE, "finished before") for stage in STAGES]
    assert go(finished) == []


def test_force(finished: Workbench) -> None:
    run = finished.config(force=True)
    assert decide(finished, run) == [(stage, RUN, "forced: replaces what is there") for stage in STAGES]
    assert go(finished, run) == list(STAGES)


def test_force_where_nothing_is_there(bench: Workbench) -> None:
    assert decide(bench, bench.config(force=True))[0] == ("scaffold", RUN, "no result yet")


def test_force_of_one_stage_leaves_the_others(finished: Workbench) -> None:
    assert go(finished, finished.config(force=True, only_stages=(2,))) == ["trajectory"]
    assert go(finished) == []


@pytest.mark.parametrize(
    ("setting", "value", "stage", "named"),
    [
        ("num_seva_frames", 16, "scaffold", "settings.num_frames: 8 -> 16"),
        ("seed", 7, "scaffold", "seed: 0 -> 7"),
        ("translation_scaling_factor", 10.0, "trajectory", "settings.translation_scaling_factor: 3.0 -> 10.0"),
        ("trajectory_order", ("up", "in"), "trajectory", 'settings.trajectory_order: ["in"] -> ["up", "in"]'),
        ("num_images_for_vggt", 4, "trajectory", "settings.num_images_for_vggt: 8 -> 4"),
    ],
)
def test_changed_settings_are_refused_with_both_values(
    finished: Workbench, setting: str, value: Any, stage: str, named: str
) -> None:
    run = finished.config(**{setting: value})
    text = refusal(finished, run)
    assert f"({named})" in text  # and no other
    assert "--force" in text
    assert f"records/{stage}.json" in text
    assert go(finished, finished.config(force=True, **{setting: value}))[-1] == "splat"
    assert go(finished, run) == []


def made_when_defaults_were_recorded(bench: Workbench, **named: Mapping[str, Any]) -> None:
    """Run the job with `named` in the settings of its stages."""

    def telling(definition: StageDefinition[Any]) -> StageDefinition[Any]:
        more = named.get(definition.name, {})
        return replace(definition, basis=lambda settings: {**definition.basis(settings), **more})

    runner = bench.runner(definitions=tuple(telling(one) for one in toy_rooms()))
    for stage in STAGES:
        runner.run(bench.job(), stage, silent)


def test_a_default_that_a_record_names_is_as_left_out(bench: Workbench) -> None:
    made_when_defaults_were_recorded(bench, scaffold={"overlap_psnr": 20.0}, trajectory={"anchors": 13})
    assert decide(bench) == [(stage, REUSE, "finished before") for stage in STAGES]
    assert go(bench) == []
    flip_byte(bench.job_path("trajectory/result.txt"))
    assert go(bench) == ["trajectory"]  # healed in the words of its record, so what was made from it stays
    assert decide(bench) == [(stage, REUSE, "finished before") for stage in STAGES]
    assert "(settings.num_images_for_vggt: 8 -> 4)" in refusal(bench, bench.config(num_images_for_vggt=4))
    assert go(bench, bench.config(force=True)) == list(STAGES)
    assert go(bench) == []


def test_another_value_than_the_default_is_not_as_left_out(bench: Workbench) -> None:
    made_when_defaults_were_recorded(bench, trajectory={"anchors": 12})
    assert "(settings.anchors: 12 -> not set)" in refusal(bench, bench.config())


def test_another_engine_is_named_instead_of_all_its_settings(finished: Workbench) -> None:
    class Other(SmallEngine):
        name = "other"

        def describe(self) -> dict[str, Any]:
            return {"name": "other", "weights": {"a": 1}}

    decisions = finished.runner(definitions=toy_rooms(), engine=Other()).decide(finished.job())
    assert decisions[-1].action is REFUSE
    assert "made with other settings (engine: preview -> other) (" in decisions[-1].reason


def test_settings_that_change_no_result_are_not_compared(finished: Workbench, tmp_path: Path) -> None:
    run = finished.config(
        keep_training=True, nerf_folder=str(tmp_path), workers=2, continue_on_error=True, indices=("0",)
    )
    assert go(finished, run) == []


def test_another_photo_is_refused(finished: Workbench) -> None:
    picture(5, 96, 72).save(finished.data / "0.png")
    text = refusal(finished, finished.config())
    assert "stage 1 has a result made from another photo" in text
    assert "--force" in text


def test_a_photo_that_is_no_photo_any_more_is_refused(finished: Workbench) -> None:
    (finished.data / "0.png").write_bytes(b"not a picture")
    assert "not an image" in refusal(finished, finished.config())


def test_stage_3_requires_stage_2(bench: Workbench) -> None:
    text = refusal(bench, bench.config(only_stages=(3,)))
    assert "stage 2 requires stage 1" in text
    go(bench, bench.config(only_stages=(1,)))
    text = refusal(bench, bench.config(only_stages=(3,)))
    assert "stage 3 requires stage 2" in text
    assert "run stage 2 first" in text


def test_only_stages_1_and_3(finished: Workbench) -> None:
    run = finished.config(only_stages=(1, 3))
    assert [stage for stage, _, _ in decide(finished, run)] == ["scaffold", "splat"]
    assert go(finished, run) == []
    assert go(finished, finished.config(only_stages=(1, 3), force=True)) == ["scaffold", "splat"]


def test_a_later_stage_is_older_than_a_new_scaffold(finished: Workbench) -> None:
    go(finished, finished.config(only_stages=(1,), force=True, num_seva_frames=16))
    text = refusal(finished, finished.config(only_stages=(3,)))
    assert "stage 2 output is older than its scaffold" in text
    assert "--force --only_stages 2 3" in text
    text = refusal(finished, finished.config(only_stages=(2, 3), num_seva_frames=16))
    assert "stage 2 output is older than its scaffold" in text
    assert "--force --only_stages 2 3" in text


def test_a_splat_is_older_than_a_new_scene(finished: Workbench) -> None:
    changed = {"translation_scaling_factor": 10.0}
    go(finished, finished.config(only_stages=(2,), force=True, **changed))
    text = refusal(finished, finished.config(**changed))
    assert "stage 3 output is older than its trajectory" in text
    assert "--force --only_stages 3" in text


def test_a_scaffold_that_came_out_the_same_keeps_what_follows(finished: Workbench) -> None:
    go(finished, finished.config(only_stages=(1,), force=True))
    assert decide(finished) == [(stage, REUSE, "finished before") for stage in STAGES]


def test_a_scaffold_that_came_out_otherwise_has_what_follows_made_again(finished: Workbench) -> None:
    """The settings are the same, so nothing needs to be forced."""

    def otherwise(context: StageContext[Any]) -> Outcome:
        outcome = toy_room(context, "scaffold")
        (context.out / "scaffold" / "result.txt").write_text("otherwise")
        return outcome

    runner = finished.runner(finished.config(force=True), definitions=toy_rooms(scaffold=otherwise))
    runner.run(finished.job(), "scaffold", silent)
    assert decide(finished) == [
        ("scaffold", REUSE, "finished before"),
        ("trajectory", RUN, "its scaffold was made again"),
        ("splat", REUSE, "if the trajectory comes out the same again"),
    ]
    assert go(finished) == ["trajectory", "splat"]
    assert go(finished) == []


class TestDamage:
    FILE = "trajectory/result.txt"

    def test_a_changed_file_is_healed_with_its_stage_and_nothing_else(self, finished: Workbench) -> None:
        whole = finished.job_path(self.FILE).read_bytes()
        others = [(stage, finished.record(stage)) for stage in ("scaffold", "splat")]
        flip_byte(finished.job_path(self.FILE))
        assert decide(finished) == [
            ("scaffold", REUSE, "finished before"),
            ("trajectory", RUN, f"heals {self.FILE}"),
            ("splat", REUSE, "if the trajectory comes out the same again"),
        ]
        assert go(finished) == ["trajectory"]
        assert finished.job_path(self.FILE).read_bytes() == whole
        assert [(stage, finished.record(stage)) for stage, _ in others] == others
        assert finished.leftovers() == []

    def test_a_lost_file_is_healed(self, finished: Workbench) -> None:
        finished.job_path(self.FILE).unlink()
        assert go(finished) == ["trajectory"]
        assert go(finished) == []

    def test_healing_may_change_what_follows(self, finished: Workbench) -> None:
        def otherwise(context: StageContext[Any]) -> Outcome:
            outcome = toy_room(context, "trajectory")
            (context.out / self.FILE).write_text("otherwise")
            return outcome

        flip_byte(finished.job_path(self.FILE))
        assert go(finished, trajectory=otherwise) == ["trajectory", "splat"]
        assert go(finished) == []

    def test_damage_in_a_stage_that_is_not_selected_is_refused(self, finished: Workbench) -> None:
        flip_byte(finished.job_path(self.FILE))
        text = refusal(finished, finished.config(only_stages=(3,)))
        assert f"photorealistic/index_0000/{self.FILE}" in text
        assert "run stage 2 again" in text

    def test_several_files_are_counted(self, finished: Workbench) -> None:
        def two(context: StageContext[Any]) -> Outcome:
            (context.out / "scaffold").mkdir()
            (context.out / "scaffold" / "more.txt").write_text("more")
            return toy_room_in_place(context)

        def toy_room_in_place(context: StageContext[Any]) -> Outcome:
            (context.out / "scaffold" / "result.txt").write_text("x")
            return Outcome(outputs={"scaffold_path": "scaffold"})

        go(finished, finished.config(force=True), scaffold=two)
        for name in ("more", "result"):
            finished.job_path(f"scaffold/{name}.txt").unlink()
        assert decide(finished)[0] == ("scaffold", RUN, "heals scaffold/more.txt and 1 more")


class TestProvidedScaffold:
    @pytest.fixture
    def bench(self, tmp_path: Path) -> Workbench:
        sample = photo_sample(0)
        sample["photorealistic"]["scaffold_path"] = "views"
        bench = Workbench(tmp_path, [sample])
        write_views(bench.data / "views")
        return bench

    @pytest.mark.parametrize(
        ("selected", "stages"),
        [
            ((1,), ["scaffold"]),
            ((2,), ["scaffold", "trajectory"]),
            ((2, 3), list(STAGES)),
            ((1, 2, 3), list(STAGES)),
        ],
    )
    def test_it_is_taken_in_whenever_a_stage_needs_it(
        self, bench: Workbench, selected: tuple[int, ...], stages: list[str]
    ) -> None:
        assert go(bench, bench.config(only_stages=selected)) == stages

    def test_stage_3_alone_looks_no_further_back_than_its_scene(self, bench: Workbench) -> None:
        go(bench, bench.config(only_stages=(2,)))
        assert go(bench, bench.config(only_stages=(3,))) == ["splat"]

    def test_other_views_are_another_scaffold(self, bench: Workbench) -> None:
        go(bench)
        picture(99, 64, 64).save(bench.data / "views" / "003.png")
        assert "stage 1 has a result made from another" in refusal(bench, bench.config())

    def test_other_poses_are_another_scaffold(self, bench: Workbench) -> None:
        go(bench)
        (bench.data / "views" / "scaffold.json").write_text("{}")
        assert "stage 1 has a result made from another" in refusal(bench, bench.config())

    def test_a_missing_view_is_refused(self, bench: Workbench) -> None:
        (bench.data / "views" / "003.png").unlink()
        assert "no view 003" in refusal(bench, bench.config())

    def test_settings_of_stage_1_do_not_matter(self, bench: Workbench) -> None:
        go(bench)
        assert go(bench, bench.config(num_seva_frames=16)) == []
