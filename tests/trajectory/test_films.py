"""Films of a scene: there and back, one path through all of it, and no jump."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import (
    Workbench,
    no_waiting_for_the_disk,  # noqa: F401 (a fixture that is used without being named)
    photo_sample,
    write_views,
)
from tiny_engine import TinyEngine

from worldexplorer import layout
from worldexplorer.engine import StageDefaults
from worldexplorer.inputs import RecordedInputs
from worldexplorer.layout import JobId
from worldexplorer.pictures import read_picture, write_pictures
from worldexplorer.progress import silent
from worldexplorer.trajectory import films
from worldexplorer.trajectory.shots import Shot

imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")

SIZE = 32


def read(path: Path) -> list[np.ndarray]:
    reader = imageio_ffmpeg.read_frames(str(path))
    width, height = next(reader)["size"]
    return [np.frombuffer(raw, np.uint8).reshape(height, width, 3) for raw in reader]


def grey(level: int) -> np.ndarray:
    return np.full((SIZE, SIZE, 3), level, dtype=np.uint8)


def levels(frames: list[np.ndarray]) -> list[int]:
    """The grey of each frame, to the nearest ten: films round a little."""
    return [round(float(frame.mean()) / 10) * 10 for frame in frames]


def test_a_trajectory_goes_there_and_back(tmp_path: Path) -> None:
    films.write_walk(tmp_path, np.stack([grey(level) for level in (20, 60, 100, 140)]))
    assert levels(read(tmp_path / "walk.mp4")) == [20, 60, 100, 140, 100, 60, 20]


def test_a_single_frame_is_a_film_too(tmp_path: Path) -> None:
    films.write_walk(tmp_path, grey(50)[None])
    assert levels(read(tmp_path / "walk.mp4")) == [50]


def test_the_path_through_all_leaves_out_what_is_empty(tmp_path: Path) -> None:
    def shot(folder: str, shades: list[int]) -> Shot:
        paths: list[Path] = []
        if shades:
            frames = np.stack([grey(level) for level in shades])
            paths = write_pictures(tmp_path / folder / "samples-rgb", frames)
            films.write_walk(tmp_path / folder, frames)
        return Shot(folder, tuple(paths), np.tile(np.eye(4), (len(shades), 1, 1)), None)

    shots = [shot("000_in", [10, 30, 50]), shot("000_a_b", []), shot("001_in", []), shot("001_a_b", [70, 90])]
    turns = [np.stack([grey(200), grey(220)]), np.stack([grey(150)] * 30)]
    films.write_walkthrough(tmp_path, shots, turns, tmp_path / "work")
    expected = [10, 30, 50, 30, 10] + [200] * 15 + [220] * 15 + [70, 90, 70] + [150] * 30
    assert levels(read(tmp_path / "walkthrough.mp4")) == expected
    before = (tmp_path / "walkthrough.mp4").read_bytes()
    films.write_walkthrough(tmp_path, shots, turns, tmp_path / "elsewhere")
    assert (tmp_path / "walkthrough.mp4").read_bytes() == before


class LongEngine(TinyEngine):
    """Trajectories of full length."""

    defaults = StageDefaults(8, None, 64, 0, sampling_frames=21)


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    return Workbench(tmp_path)


def scaffold_inputs(bench: Workbench) -> RecordedInputs:
    return RecordedInputs(bench.storage, JobId(0, "photorealistic"), "scaffold")


def test_turns_show_what_stage_1_made_on_the_way(bench: Workbench) -> None:
    bench.runner(bench.config(num_seva_frames=24)).run(bench.job(), "scaffold", silent)
    views = np.zeros((8, 16, 16, 3), dtype=np.uint8)
    turns = films.turns_of(scaffold_inputs(bench), views)
    assert [len(turn) for turn in turns] == [3] * 8
    for view, turn in enumerate(turns):
        assert not turn[0].any()
        for place in (1, 2):
            path = bench.job_path(f"{layout.GENERATED_VIEWS}/{3 * view + place:03d}.png")
            assert (turn[place] == read_picture(path)).all()


def test_without_frames_on_the_way_a_view_fades_into_the_next(tmp_path: Path) -> None:
    write_views(tmp_path / "views")
    bench = Workbench(
        tmp_path, [photo_sample(0, photorealistic={"path": "0.png", "scaffold_path": str(tmp_path / "views")})]
    )
    bench.runner().run(bench.job(), "scaffold", silent)
    views = np.stack([np.full((16, 16, 3), 20 * view, dtype=np.uint8) for view in range(8)])
    turns = films.turns_of(scaffold_inputs(bench), views)
    assert [len(turn) for turn in turns] == [30] * 8
    assert [turns[2][place, 0, 0, 0] for place in (0, 15, 29)] == [40, 50, 59]
    assert turns[7][29, 0, 0, 0] < 10


@pytest.mark.slow
def test_a_scene_has_its_films(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a run that was killed before one of them was written writes it too."""
    runner = bench.runner(engine=LongEngine())
    for stage in ("scaffold", "trajectory"):
        record = runner.run(bench.job(), stage, silent)
    folder = bench.job_path(record.outputs["scene_path"])
    assert len(read(folder / "000_in" / "walk.mp4")) == 89
    assert len(read(folder / "walkthrough.mp4")) == 8 * (89 + 30)
    names = {Path(entry.path).name for entry in record.files}
    assert {"walk.mp4", "walkthrough.mp4"} <= names

    def lost(folder: Path, frames: Any) -> None:
        """Killed before this film was written."""

    content = record.content
    monkeypatch.setattr("worldexplorer.trajectory.stage._film_of", lambda engine: lost)
    again = bench.runner(bench.config(only_stages=(2,), force=True), engine=LongEngine())
    assert again.run(bench.job(), "trajectory", silent).content == content


def test_shortened_trajectories_make_no_films(bench: Workbench) -> None:
    runner = bench.runner()
    for stage in ("scaffold", "trajectory"):
        record = runner.run(bench.job(), stage, silent)
    assert not [entry.path for entry in record.files if entry.path.endswith(".mp4")]
