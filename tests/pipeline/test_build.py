"""Building and compiling: which stages there may be, and what the build settings change."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from pipelines.build import STAGE_SETS, build_pipeline
from pipelines.compile import COMPILED, compile_all, compile_pipeline, compiled_path
from pipelines.package import Package, Task, read_package
from pipelines.parameters import CLUSTER_PARAMETERS, RUN_PARAMETERS
from pipelines.settings import BuildSettings
from worldexplorer.config import STAGE_NAMES
from worldexplorer.errors import UsageError
from worldexplorer.pod.parameters import flag_parameters
from worldexplorer.pod.plan import read_stages

pytestmark = pytest.mark.slow

SETS = [stages for count in range(4) for stages in itertools.combinations((1, 2, 3), count)]
WITH_A_GAP = [(), (1, 3)]
OTHER = BuildSettings(
    parallelism=17,
    shared_memory="3Gi",
    scratch="7Ti",
    plan_timeout=11,
    scaffold_timeout=12,
    trajectory_timeout=13,
    splat_timeout=14,
    retries=5,
)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """The pipeline of all stages with settings of which none is its default."""
    path = tmp_path_factory.mktemp("other") / "package.yaml"
    compile_pipeline((1, 2, 3), path, OTHER)
    return read_package(path)


@pytest.fixture(scope="module")
def pods(package: Package) -> dict[str, Task]:
    """The tasks that are containers, by their own names."""
    return {task.name: task for task in package.tasks() if task.container}


class TestStages:
    @pytest.mark.parametrize("stages", SETS)
    def test_sets_without_a_gap_are_pipelines(self, stages: tuple[int, ...], tmp_path: Path) -> None:
        if stages in WITH_A_GAP:
            with pytest.raises(UsageError, match=r"there is no pipeline of stages.*take stages without a gap"):
                build_pipeline(stages)
            return
        path = tmp_path / "deep" / "package.yaml"
        compile_pipeline(stages, path)
        names = {task.name for task in read_package(path).tasks()}
        assert names & set(STAGE_NAMES.values()) == {STAGE_NAMES[number] for number in stages}

    def test_order_and_repetition_do_not_matter(self, tmp_path: Path) -> None:
        compile_pipeline((3, 2, 3), tmp_path / "a.yaml")
        assert (tmp_path / "a.yaml").read_bytes() == compiled_path((2, 3)).read_bytes()
        assert compiled_path((3, 2, 3)) == compiled_path((2, 3)) == COMPILED / "worldexplorer_23.yaml"

    @pytest.mark.parametrize("stages", [(0,), (4,), (1, 2, 3, 4), (2, 4)])
    def test_unknown_stages_are_refused(self, stages: tuple[int, ...]) -> None:
        with pytest.raises(UsageError, match="there is no pipeline of stages"):
            build_pipeline(stages)

    def test_planning_pod_takes_the_same_sets(self) -> None:
        assert all(read_stages(" ".join(map(str, stages))) == stages for stages in STAGE_SETS)
        assert {stages for stages in SETS if stages not in WITH_A_GAP} == set(STAGE_SETS)


class TestCommittedPackages:
    @pytest.mark.parametrize("stages", STAGE_SETS)
    def test_they_are_what_the_code_compiles_to(self, stages: tuple[int, ...], tmp_path: Path) -> None:
        compile_pipeline(stages, tmp_path / "package.yaml")
        assert (tmp_path / "package.yaml").read_text() == compiled_path(stages).read_text(), (
            "run `python -m pipelines compile` and commit pipelines/compiled"
        )

    def test_compiling_writes_them_all(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("pipelines.compile.COMPILED", tmp_path / "new")
        assert compile_all() == [tmp_path / "new" / path.name for path in map(compiled_path, STAGE_SETS)]
        assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(p.name for p in COMPILED.iterdir())


class TestSettings:
    def test_none_of_this_test_is_its_default(self) -> None:
        for name, value in vars(BuildSettings()).items():
            assert getattr(OTHER, name) != value, name

    def test_parallelism(self, package: Package) -> None:
        (loop,) = (task for task in package.tasks() if task.is_loop)
        assert loop.specification["iteratorPolicy"] == {"parallelismLimit": 17}

    def test_timeouts(self, pods: dict[str, Task]) -> None:
        timeouts = {name: int(task.kubernetes["activeDeadlineSeconds"]) for name, task in pods.items()}
        assert timeouts == {"plan": 11, "batch-summary": 11, "scaffold": 12, "trajectory": 13, "splat": 14}

    def test_folders_of_a_pod(self, pods: dict[str, Task]) -> None:
        for name, task in pods.items():
            mounts = {mount["mountPath"]: mount for mount in task.kubernetes["emptyDirMounts"]}
            assert mounts["/scratch"]["sizeLimit"] == "7Ti"
            if name in STAGE_NAMES.values():
                assert (mounts["/dev/shm"]["sizeLimit"], mounts["/dev/shm"]["medium"]) == ("3Gi", "Memory")
            else:
                assert list(mounts) == ["/scratch"]

    def test_retries(self, pods: dict[str, Task]) -> None:
        for task in pods.values():
            policy = task.specification["retryPolicy"]
            assert policy["maxRetryCount"] == 5
            assert (policy["backoffDuration"], policy["backoffMaxDuration"]) == ("30s", "300s")

    def test_no_retries(self, tmp_path: Path) -> None:
        compile_pipeline((1,), tmp_path / "package.yaml", BuildSettings(retries=0))
        tasks = list(read_package(tmp_path / "package.yaml").tasks())
        assert tasks and not any("retryPolicy" in task.specification for task in tasks)

    def test_run_parameters_do_not_depend_on_them(self, package: Package) -> None:
        assert package.root.parameters == read_package(compiled_path((1, 2, 3))).root.parameters

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"parallelism": 0}, "parallelism is 0.*a whole number from 1"),
            ({"splat_timeout": -5}, "splat_timeout is -5.*a whole number from 1"),
            ({"retries": -1}, "retries is -1.*a whole number from 0"),
            ({"scratch": "much"}, "scratch is 'much', which is no size.*8Gi"),
            ({"shared_memory": "0Gi"}, "shared_memory is '0Gi'"),
            ({"shared_memory": "8"}, "shared_memory is '8'"),
        ],
    )
    def test_settings_that_no_cluster_takes(self, settings: dict[str, Any], message: str) -> None:
        with pytest.raises(UsageError, match=message):
            BuildSettings(**settings)


class TestParameters:
    def test_settings_of_the_command_come_first(self) -> None:
        assert list(RUN_PARAMETERS.values()) == [*flag_parameters(), *CLUSTER_PARAMETERS]

    def test_signature_carries_help_and_defaults(self) -> None:
        """What a notebook shows of the pipeline before it is compiled."""
        pipeline = build_pipeline((1, 2, 3))
        inputs = pipeline.component_spec.inputs
        assert set(inputs) == set(RUN_PARAMETERS)
        assert list(inputs)[:2] == ["dataset_dir", "output_base"]
        for name, one in RUN_PARAMETERS.items():
            assert inputs[name].default == one.default, name
            assert " ".join(inputs[name].description.split()) == one.help, name
            assert inputs[name].optional is (one.default is not None), name

    def test_cluster_parameters_are_texts_where_the_cluster_reads_texts(self) -> None:
        """A number as a GPU count would be read as none."""
        kinds = {one.name: one.kind for one in CLUSTER_PARAMETERS}
        assert {name for name, kind in kinds.items() if kind != "string"} == {"node_selector", "tolerations"}
