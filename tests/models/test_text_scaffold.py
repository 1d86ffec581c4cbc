"""Stage 1 from text on the full engine: every model loaded from a folder of tiny weights by the real code."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import (
    Workbench,
    no_waiting_for_the_disk,  # noqa: F401 (a fixture that is used without being named)
    photo_sample,
)
from tiny_pipelines import save_clip, save_flux, save_klein, save_sd2

from worldexplorer import layout
from worldexplorer.engine import Engine, InpaintRequest, TextToImageRequest
from worldexplorer.errors import ErrorClass
from worldexplorer.models import pipelines, prompt_score
from worldexplorer.models.engine import FullEngine
from worldexplorer.models.picture_models import TextSettings
from worldexplorer.pictures import read_pictures
from worldexplorer.progress import silent
from worldexplorer.records import StageRecord
from worldexplorer.stage import StageFailedError, StageWaitingError

PROMPTS = ["a harbour", "a pier", "the open sea", "a beach"]
FEW = {"corner_guidances": (7.0, 2.0), "corner_seeds": 2}
SIZE = 64
QUICK = TextSettings(text_to_image_steps=1, inpaint_steps=1)


class SmallFullEngine(FullEngine):
    image_size = SIZE


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("weights")
    save_flux(root / "flux1-dev")
    save_klein(root / "flux2-klein")
    save_sd2(root / "sd2-inpainting")
    save_clip(root / "prompt-score")
    return root


@pytest.fixture(autouse=True)
def _no_gpu_needed(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLDEXPLORER_WEIGHTS", str(weights))
    for module in (pipelines, prompt_score):
        monkeypatch.setattr(module, "first_gpu", lambda title: torch.device("cpu"))


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    return Workbench(tmp_path, [photo_sample(0, scaffold={"prompts": PROMPTS})])


def stage_1(bench: Workbench, engine: Engine, mode: str, *, photo: bool = True, **settings: Any) -> StageRecord:
    run = bench.config(scaffold_method="scaffold_gen", scaffold_mode=mode, engine="full", **settings)
    job = bench.job() if photo else replace(bench.job(), image=None)
    return bench.runner(run, engine=engine).run(job, "scaffold", silent)


def views_of(bench: Workbench) -> np.ndarray:
    return read_pictures(sorted(bench.job_path(layout.SCAFFOLD_FINAL).iterdir()))


def test_fast_makes_eight_views(bench: Workbench) -> None:
    record = stage_1(bench, SmallFullEngine(text=QUICK), "fast", photo=False)
    views = views_of(bench)
    assert views.shape == (8, SIZE, SIZE, 3)
    assert len({view.tobytes() for view in views}) == 8
    assert record.basis["engine"]["text_to_image"]["flux1-dev"]["steps"] == 1


def test_automatic_takes_the_best_scored(bench: Workbench) -> None:
    record = stage_1(bench, SmallFullEngine(text=QUICK), "automatic", **FEW)
    chosen = json.loads(bench.job_path(layout.SCAFFOLD_CORNERS).read_text())["corners"]
    for corner in chosen.values():
        scores = {one["name"]: one["score"] for one in corner["variants"]}
        assert len(scores) == 4
        assert scores[corner["chosen"]] == max(scores.values())
    assert set(record.metrics["clip_score"]) == {"001", "003", "005", "007"}


def test_manual_asks(bench: Workbench) -> None:
    with pytest.raises(StageWaitingError, match=r"picks\.json"):
        stage_1(bench, SmallFullEngine(text=QUICK), "manual", **FEW)


def test_a_person_picks_and_nothing_is_made_again(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StageWaitingError):
        stage_1(bench, SmallFullEngine(text=QUICK), "manual", **FEW)
    form = bench.job_path("scaffold/picks/picks.json")
    answer = json.loads(form.read_text())
    answer["picks"] = dict(zip(answer["picks"], ("g2_s1", "g7_s0", "g7_s1", "g2_s0"), strict=True))
    form.write_text(json.dumps(answer))
    monkeypatch.setattr(pipelines, "first_gpu", lambda title: pytest.fail("a model was loaded"))
    record = stage_1(bench, SmallFullEngine(text=QUICK), "manual", **FEW)
    assert list(record.metrics["corner_variants"].values()) == ["g2_s1", "g7_s0", "g7_s1", "g2_s0"]
    assert len({view.tobytes() for view in views_of(bench)}) == 8


class Stopped(BaseException):
    """Nothing that catches errors catches it."""


class CountingInpainting:
    """The real model, which stops after so many pictures."""

    def __init__(self, model: Any, most: int) -> None:
        self._model = model
        self.left = most
        self.made = 0

    def inpaint(self, requests: Any, progress: Any) -> Any:
        for picture in self._model.inpaint(requests, progress):
            if self.made == self.left:
                raise Stopped
            self.made += 1
            yield picture


@pytest.mark.slow
def test_a_stop_in_the_middle_of_88_variants_costs_none(bench: Workbench, tmp_path: Path) -> None:
    class Counted(SmallFullEngine):
        def __init__(self, most: int) -> None:
            super().__init__(text=QUICK)
            self.counting = CountingInpainting(super().inpaint("sd2-inpainting"), most)

        def inpaint(self, name: str) -> Any:
            return self.counting

    whole = Workbench(tmp_path / "whole", [photo_sample(0, scaffold={"prompts": PROMPTS})])
    expected = stage_1(whole, Counted(10_000), "automatic")
    first, second = Counted(88 + 50), Counted(10_000)
    with pytest.raises(Stopped):
        stage_1(bench, first, "automatic")
    record = stage_1(bench, second, "automatic")
    assert (first.counting.made, second.counting.made) == (138, 4 * 88 - 138)
    assert record.metrics == expected.metrics
    assert (views_of(bench) == views_of(whole)).all()


def test_the_permissive_models_do_it_all(bench: Workbench) -> None:
    text = replace(QUICK, text_to_image="flux2-klein", inpaint="flux2-klein", commercial=True)
    stage_1(bench, SmallFullEngine(text=text), "fast", text_to_image="flux2-klein", inpaint="flux2-klein")
    assert len(views_of(bench)) == 8


def test_a_missing_weight_file_is_named(bench: Workbench, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("WORLDEXPLORER_WEIGHTS", str(tmp_path / "empty"))
    with pytest.raises(StageFailedError) as caught:
        stage_1(bench, SmallFullEngine(text=QUICK), "fast")
    error = caught.value.record.error
    assert error is not None
    assert error.error_class is ErrorClass.USER
    assert "flux1-dev/model_index.json" in error.where


class TestEngine:
    def test_models_are_made_once_and_loaded_when_they_work(self, tmp_path: Path, monkeypatch) -> None:
        monkeypatch.setenv("WORLDEXPLORER_WEIGHTS", str(tmp_path))
        engine: Engine = FullEngine()
        assert engine.text_to_image("flux1-dev") is engine.text_to_image("flux1-dev")
        assert engine.inpaint("flux2-klein") is not engine.text_to_image("flux2-klein")
        assert engine.prompt_scorer() is engine.prompt_scorer()

    def test_steps_are_those_of_the_command_for_the_model_it_names(self) -> None:
        engine = FullEngine(text=TextSettings(text_to_image_steps=50, inpaint="flux2-klein", inpaint_steps=9))
        assert engine.text_to_image("flux1-dev").steps == 50
        assert engine.text_to_image("flux2-klein").steps == 4
        assert engine.inpaint("flux2-klein").steps == 9
        assert engine.inpaint("sd2-inpainting").steps == 50

    def test_a_fingerprint_changes_with_the_steps(self) -> None:
        plain = FullEngine().describe()
        assert FullEngine(text=TextSettings(text_to_image="flux2-klein", commercial=True)).describe() == plain
        assert FullEngine(text=TextSettings(text_to_image_steps=100)).describe() == plain
        for text in (TextSettings(text_to_image_steps=50), TextSettings(inpaint_steps=20)):
            assert FullEngine(text=text).describe() != plain
        assert plain["text_to_image"]["flux1-dev"] == {"steps": 100, "guidance": 3.5, "precision": "bfloat16"}
        assert plain["weights"]["flux1-dev"]["repository"] == "black-forest-labs/FLUX.1-dev"

    def test_a_chain_of_models_shares_one_card(self, weights: Path) -> None:
        engine = FullEngine(text=QUICK)
        request = TextToImageRequest("a harbour", 1, SIZE)
        picture = next(engine.text_to_image("flux1-dev").generate([request], silent))
        hole = np.zeros((SIZE, SIZE), dtype=np.bool_)
        hole[:, 20:] = True
        filled = next(
            engine.inpaint("sd2-inpainting").inpaint([InpaintRequest(picture, hole, "blend", "", 7.0, 1)], silent)
        )
        assert engine.prompt_scorer().score(filled[None], ["a harbour"], silent).shape == (1, 1)

    def test_the_check_names_models_gpu_memory_and_weights(self, tmp_path: Path, monkeypatch, gpu_seen) -> None:
        monkeypatch.setenv("WORLDEXPLORER_WEIGHTS", str(tmp_path))
        gpu_seen(0, names=())
        missing = FullEngine().check([1], "scaffold_gen", "pan-in-place")
        assert missing[0].startswith("FLUX.1-dev and Stable Diffusion 2 inpainting need a CUDA GPU")
        roles = ["views from text", "inpainting", "scores of the corner views"]
        assert [line.split(":")[0] for line in missing[1:]] == roles
        gpu_seen(12)
        missing = FullEngine().check([1], "scaffold_gen", "pan-in-place")
        assert missing[0].startswith("too little GPU memory for FLUX.1-dev: 12.0 GiB are free, 2")
        assert "--text_to_image flux2-klein" in missing[0]
        assert not any("too little" in line for line in missing[1:])

    def test_the_check_is_empty_where_all_is_there(self, gpu_seen) -> None:
        gpu_seen(79)
        assert FullEngine().check([1], "scaffold_gen", "pan-in-place") == []
