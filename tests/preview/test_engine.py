"""The preview engine as the stages see it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from worldexplorer.config import BatchConfig, RunConfig
from worldexplorer.engine import Engine, Views
from worldexplorer.engines import load_engine
from worldexplorer.errors import DefectError, UsageError
from worldexplorer.geometry.cameras import horizontal_fov, normalised_intrinsics
from worldexplorer.preview.engine import PreviewEngine
from worldexplorer.preview.presets import PRESETS
from worldexplorer.preview.world import World
from worldexplorer.progress import silent
from worldexplorer.scaffold.poses import prior_names, scaffold_poses

SIZE = 64


@pytest.fixture(scope="module")
def engine() -> PreviewEngine:
    return PreviewEngine(preset="smoke", seed=0)


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """Sky over hills over grass, with some texture."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[0:SIZE, 0:SIZE]
    hill = rows > SIZE * (0.45 + 0.08 * np.sin(columns / 9))
    grass = rows > SIZE * 0.7
    colours = np.where(hill[..., None], (90, 80, 60), (150, 190, 240))
    colours = np.where(grass[..., None], (60, 120, 50), colours)
    noise = rng.normal(0, 12, (SIZE, SIZE, 1)) * hill[..., None]
    return np.clip(colours + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def world(engine: PreviewEngine, photo: np.ndarray) -> World:
    return engine.build_world(photo, horizontal_fov(normalised_intrinsics()), "outdoor", silent)


def scaffold_views(engine: PreviewEngine, world: World) -> Views:
    intrinsics = np.tile(normalised_intrinsics(), (8, 1, 1))
    return Views(engine._renderers.of(world).render(scaffold_poses(), intrinsics, SIZE), scaffold_poses(), intrinsics)


@pytest.mark.parametrize("preset", list(PRESETS))
def test_it_is_what_a_preview_run_loads(preset: str) -> None:
    loaded: Engine = load_engine(RunConfig(BatchConfig(dataset_dir="data", engine="preview", preset=preset)))
    assert isinstance(loaded, PreviewEngine)
    assert loaded.name == "preview"
    assert "synthesised" in loaded.label
    assert loaded.image_size == PRESETS[preset].image_size
    assert loaded.defaults.point_count == PRESETS[preset].gaussians


def test_an_unknown_preset_is_a_mistake_of_the_command() -> None:
    with pytest.raises(UsageError, match=r"'huge'.*smoke, quick, default, quality"):
        PreviewEngine(preset="huge", seed=0)


def test_its_description_is_json_and_changes_with_what_it_makes() -> None:
    descriptions = [
        json.dumps(PreviewEngine(preset, seed).describe(), sort_keys=True)
        for preset, seed in (("smoke", 0), ("quick", 0), ("smoke", 1), ("smoke", 0))
    ]
    assert descriptions[0] == descriptions[3]
    assert len(set(descriptions)) == 3
    training = json.loads(descriptions[0])["training"]
    assert training["gaussians"] == PRESETS["smoke"].gaussians
    assert training["iterations_full"] == PRESETS["smoke"].iterations_full


@pytest.mark.parametrize("prior", prior_names())
def test_it_runs_every_prior_from_a_photo(engine: PreviewEngine, prior: str) -> None:
    assert engine.check([1, 2, 3], "single_image", prior) == []


def test_it_says_that_it_cannot_start_from_text(engine: PreviewEngine) -> None:
    (sentence,) = engine.check([1], "scaffold_gen", "pan-in-place")
    assert "text-to-image" in sentence
    assert "--engine full" in engine.remedy
    assert engine.check([2, 3], "scaffold_gen", "pan-in-place") == []


def test_the_photo_stands_ahead_in_its_world(engine: PreviewEngine, world: World, photo: np.ndarray) -> None:
    ahead = scaffold_views(engine, world).images[0]
    assert np.abs(ahead.astype(float) - photo).mean() < 6


def test_a_world_comes_back_from_its_folder(engine: PreviewEngine, world: World, tmp_path: Path) -> None:
    world.save(tmp_path)
    loaded = engine.load_world(tmp_path, scaffold_views(engine, world))
    np.testing.assert_array_equal(loaded.panorama, world.panorama)
    np.testing.assert_array_equal(loaded.range_m, world.range_m)


def test_a_damaged_folder_is_not_replaced_in_silence(engine: PreviewEngine, world: World, tmp_path: Path) -> None:
    with pytest.raises(DefectError, match=str(tmp_path)):
        engine.load_world(tmp_path, scaffold_views(engine, world))


@pytest.mark.slow
def test_without_a_folder_the_eight_views_make_the_world(engine: PreviewEngine, world: World) -> None:
    views = scaffold_views(engine, world)
    stitched = engine.load_world(None, views)
    assert stitched.panorama.shape == world.panorama.shape
    again = scaffold_views(engine, stitched).images
    assert np.abs(again.astype(float) - views.images).mean() < 6


def test_the_caps_are_a_trajectory_of_its_own(engine: PreviewEngine) -> None:
    extra = engine.extra_trajectories(10.0)
    assert {name: len(poses) for name, poses in extra.items()} == {"caps": 12}


def test_its_models_share_one_mesh(engine: PreviewEngine, world: World) -> None:
    views = scaffold_views(engine, world)
    before = engine._renderers.of(world)
    engine.depth().depth(views, world, 3.0)
    engine.geometry().points(views, world, 3.0)
    assert engine._renderers.of(world) is before


@pytest.mark.parametrize(
    "ask",
    [
        lambda one: one.text_to_image("flux1-dev"),
        lambda one: one.inpaint("sd2-inpainting"),
        lambda one: one.prompt_scorer(),
    ],
)
def test_it_makes_nothing_from_text_and_says_what_to_take(engine: PreviewEngine, ask: Callable[[Any], Any]) -> None:
    with pytest.raises(UsageError, match="text-to-image") as caught:
        ask(engine)
    assert "single_image" in caught.value.remedy
    assert "--engine full" in caught.value.remedy
