"""Stage 1: eight views from a photo, or those that the data set brings."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import (
    SmallEngine,
    Workbench,
    no_waiting_for_the_disk,  # noqa: F401 (a fixture that is used without being named)
    photo_sample,
    picture,
    write_views,
)
from PIL import Image
from tiny_engine import SIZE, TinyEngine, box_views

from worldexplorer import layout
from worldexplorer.engine import World
from worldexplorer.errors import UsageError
from worldexplorer.geometry.cameras import normalised_intrinsics
from worldexplorer.geometry.transforms import read_transforms
from worldexplorer.photo import load_photo, view_zero
from worldexplorer.pictures import read_picture, read_pictures
from worldexplorer.progress import silent
from worldexplorer.records import ErrorEntry, StageRecord
from worldexplorer.scaffold.poses import scaffold_poses
from worldexplorer.scaffold.scaffold_file import read_scaffold
from worldexplorer.scaffold.stage import SCAFFOLD, ScaffoldSettings
from worldexplorer.stage import StageFailedError


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    return Workbench(tmp_path)


def stage_1(bench: Workbench, engine: TinyEngine | None = None, **settings: Any) -> StageRecord:
    return bench.runner(bench.config(**settings), engine=engine).run(bench.job(), "scaffold", silent)


def failure(bench: Workbench, engine: TinyEngine | None = None, **settings: Any) -> ErrorEntry:
    with pytest.raises(StageFailedError) as caught:
        stage_1(bench, engine, **settings)
    assert caught.value.record.error is not None
    return caught.value.record.error


def views_of(bench: Workbench, variant: str = "photorealistic") -> np.ndarray:
    folder = bench.output / variant / "index_0000" / layout.SCAFFOLD_FINAL
    return read_pictures(sorted(folder.iterdir()))


class TestSingleImage:
    def test_the_files(self, bench: Workbench) -> None:
        record = stage_1(bench, num_seva_frames=16)
        expected = {f"scaffold/generated_views/{frame:03d}.png" for frame in range(16)}
        expected |= {f"scaffold/final/{view:03d}.png" for view in range(8)}
        expected |= {f"scaffold/scaffold/images/{view:03d}.png" for view in range(8)}
        expected |= {"scaffold/scaffold/transforms.json", "scaffold/scaffold.json"}
        assert {entry.path for entry in record.files} == expected
        assert record.outputs == {"scaffold_path": "scaffold/final"}
        assert record.quality == "ok"
        assert record.notes == []

    def test_the_first_view_is_the_photo_and_the_others_what_the_model_shows(self, bench: Workbench) -> None:
        stage_1(bench, num_seva_frames=16)
        views = views_of(bench)
        first, covered = view_zero(load_photo(bench.data / "0.png"), None, SIZE)
        assert covered.all()
        assert (views[0] == first).all()
        expected = box_views(scaffold_poses()[1:], np.tile(normalised_intrinsics(), (7, 1, 1)))
        assert (np.abs(views[1:].astype(int) - expected) <= 1).all()

    @pytest.mark.parametrize("count", [8, 16, 24])
    def test_views_are_every_eighth_part_of_the_frames(self, bench: Workbench, count: int) -> None:
        stage_1(bench, num_seva_frames=count)
        for view, picture_ in enumerate(views_of(bench)):
            frame = bench.job_path(f"{layout.GENERATED_VIEWS}/{view * count // 8:03d}.png")
            assert (read_picture(frame) == picture_).all()

    def test_the_description(self, bench: Workbench) -> None:
        stage_1(bench)
        scaffold = read_scaffold(bench.job_path(layout.SCAFFOLD_JSON))
        assert (scaffold.size, scaffold.method, scaffold.prior) == (SIZE, "single_image", "pan-in-place")
        np.testing.assert_allclose(scaffold.poses(), scaffold_poses(), atol=1e-9)
        assert [view.source for view in scaffold.views] == ["input"] + ["generated"] * 7
        for view in scaffold.views:
            data = bench.job_path(f"scaffold/{view.file}").read_bytes()
            assert hashlib.sha256(data).hexdigest() == view.sha256
        assert [view.yaw_deg % 360 for view in scaffold.views] == pytest.approx([45.0 * view for view in range(8)])

    def test_the_nerfstudio_folder(self, bench: Workbench) -> None:
        stage_1(bench)
        folder = bench.job_path(layout.SCAFFOLD_KEYS)
        transforms = read_transforms(folder / "transforms.json")
        np.testing.assert_allclose(transforms.c2w, scaffold_poses(), atol=1e-9)
        assert (read_pictures([folder / name for name in transforms.file_paths]) == views_of(bench)).all()

    def test_a_narrow_photo_is_completed_and_laid_over(self, bench: Workbench) -> None:
        """40 degrees across: the photo covers the middle of view 000 and nothing of its rim."""
        record = stage_1(bench, hfov=40.0)
        first, covered = view_zero(load_photo(bench.data / "0.png"), 40.0, SIZE)
        assert covered.any()
        assert not covered.all()
        view = views_of(bench)[0]
        assert (view[covered] == first[covered]).all()
        generated = box_views(scaffold_poses()[:1], normalised_intrinsics()[None])[0]
        assert (np.abs(view[~covered].astype(int) - generated[~covered]) <= 1).all()
        assert record.metrics["photo_coverage"] == pytest.approx(covered.mean(), abs=1e-4)
        scaffold = read_scaffold(bench.job_path(layout.SCAFFOLD_JSON))
        assert scaffold.views[0].source == "input+generated"

    def test_another_prior_is_done_and_called_degraded(self, bench: Workbench) -> None:
        record = stage_1(bench, traj_prior="orbit")
        assert record.quality == "degraded"
        assert any("prior" in note for note in record.notes)
        assert any("not a ring" in note for note in record.notes)
        assert read_scaffold(bench.job_path(layout.SCAFFOLD_JSON)).prior == "orbit"

    def test_what_the_engine_keeps_lies_beside(self, bench: Workbench) -> None:
        class Kept:
            def save(self, folder: Path) -> None:
                (folder / "world.bin").write_bytes(b"world")

        class Engine(SmallEngine):
            seen: list[Any]

            def build_world(self, photo: np.ndarray, hfov_deg: float, scene_type: str | None, progress: Any) -> World:
                self.seen = [photo.shape, round(hfov_deg, 1), scene_type]
                return Kept()

        engine = Engine()
        record = stage_1(bench, engine, hfov=75.0)
        assert engine.seen == [(72, 96, 3), 75.0, None]
        assert record.file("scaffold/world/world.bin") is not None


class TestWhatFails:
    def test_views_of_one_colour_are_the_models_fault(self, bench: Workbench) -> None:
        class Blind(SmallEngine):
            def sample(self, requests: Any, progress: Any) -> Any:
                frames = super().sample(requests, progress)
                frames[0][5] = (0, 0, 0)
                return frames

        error = failure(bench, Blind())
        assert error.error_class.value == "defect"
        assert "scaffold view 005 is of one colour" in error.message

    def test_a_photo_of_one_colour_is_not(self, bench: Workbench) -> None:
        Image.new("RGB", (96, 72), (200, 10, 10)).save(bench.data / "0.png")
        error = failure(bench)
        assert error.error_class.value == "user"
        assert "scaffold view 000" in error.message
        assert "photo" in error.remedy

    def test_a_photo_cut_short_fails_before_any_model(self, bench: Workbench) -> None:
        path = bench.data / "0.png"
        path.write_bytes(path.read_bytes()[:-200])
        engine = SmallEngine()
        error = failure(bench, engine)
        assert error.error_class.value == "user"
        assert error.where == str(path)
        assert engine.calls == []

    def test_an_engine_without_text_to_image_says_what_to_take(self, bench: Workbench) -> None:
        error = failure(bench, scaffold_method="scaffold_gen")
        assert error.error_class.value == "user"
        assert "single_image" in error.remedy


class TestProvided:
    @pytest.fixture
    def bench(self, tmp_path: Path) -> Workbench:
        sample = photo_sample(0)
        sample["photorealistic"]["scaffold_path"] = "views"
        bench = Workbench(tmp_path, [sample])
        write_views(bench.data / "views")
        return bench

    def test_it_is_taken_as_it_is(self, bench: Workbench) -> None:
        engine = SmallEngine()
        record = stage_1(bench, engine)
        assert engine.calls == []
        expected = read_pictures(sorted((bench.data / "views").iterdir()), SIZE)
        assert (views_of(bench) == expected).all()
        scaffold = read_scaffold(bench.job_path(layout.SCAFFOLD_JSON))
        assert (scaffold.method, scaffold.prior) == ("provided", None)
        assert {view.source for view in scaffold.views} == {"provided"}
        np.testing.assert_allclose(scaffold.poses(), scaffold_poses(), atol=1e-9)
        assert record.input is not None
        assert record.input.stage == "provided"
        assert not any("generated_views" in entry.path for entry in record.files)

    @pytest.mark.parametrize("place", ["views", "views/final", "of a batch"])
    def test_poses_are_those_of_its_description(self, bench: Workbench, tmp_path: Path, place: str) -> None:
        """Beside the views, or where this program puts it: beside `final`."""
        other = Workbench(tmp_path / "other")
        stage_1(other, traj_prior="orbit")
        made = other.job_path("scaffold")
        views = bench.data / "views"
        if place == "views":
            (views / "scaffold.json").write_bytes((made / "scaffold.json").read_bytes())
        else:
            (views / "final").mkdir()
            for path in views.glob("*.png"):
                path.rename(views / "final" / path.name)
            (views / ("final/scaffold.json" if place == "views/final" else "scaffold.json")).write_bytes(
                (made / "scaffold.json").read_bytes()
            )
        record = stage_1(bench)
        np.testing.assert_allclose(
            read_scaffold(bench.job_path(layout.SCAFFOLD_JSON)).poses(),
            read_scaffold(made / "scaffold.json").poses(),
            atol=1e-9,
        )
        assert record.quality == "degraded"

    def test_a_description_that_is_wrong_is_the_persons_to_correct(self, bench: Workbench) -> None:
        (bench.data / "views" / "scaffold.json").write_text("{}")
        error = failure(bench)
        assert error.error_class.value == "user"
        assert error.where.endswith("scaffold.json")

    @pytest.mark.parametrize("spoil", ["missing", "one colour", "not square"])
    def test_views_that_will_not_do(self, bench: Workbench, spoil: str) -> None:
        path = bench.data / "views" / "003.png"
        if spoil == "missing":
            path.unlink()
        elif spoil == "one colour":
            Image.new("RGB", (64, 64)).save(path)
        else:
            picture(1, 64, 70).save(path)
        error = failure(bench)
        assert error.error_class.value == "user"
        assert "003" in error.message + error.where

    def test_the_photo_is_not_looked_at(self, bench: Workbench) -> None:
        (bench.data / "0.png").write_bytes(b"no picture")
        assert bench.plan().jobs[0].problem == ""
        assert stage_1(bench).status == "committed"


class TestSettings:
    def settings(self, bench: Workbench, **changes: Any) -> ScaffoldSettings:
        settings: ScaffoldSettings = SCAFFOLD.settings(bench.job(), bench.config(**changes), SmallEngine())
        return settings

    def basis(self, bench: Workbench, **changes: Any) -> dict[str, Any]:
        return json.loads(json.dumps(dict(SCAFFOLD.basis(self.settings(bench, **changes)))))

    def test_what_the_method_does_not_use_does_not_count(self, bench: Workbench) -> None:
        assert self.basis(bench) == {
            "method": "single_image",
            "traj_prior": "pan-in-place",
            "num_frames": 8,
            "cfg": [4.0, 2.0],
        }
        assert self.basis(bench, translation_scaling_factor=10.0) == self.basis(bench)
        assert self.basis(bench, scaffold_mode="manual") == self.basis(bench)
        assert self.basis(bench, traj_prior="Pan_In-Place") == self.basis(bench)

    def test_a_prior_that_moves_depends_on_the_scale(self, bench: Workbench) -> None:
        assert self.basis(bench, traj_prior="orbit")["translation_scaling_factor"] == 3.0
        assert self.basis(bench, traj_prior="orbit", translation_scaling_factor=5.0) != self.basis(
            bench, traj_prior="orbit"
        )

    def test_scaffold_gen_depends_on_texts(self, tmp_path: Path) -> None:
        prompts = ["north", "west", "south", "east"]
        bench = Workbench(tmp_path, [photo_sample(0, scaffold={"prompts": prompts, "mode": "fast"}, theme="forest")])
        basis = self.basis(bench, scaffold_method="scaffold_gen")
        assert basis == {
            "method": "scaffold_gen",
            "mode": "fast",
            "prompts": prompts,
            "text_to_image": "flux1-dev",
            "inpaint": "sd2-inpainting",
            "guidances": [7.0],
            "corner_seeds": 1,
        }

    def test_what_scaffold_gen_does_not_look_at_does_not_count(self, tmp_path: Path) -> None:
        """A theme beside own prompts, the variants of the one corner that fast makes, the lens of no photo."""
        own = {"prompts": ["north", "west", "south", "east"], "mode": "fast"}
        bench = Workbench(tmp_path, [photo_sample(0, scaffold=own)])
        plain = self.basis(bench, scaffold_method="scaffold_gen")
        for change in (
            {"default_theme": "castle"},
            {"corner_seeds": 3},
            {"corner_guidances": (7.0, 2.0)},
            {"cfg": (1, 1)},
        ):
            assert self.basis(bench, scaffold_method="scaffold_gen", **change) == plain
        for change in (
            {"corner_guidances": (2.0,)},
            {"inpaint": "flux1-fill"},
            {"text_to_image": "flux2-klein"},
            {"hfov": 70.0},
        ):
            assert self.basis(bench, scaffold_method="scaffold_gen", **change) != plain

    def test_guidance_scales_do_not_count_for_a_model_that_takes_none(self, tmp_path: Path) -> None:
        own = {"prompts": ["north", "west", "south", "east"], "mode": "automatic"}
        bench = Workbench(tmp_path, [photo_sample(0, scaffold=own)])
        settings = {"scaffold_method": "scaffold_gen", "inpaint": "flux2-klein"}
        plain = self.basis(bench, **settings)
        assert "guidances" not in plain
        assert plain["corner_seeds"] == 8
        assert self.basis(bench, **settings, corner_guidances=(1.0,)) == plain
        assert self.basis(bench, **settings, corner_seeds=16) != plain

    def test_prompts_that_are_not_to_be_used_leave_the_theme(self, tmp_path: Path) -> None:
        own = {"prompts": ["north", "west", "south", "east"], "custom": False}
        bench = Workbench(tmp_path, [photo_sample(0, scaffold=own, theme="forest")])
        basis = self.basis(bench, scaffold_method="scaffold_gen", scaffold_mode="automatic")
        assert "prompts" not in basis
        assert basis["theme"] == "forest"
        assert (len(basis["guidances"]) * basis["corner_seeds"]) == 88

    def test_a_prior_that_is_not_there(self, bench: Workbench) -> None:
        with pytest.raises(UsageError, match="sideways"):
            self.settings(bench, traj_prior="sideways")
