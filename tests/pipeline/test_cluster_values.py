"""What the cluster would refuse, or could not run, is refused before anything is sent."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.arguments import check_values, run_values
from pipelines.parameters import RUN_PARAMETERS
from pipelines.profiles import load_profile, profile_names
from worldexplorer.errors import UsageError

PLACES = {"dataset_dir": "gs://sets/one", "output_base": "gs://worlds/one"}


def values(profile: str = "any-gpu", **given: Any) -> dict[str, Any]:
    return run_values(RUN_PARAMETERS, load_profile(profile).parameters, {**PLACES, **given})


@pytest.mark.parametrize("profile", profile_names())
def test_every_profile_of_the_project_passes(profile: str) -> None:
    check_values(values(profile), (1, 2, 3))


@pytest.mark.parametrize(
    "given",
    [
        {"cpu": ""},
        {"cpu": "0"},
        {"cpu": "four"},
        {"memory": "28 GB"},
        {"memory": ""},
        {"gpu_count": ""},
        {"gpu_count": "1.5"},
        {"gpu_type": " "},
        {"hf_secret": ""},
        {"image_splat": ""},
        {"gpu_count": "0"},
        {"engine": "preview"},
        {"splat_trainer": "nerfstudio"},
    ],
    ids=str,
)
def test_what_no_pod_could_start_with_is_refused(given: dict[str, str]) -> None:
    with pytest.raises(UsageError) as caught:
        check_values(values(**given), (1, 2, 3))
    assert next(iter(given)) in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize(("name", "value"), [("cpu", "3500m"), ("cpu", "0.5"), ("memory", "64G"), ("memory", "1.5Ti")])
def test_quantities_are_understood(name: str, value: str) -> None:
    check_values(values(**{name: value}), (1, 2, 3))


def test_the_image_of_a_trainer_can_be_named() -> None:
    check_values(values(splat_trainer="nerfstudio", image_splat="worldexplorer-splat-nerfstudio:1"), (1, 2, 3))
