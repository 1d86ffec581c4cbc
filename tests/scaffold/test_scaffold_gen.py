"""scaffold_gen: four views from text, corners between them, and how each mode comes to its choice."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import (
    SmallEngine,
    Workbench,
    canonical_tree,
    no_waiting_for_the_disk,  # noqa: F401 (a fixture that is used without being named)
    photo_sample,
)
from PIL import Image
from text_engine import Stopped, TextEngine, waves
from tiny_engine import SIZE

from worldexplorer import layout
from worldexplorer.config import CORNER_GUIDANCES
from worldexplorer.dataset import Job
from worldexplorer.engine import InpaintRequest, TextToImageRequest
from worldexplorer.photo import load_photo, view_zero
from worldexplorer.pictures import read_picture, read_pictures
from worldexplorer.progress import silent
from worldexplorer.records import ErrorEntry, StageRecord
from worldexplorer.scaffold.corners import CARDINALS, CORNERS, corner_view
from worldexplorer.scaffold.poses import scaffold_poses
from worldexplorer.scaffold.prompts import EYE_LEVEL
from worldexplorer.scaffold.scaffold_file import read_scaffold
from worldexplorer.seeds import derive_seed
from worldexplorer.stage import StageFailedError, StageWaitingError

PROMPTS = ["a harbour", "a pier", "the open sea", "a beach"]
FEW = {"corner_guidances": (7.0, 2.0), "corner_seeds": 2}
ALL_OF_THEM = {"corner_guidances": CORNER_GUIDANCES, "corner_seeds": 8}


def sample(**more: Any) -> dict[str, Any]:
    return photo_sample(0, scaffold={"prompts": PROMPTS}, **more)


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    return Workbench(tmp_path, [sample()])


def job_of(bench: Workbench, *, photo: bool = True) -> Job:
    return bench.job() if photo else replace(bench.job(), image=None)


def stage_1(
    bench: Workbench, engine: TextEngine | None = None, *, photo: bool = True, mode: str = "fast", **settings: Any
) -> StageRecord:
    run = bench.config(scaffold_method="scaffold_gen", scaffold_mode=mode, **settings)
    runner = bench.runner(run, engine=engine or TextEngine())
    return runner.run(job_of(bench, photo=photo), "scaffold", silent)


def failure(bench: Workbench, engine: SmallEngine, **settings: Any) -> ErrorEntry:
    run = bench.config(scaffold_method="scaffold_gen", scaffold_mode="fast", **settings)
    with pytest.raises(StageFailedError) as caught:
        bench.runner(run, engine=engine).run(bench.job(), "scaffold", silent)
    assert caught.value.record.error is not None
    return caught.value.record.error


def views_of(bench: Workbench) -> np.ndarray:
    return read_pictures(sorted(bench.job_path(layout.SCAFFOLD_FINAL).iterdir()))


def corners_of(bench: Workbench) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(bench.job_path(layout.SCAFFOLD_CORNERS).read_text())
    return document


def pictures_of(engine: TextEngine) -> list[TextToImageRequest]:
    return [request for request in engine.made if isinstance(request, TextToImageRequest)]


def holes_of(engine: TextEngine) -> list[InpaintRequest]:
    return [request for request in engine.made if isinstance(request, InpaintRequest)]


class TestViews:
    def test_the_files(self, bench: Workbench) -> None:
        record = stage_1(bench)
        expected = {f"scaffold/generated_views/{view:03d}.png" for view in CARDINALS}
        expected |= {
            f"scaffold/generated_views/{view:03d}_{what}.png" for view in CORNERS for what in ("given", "mask")
        }
        expected |= {f"scaffold/final/{view:03d}.png" for view in range(8)}
        expected |= {f"scaffold/scaffold/images/{view:03d}.png" for view in range(8)}
        expected |= {"scaffold/scaffold/transforms.json", "scaffold/scaffold.json", "scaffold/corners.json"}
        assert {entry.path for entry in record.files} == expected
        assert record.outputs == {"scaffold_path": "scaffold/final"}
        assert (record.quality, record.notes) == ("ok", [])
        assert bench.leftovers() == []

    def test_where_each_view_comes_from(self, bench: Workbench) -> None:
        stage_1(bench)
        scaffold = read_scaffold(bench.job_path(layout.SCAFFOLD_JSON))
        assert (scaffold.method, scaffold.prior) == ("scaffold_gen", None)
        assert [view.source for view in scaffold.views] == ["input", "inpainted"] + ["generated", "inpainted"] * 3
        np.testing.assert_allclose(scaffold.poses(), scaffold_poses(), atol=1e-9)

    def test_the_photo_is_the_north_and_the_others_are_made(self, bench: Workbench) -> None:
        engine = TextEngine()
        stage_1(bench, engine)
        requests = pictures_of(engine)
        assert [request.prompt for request in requests] == [f"{text}, {EYE_LEVEL}" for text in PROMPTS[1:]]
        assert len({request.seed for request in requests}) == 3
        assert {request.size for request in requests} == {SIZE}
        views = views_of(bench)
        first, covered = view_zero(load_photo(bench.data / "0.png"), None, SIZE)
        assert covered.all()
        assert (views[0] == first).all()
        for view, request in zip((2, 4, 6), requests, strict=True):
            assert (views[view] == waves(f"{request.prompt} {request.seed}", SIZE)).all()

    def test_without_a_photo_all_four_are_made(self, bench: Workbench) -> None:
        engine = TextEngine()
        record = stage_1(bench, engine, photo=False)
        assert [request.prompt.partition(",")[0] for request in pictures_of(engine)] == PROMPTS
        assert read_scaffold(bench.job_path(layout.SCAFFOLD_JSON)).views[0].source == "generated"
        assert record.input is not None
        assert record.input.stage == "prompts"
        assert list(corners_of(bench)["prompts"]) == ["000", "002", "004", "006"]

    def test_the_sides_of_a_corner_are_its_neighbours(self, bench: Workbench) -> None:
        engine = TextEngine()
        stage_1(bench, engine)
        views = views_of(bench)
        for corner, request in zip(CORNERS, holes_of(engine), strict=True):
            given = corner_view(corner, {view: views[view] for view in CARDINALS})
            assert (request.image == given.image).all()
            assert (request.mask == given.mask).all()
            # The outermost column is far from the hole: what the model did to it is not in the view.
            assert (views[corner][:, 0] == given.image[:, 0]).all()
            assert (views[corner][:, -1] == given.image[:, -1]).all()
            middle = waves(f"{request.prompt} {request.seed} {request.guidance}", SIZE)
            assert (views[corner][given.mask] == middle[given.mask]).all()
            folder = bench.job_path(layout.GENERATED_VIEWS)
            assert (read_picture(folder / f"{corner:03d}_given.png") == given.image).all()
            assert ((read_picture(folder / f"{corner:03d}_mask.png")[..., 0] == 255) == given.mask).all()

    def test_a_narrow_photo_is_completed_and_laid_over(self, bench: Workbench) -> None:
        engine = TextEngine()
        record = stage_1(bench, engine, hfov=40.0)
        first, covered = view_zero(load_photo(bench.data / "0.png"), 40.0, SIZE)
        view = views_of(bench)[0]
        assert 0 < covered.sum() < covered.size
        assert (view[covered] == first[covered]).all()
        rim = holes_of(engine)[0]
        made = waves(f"{rim.prompt} {rim.seed} {rim.guidance}", SIZE)
        assert (view[~covered] == made[~covered]).all()
        assert rim.mask[~covered].all()
        assert rim.mask.sum() > (~covered).sum()
        assert read_scaffold(bench.job_path(layout.SCAFFOLD_JSON)).views[0].source == "input+generated"
        assert record.metrics["photo_coverage"] == pytest.approx(covered.mean(), abs=1e-4)

    def test_a_white_photo_makes_no_other_hole(self, bench: Workbench) -> None:
        """All white but for one dark pixel in the middle, so that it shows something."""
        white = Image.new("RGB", (96, 72), "white")
        white.paste((0, 0, 0), (44, 32, 52, 40))
        white.save(bench.data / "0.png")
        engine = TextEngine()
        stage_1(bench, engine)
        right_of_the_first_corner = holes_of(engine)[0]
        assert (right_of_the_first_corner.image[:, -1] == 255).all()
        assert not right_of_the_first_corner.mask[:, -1].any()
        assert (views_of(bench)[1][:, -1] == 255).all()

    def test_a_theme_is_put_into_rooms(self, tmp_path: Path) -> None:
        bench = Workbench(tmp_path, [photo_sample(0, theme="castle")])
        engine = TextEngine()
        stage_1(bench, engine, default_theme="office block")
        assert [request.prompt for request in pictures_of(engine)] == [
            "office of a castle",
            "bedroom of a castle",
            "living room of a castle",
        ]

    def test_the_command_gives_a_theme_where_the_sample_has_none(self, tmp_path: Path) -> None:
        bench = Workbench(tmp_path, [photo_sample(0)])
        engine = TextEngine()
        stage_1(bench, engine, default_theme="ship")
        assert pictures_of(engine)[0].prompt == "office of a ship"

    def test_models_are_taken_by_name(self, bench: Workbench) -> None:
        engine = TextEngine()
        record = stage_1(bench, engine, text_to_image="flux2-klein", inpaint="flux1-fill")
        assert set(engine.models) == {"flux2-klein", "flux1-fill"}
        assert holes_of(engine)[0].prompt == "a pier and a harbour"
        assert (record.basis["settings"]["text_to_image"], record.basis["settings"]["inpaint"]) == (
            "flux2-klein",
            "flux1-fill",
        )

    def test_another_seed_is_another_scaffold(self, tmp_path: Path) -> None:
        requests = []
        for seed in (0, 0, 1):
            bench, engine = Workbench(tmp_path / f"{len(requests)}", [sample()]), TextEngine()
            stage_1(bench, engine, seed=seed)
            requests.append([request.seed for request in engine.made])
        assert requests[0] == requests[1]
        assert not set(requests[0]) & set(requests[2])


class TestModes:
    def test_fast_makes_one_of_each(self, bench: Workbench) -> None:
        engine = TextEngine()
        record = stage_1(bench, engine, **FEW)
        assert [request.guidance for request in holes_of(engine)] == [7.0] * 4
        assert "clip" not in engine.models
        assert record.metrics["corner_variants"] == {f"{corner:03d}": "g7_s0" for corner in CORNERS}
        assert "clip_score" not in record.metrics

    def test_automatic_takes_what_both_neighbours_are_most_like(self, bench: Workbench) -> None:
        engine = TextEngine()
        record = stage_1(bench, engine, mode="automatic", **FEW)
        assert [(request.guidance, request.seed) for request in holes_of(engine)] == [
            (guidance, derive_seed(0, "scaffold", "corner", f"{corner:03d}", number))
            for corner in CORNERS
            for guidance in (7.0, 2.0)
            for number in (0, 1)
        ]
        assert engine.scored == [
            (PROMPTS[left // 2], PROMPTS[right // 2]) for left, right in ((2, 0), (4, 2), (6, 4), (0, 6))
        ]
        table = corners_of(bench)
        assert (table["mode"], table["inpaint"]) == ("automatic", "sd2-inpainting")
        assert table["prompts"].keys() == {"002", "004", "006"}
        for corner in CORNERS:
            entry = table["corners"][f"{corner:03d}"]
            assert [one["name"] for one in entry["variants"]] == ["g7_s0", "g7_s1", "g2_s0", "g2_s1"]
            for one in entry["variants"]:
                assert one["score"] == pytest.approx((one["score_left"] + one["score_right"]) / 2, abs=1e-6)
            best = max(entry["variants"], key=lambda one: one["score"])
            assert entry["chosen"] == best["name"] == record.metrics["corner_variants"][f"{corner:03d}"]
            assert record.metrics["clip_score"][f"{corner:03d}"] == best["score"]

    @pytest.mark.parametrize("mode", ["automatic", "manual"])
    def test_a_model_without_guidance_has_a_variant_a_seed(self, bench: Workbench, mode: str) -> None:
        engine = TextEngine()
        settings = {"corner_guidances": CORNER_GUIDANCES, "corner_seeds": 3, "inpaint": "flux2-klein"}
        if mode == "manual":
            with pytest.raises(StageWaitingError):
                stage_1(bench, engine, mode=mode, **settings)
            assert [path.name for path in sorted((bench.job_path("scaffold/picks/001")).iterdir())] == [
                "s0.png",
                "s1.png",
                "s2.png",
            ]
        else:
            record = stage_1(bench, engine, mode=mode, **settings)
            assert record.notes == ["flux2-klein takes no guidance scale: there are 3 variants a corner, one a seed"]
            entry = corners_of(bench)["corners"]["001"]
            assert [(one["name"], one["guidance"]) for one in entry["variants"]] == [
                ("s0", None),
                ("s1", None),
                ("s2", None),
            ]
            assert record.metrics["corner_variants"]["001"] in ("s0", "s1", "s2")
        seeds = [request.seed for request in holes_of(engine)]
        assert len(set(seeds)) == len(seeds) == 4 * 3
        assert {request.guidance for request in holes_of(engine)} == {1.0}

    def test_fast_says_nothing_of_a_guidance_that_it_would_not_vary(self, bench: Workbench) -> None:
        record = stage_1(bench, inpaint="flux2-klein")
        assert record.notes == []
        assert set(record.metrics["corner_variants"].values()) == {"s0"}

    def test_the_chosen_variant_is_the_view(self, bench: Workbench) -> None:
        engine = TextEngine()
        stage_1(bench, engine, mode="automatic", **FEW)
        table, views = corners_of(bench)["corners"], views_of(bench)
        for corner in CORNERS:
            entry = table[f"{corner:03d}"]
            chosen = next(one for one in entry["variants"] if one["name"] == entry["chosen"])
            request = next(
                one for one in holes_of(engine) if (one.seed, one.guidance) == (chosen["seed"], chosen["guidance"])
            )
            expected = waves(f"blend {chosen['seed']} {chosen['guidance']}", SIZE)
            assert (views[corner][request.mask] == expected[request.mask]).all()

    def test_a_scorer_that_fails_silently_is_found_out(self, bench: Workbench) -> None:
        class Mute(TextEngine):
            def score(self, *arguments: Any) -> np.ndarray:
                return super().score(*arguments) * np.float32("nan")

        run = bench.config(scaffold_method="scaffold_gen", scaffold_mode="automatic", **FEW)
        with pytest.raises(StageFailedError, match="no numbers"):
            bench.runner(run, engine=Mute()).run(bench.job(), "scaffold", silent)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[tuple[Any, ...]], dict[str, Any]]:
    """What an automatic run with nothing in its way asks its models for, and the files it ends with."""
    bench, engine = Workbench(tmp_path_factory.mktemp("whole"), [sample()]), TextEngine()
    stage_1(bench, engine, mode="automatic", **ALL_OF_THEM)
    return [describe(one) for one in engine.made], canonical_tree(bench.output)


class TestGoingOn:
    @pytest.mark.parametrize(
        "after", [3 + 44, *(pytest.param(count, marks=pytest.mark.slow) for count in (0, 2, 3, 3 + 88, 3 + 4 * 88 - 1))]
    )
    def test_a_stop_among_the_variants_costs_none(self, tmp_path: Path, whole: Any, after: int) -> None:
        """3 views and 88 variants of each of 4 corners: what was made is not made again, and the end is the same."""
        asked, tree = whole
        assert len(asked) == 3 + 4 * 88
        cut, first = Workbench(tmp_path, [sample()]), TextEngine()
        first.stop_after = after
        with pytest.raises(Stopped):
            stage_1(cut, first, mode="automatic", **ALL_OF_THEM)
        second = TextEngine()
        stage_1(cut, second, mode="automatic", **ALL_OF_THEM)
        assert len(first.made) == after
        assert [describe(one) for one in first.made + second.made] == asked
        assert len(tree) > 20
        assert canonical_tree(cut.output) == tree

    def test_a_variant_that_was_damaged_is_made_again(self, bench: Workbench) -> None:
        first = TextEngine()
        first.stop_after = 10
        with pytest.raises(Stopped):
            stage_1(bench, first, mode="automatic", **FEW)
        (damaged,) = bench.output.rglob("001/g7_s1.png")
        damaged.write_bytes(damaged.read_bytes()[:-20])
        second = TextEngine()
        stage_1(bench, second, mode="automatic", **FEW)
        assert len(first.made) + len(second.made) == 3 + 16 + 1
        seeds = [request.seed for request in holes_of(second) if request.guidance == 7.0]
        assert derive_seed(0, "scaffold", "corner", "001", 1) in seeds

    def test_variants_of_another_view_are_made_again(self, bench: Workbench) -> None:
        """A view that was lost and came out otherwise, as on a GPU it may: its corners no longer fit."""
        first = TextEngine()
        first.stop_after = 3 + 16 - 1
        with pytest.raises(Stopped):
            stage_1(bench, first, mode="automatic", **FEW)
        (lost,) = bench.output.rglob("work/views/002.png")
        lost.unlink()

        class Otherwise(TextEngine):
            def generate(self, requests: Any, progress: Any) -> Any:
                return super().generate([replace(one, prompt=one.prompt + "!") for one in requests], progress)

        second = Otherwise()
        stage_1(bench, second, mode="automatic", **FEW)
        assert len(pictures_of(second)) == 1
        assert len(holes_of(second)) == 4 + 4 + 1  # both corners beside 002, and the one that was never made


class TestWhatFails:
    def test_no_text_at_all(self, tmp_path: Path) -> None:
        bench, engine = Workbench(tmp_path, [photo_sample(0)]), TextEngine()
        error = failure(bench, engine)
        assert error.error_class.value == "user"
        assert error.message.startswith("no prompts")
        assert error.where == "sample 0"
        assert "--default_theme" in error.remedy
        assert engine.models == []

    def test_an_engine_without_the_models(self, bench: Workbench) -> None:
        error = failure(bench, SmallEngine())
        assert error.error_class.value == "user"
        assert "text" in error.message

    def test_a_model_that_shows_nothing(self, bench: Workbench) -> None:
        class Blind(TextEngine):
            def generate(self, requests: Any, progress: Any) -> Any:
                return (np.zeros((SIZE, SIZE, 3), np.uint8) for _ in requests)

        engine = Blind()
        error = failure(bench, engine)
        assert error.error_class.value == "defect"
        assert "002 is of one colour" in error.message
        assert holes_of(engine) == []

    def test_a_model_that_leaves_some_out(self, bench: Workbench) -> None:
        class Lazy(TextEngine):
            def generate(self, requests: Any, progress: Any) -> Any:
                return super().generate(requests[:-1], progress)

        assert failure(bench, Lazy()).error_class.value == "defect"


def describe(request: TextToImageRequest | InpaintRequest) -> tuple[Any, ...]:
    if isinstance(request, TextToImageRequest):
        return (request.prompt, request.seed)
    return (request.seed, request.guidance, request.image.tobytes())
