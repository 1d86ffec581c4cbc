"""Profiles: those of the project can be used, and any file is checked before it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from components.container import image_reference
from pipelines.arguments import require_type
from pipelines.build import build_pipeline
from pipelines.parameters import RUN_PARAMETERS
from pipelines.profiles import FOLDER, load_profile, profile_names
from pipelines.settings import BuildSettings
from worldexplorer.errors import UsageError
from worldexplorer.pod.parameters import flag_parameters, read_run


def write(folder: Path, text: str) -> str:
    path = folder / "own.yaml"
    path.write_text(text)
    return str(path)


class TestProjectProfiles:
    def test_names_are_those_of_the_files(self) -> None:
        assert profile_names() == ["any-gpu", "cpu-preview", "gke-a100", "gke-h100", "gke-l4-spot"]

    @pytest.mark.slow
    @pytest.mark.parametrize("name", profile_names())
    def test_each_can_be_used(self, name: str) -> None:
        profile = load_profile(name)
        assert profile.name == name
        assert profile.description.endswith(".") or profile.description
        for key, value in profile.parameters.items():
            require_type(RUN_PARAMETERS[key], value, name)
        assert not {"dataset_dir", "output_base", "indices"} & profile.parameters.keys()
        build_pipeline((1, 2, 3), profile.build)

    @pytest.mark.parametrize("name", profile_names())
    def test_planning_pod_takes_its_settings(self, name: str) -> None:
        flags = {one.name: one.default for one in flag_parameters()}
        said = {key: value for key, value in load_profile(name).parameters.items() if key in flags}
        run = read_run({**flags, "dataset_dir": "gs://a/b", "output_base": "gs://c/d", **said}, (1, 2, 3))
        assert run.batch.engine == said["engine"]

    @pytest.mark.parametrize("name", profile_names())
    def test_gpus_and_engine_fit(self, name: str) -> None:
        parameters = load_profile(name).parameters
        assert (parameters["gpu_count"] == "0") == (parameters["engine"] == "preview")
        tolerated = {one["key"] for one in parameters["tolerations"]}
        assert ("nvidia.com/gpu" in tolerated) == (parameters["engine"] == "full")

    @pytest.mark.parametrize("name", profile_names())
    def test_shared_memory_leaves_room(self, name: str) -> None:
        """It counts towards the memory of the pod."""
        profile = load_profile(name)
        shared, memory = (
            int(text.removesuffix("Gi")) for text in (profile.build.shared_memory, profile.parameters["memory"])
        )
        assert shared <= memory // 3

    def test_preview_needs_no_image_but_the_small_one(self) -> None:
        parameters = load_profile("cpu-preview").parameters
        images = {parameters[f"image_{stage}"] for stage in ("scaffold", "trajectory", "splat")}
        assert images == {image_reference("cpu")}

    def test_what_a_profile_says_is_what_it_holds(self) -> None:
        document = yaml.safe_load((FOLDER / "gke-l4-spot.yaml").read_text())
        profile = load_profile("gke-l4-spot")
        assert profile.parameters == document["parameters"]
        assert profile.build == BuildSettings(**document["build"])


class TestOwnProfiles:
    def test_file_is_named_by_its_path(self, tmp_path: Path) -> None:
        profile = load_profile(
            write(tmp_path, "description: mine\nparameters: {seed: 7, force: true}\nbuild: {retries: 0}")
        )
        assert (profile.name, profile.description) == ("own", "mine")
        assert profile.parameters == {"seed": 7, "force": True}
        assert profile.build == BuildSettings(retries=0)

    def test_sections_may_be_left_out_or_empty(self, tmp_path: Path) -> None:
        profile = load_profile(write(tmp_path, "description: nothing\nbuild:\n"))
        assert (profile.parameters, profile.build) == ({}, BuildSettings())

    def test_image_of_the_project(self, tmp_path: Path) -> None:
        profile = load_profile(write(tmp_path, "parameters: {image_cpu: 'image:splat', image_splat: own:1}"))
        assert profile.parameters == {"image_cpu": image_reference("splat"), "image_splat": "own:1"}

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("parametres: {}", "'parametres' is no section.*perhaps parameters was meant"),
            ("parameters: {gpu_cuont: '1'}", "'gpu_cuont' is no parameter.*perhaps gpu_count was meant"),
            ("parameters: {7: 1}", "7 is no parameter"),
            ("parameters: {gpu_count: 1}", "gpu_count is 1, not of type str.*quotation marks"),
            ("parameters: {force: 1}", "force is 1, not of type bool"),
            ("parameters: {seed: true}", "seed is True, not of type int"),
            ("parameters: {tolerations: {}}", "tolerations is {}, not of type list"),
            ("parameters: [engine]", "the section parameters is no mapping"),
            ("build: 4", "the section build is no mapping"),
            ("build: {paralelism: 4}", "'paralelism' is no build setting.*perhaps parallelism was meant"),
            ("build: {parallelism: '4'}", "parallelism is '4', not of type int"),
            ("build: {parallelism: 0}", "parallelism is 0.*own.yaml: build.parallelism"),
            ("build: {scratch: lots}", "scratch is 'lots', which is no size"),
            ("parameters: {image_cpu: 'image:gpu'}", "the project has no image 'gpu'"),
            ("parameters: {image_cpu: 'image:'}", "the project has no image ''"),
            ("- a\n- b", "the profile holds no settings"),
            ("", "the profile holds no settings"),
            ("a: [", "the profile cannot be read"),
        ],
    )
    def test_mistakes_are_named(self, tmp_path: Path, text: str, message: str) -> None:
        with pytest.raises(UsageError, match=message) as caught:
            load_profile(write(tmp_path, text))
        assert "own.yaml" in caught.value.where

    def test_no_such_profile(self) -> None:
        with pytest.raises(UsageError, match=r"there is no profile 'gke-l4'.*perhaps gke-l4-spot was meant"):
            load_profile("gke-l4")

    def test_no_such_file(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"the profile cannot be read: .*No such file"):
            load_profile(str(tmp_path / "none.yaml"))

    def test_file_that_is_no_text(self, tmp_path: Path) -> None:
        path = tmp_path / "own.yaml"
        path.write_bytes(b"\xff\xfe\x00")
        with pytest.raises(UsageError, match="the profile cannot be read"):
            load_profile(str(path))
