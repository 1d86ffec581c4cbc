"""What a sample says wins over the command, that over the scene type and the engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from builders import SmallEngine, Workbench, photo_sample

from worldexplorer import overrides
from worldexplorer.config import ScaffoldConfig, TrajectoryConfig
from worldexplorer.dataset import Job


@pytest.fixture
def job(tmp_path: Path, request: pytest.FixtureRequest) -> Job:
    sample: dict[str, Any] = photo_sample(0, **getattr(request, "param", {}))
    return Workbench(tmp_path, [sample]).job()


SILENT = {"scene_type": None}
SAYS = {
    "scene_type": "outdoor",
    "expansion": {"translation_scaling_factor": 5.0, "trajectory_order": ["up", "in"], "num_images_for_vggt": 12},
    "scaffold": {"mode": "manual"},
    "theme": "own",
}


@pytest.mark.parametrize(
    ("job", "said", "expected"),
    [
        ({}, None, 3.0),
        ({"scene_type": "indoor"}, None, 3.0),
        ({"scene_type": "outdoor"}, None, 10.0),
        ({"scene_type": "cave"}, None, 3.0),
        ({"scene_type": "outdoor"}, 4.0, 4.0),
        (SAYS, None, 5.0),
        (SAYS, 4.0, 5.0),
    ],
    indirect=["job"],
)
def test_translation_scaling(job: Job, said: float | None, expected: float) -> None:
    assert overrides.translation_scaling(job, TrajectoryConfig(translation_scaling_factor=said)) == expected


@pytest.mark.parametrize(
    ("job", "said", "expected"),
    [({}, None, None), ({}, ("left",), ("left",)), (SAYS, ("left",), ("up", "in"))],
    indirect=["job"],
)
def test_trajectory_order(job: Job, said: tuple[str, ...] | None, expected: tuple[str, ...] | None) -> None:
    assert overrides.trajectory_order(job, TrajectoryConfig(trajectory_order=said)) == expected


@pytest.mark.parametrize(
    ("job", "said", "expected"),
    [({}, None, SmallEngine.defaults.num_images_for_vggt), ({}, 5, 5), (SAYS, 5, 12)],
    indirect=["job"],
)
def test_num_images_for_vggt(job: Job, said: int | None, expected: int) -> None:
    config = TrajectoryConfig(num_images_for_vggt=said)
    assert overrides.num_images_for_vggt(job, config, SmallEngine()) == expected


@pytest.mark.parametrize(("job", "expected"), [({}, "automatic"), (SAYS, "manual")], indirect=["job"])
def test_scaffold_mode(job: Job, expected: str) -> None:
    assert overrides.scaffold_mode(job, ScaffoldConfig(scaffold_mode="automatic")) == expected


@pytest.mark.parametrize(("job", "expected"), [({}, "default"), (SAYS, "own")], indirect=["job"])
def test_theme(job: Job, expected: str) -> None:
    assert overrides.theme(job, ScaffoldConfig(default_theme="default")) == expected
