"""The components: their signatures come from the library, their pages name all that goes in and out."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from google.protobuf import json_format

from components import artifacts, container
from components.batch_summary.component import batch_summary
from components.plan.component import plan
from components.scaffold.component import scaffold
from components.signature import generated
from components.splat.component import splat
from components.trajectory.component import trajectory
from images.catalog import NAMES
from worldexplorer.pod.__main__ import TASKS
from worldexplorer.pod.parameters import DECIDED_BY_THE_POD, RunParameter, flag_parameters

COMPONENTS = {
    "plan": plan,
    "scaffold": scaffold,
    "trajectory": trajectory,
    "splat": splat,
    "batch_summary": batch_summary,
}
FOLDER = Path(container.__file__).parent
KINDS = {"STRING": "string", "NUMBER_INTEGER": "int", "BOOLEAN": "bool", "LIST": "list"}
ROW = re.compile(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)


def page(name: str) -> str:
    return (FOLDER / name / "README.md").read_text(encoding="utf-8")


def rows(name: str, section: str) -> dict[str, tuple[str, str]]:
    """Name, type and description of each row of a section's table."""
    (text,) = re.findall(rf"^## {section}$(.*?)(?=^## |\Z)", page(name), re.MULTILINE | re.DOTALL)
    return {key: (kind.strip(), what.strip()) for key, kind, what in ROW.findall(text)}


def declared(name: str, side: str) -> dict[str, str]:
    """The declared inputs or outputs of a component and their types, as its page writes them."""
    specification = json_format.MessageToDict(COMPONENTS[name].pipeline_spec)
    (component,) = specification["components"].values()
    definitions = component.get(f"{side}Definitions", {})
    found = {key: KINDS[one["parameterType"]] for key, one in definitions.get("parameters", {}).items()}
    for key, one in definitions.get("artifacts", {}).items():
        namespace, title = one["artifactType"]["schemaTitle"].split(".")
        own = title.removeprefix("WorldExplorer")
        found[key] = "artifact" if title == "Artifact" else f"artifact {own}" if namespace == "google" else title
    return found


class TestPages:
    @pytest.mark.parametrize("name", TASKS)
    @pytest.mark.parametrize("side", ["input", "output"])
    def test_every_input_and_output_is_named_with_its_type(self, name: str, side: str) -> None:
        named = {key: kind for key, (kind, _) in rows(name, f"{side.capitalize()}s").items()}
        assert named == declared(name, side)

    def test_settings_on_the_plans_page_are_described_as_everywhere(self) -> None:
        told = {key: what for key, (_, what) in rows("plan", "Inputs").items()}
        for one in flag_parameters():
            assert told[one.name] == one.help, one.name

    def test_plans_page_says_which_flags_are_none_and_why(self) -> None:
        folded = " ".join(page("plan").split())
        for name, reason in DECIDED_BY_THE_POD.items():
            assert f"`{name}` ({reason})" in folded

    @pytest.mark.parametrize("name", TASKS)
    def test_page_says_what_it_needs_and_how_it_fails(self, name: str) -> None:
        headings = re.findall(r"^#+ (.*)$", page(name), re.MULTILINE)
        assert headings == [name, "Inputs", "Outputs", "Resources", "Failure"]
        assert f"`python -m worldexplorer.pod {name}`" in page(name)

    def test_every_folder_is_a_component(self) -> None:
        folders = {path.parent.name for path in FOLDER.glob("*/component.py")}
        assert folders == set(TASKS) == set(COMPONENTS)


class TestSignatures:
    def test_plan_takes_the_settings_without_defaults_of_its_own(self) -> None:
        """The pipeline passes every parameter; a default here would be a second one."""
        inputs = plan.component_spec.inputs
        settings = [one.name for one in flag_parameters()]
        assert [name for name in inputs if name in settings] == settings
        assert all(one.default is None and not one.optional for one in inputs.values())

    def test_help_of_a_setting_is_the_librarys(self) -> None:
        for one in flag_parameters():
            described = plan.component_spec.inputs[one.name].description
            assert " ".join(described.split()) == one.help

    @pytest.mark.parametrize("name", TASKS)
    def test_types_of_settings(self, name: str) -> None:
        kinds = {one.name: one.kind for one in flag_parameters()} | {"run_id": "string", "job_id": "string"}
        kinds |= {"only_stages": "string"}
        for key, kind in declared(name, "input").items():
            assert kinds.get(key) == kind or kind.startswith("artifact")

    def test_titles_of_the_edges_differ(self) -> None:
        """The compiler refuses an edge between two that do."""
        kinds = (artifacts.Scaffold, artifacts.Scene, artifacts.Splat)
        assert len({kind.schema_title for kind in kinds}) == 3


class TestGenerated:
    def make(self, **options: object) -> tuple[object, list[dict[str, object]]]:
        said: list[dict[str, object]] = []
        parameters = [
            RunParameter("seed", "int", 7, "A number.", "General"),
            RunParameter("place", "string", None, "Where.", "Required"),
            RunParameter("labels", "object", {}, "Some: of them.", "General"),
        ]
        return generated("make", "Make it.", parameters, said.append, **options), said

    def test_required_ones_come_first_and_defaults_stay(self) -> None:
        function, _ = self.make()
        assert str(function.__signature__) == "(place: str, seed: int = 7, labels: dict = {})"

    def test_without_defaults_the_order_stays(self) -> None:
        function, _ = self.make(defaults=False)
        assert str(function.__signature__) == "(seed: int, place: str, labels: dict)"

    def test_help_is_its_documentation(self) -> None:
        function, _ = self.make(more_help={"run_id": "Its id."})
        assert function.__name__ == "make"
        assert function.__doc__ == (
            "Make it.\n\nArgs:\n    place: Where.\n    seed: A number.\n"
            "    labels: Some: of them.\n    run_id: Its id.\n"
        )

    def test_values_reach_the_body_by_name(self) -> None:
        function, said = self.make()
        function("here", 8, {"a": 1})
        assert said == [{"place": "here", "seed": 8, "labels": {"a": 1}}]
        with pytest.raises(ValueError, match="zip"):
            function("here", 8)


class TestImages:
    @pytest.fixture
    def lock(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
        content: dict[str, object] = {"registry": None, "worldexplorer-cpu": {"tag": "1.2.3", "digest": None}}
        monkeypatch.setattr(container, "LOCK", tmp_path / "lock.json")
        return content

    @pytest.mark.parametrize(
        ("registry", "digest", "reference"),
        [
            (None, None, "worldexplorer-cpu:1.2.3"),
            ("registry.example/worlds", None, "registry.example/worlds/worldexplorer-cpu:1.2.3"),
            (None, "sha256:ab", "worldexplorer-cpu@sha256:ab"),
            ("registry.example/worlds", "sha256:ab", "registry.example/worlds/worldexplorer-cpu@sha256:ab"),
        ],
    )
    def test_reference(self, lock: dict[str, object], registry: str | None, digest: str | None, reference: str) -> None:
        lock |= {"registry": registry, "worldexplorer-cpu": {"tag": "1.2.3", "digest": digest}}
        container.LOCK.write_text(json.dumps(lock))
        assert container.image_reference("cpu") == reference

    def test_every_image_of_the_project_has_one(self) -> None:
        assert all(container.image_reference(name).split(":")[0].endswith(f"worldexplorer-{name}") for name in NAMES)

    @pytest.mark.parametrize("name", TASKS)
    def test_component_names_the_image_of_its_stage(self, name: str) -> None:
        (executor,) = json_format.MessageToDict(COMPONENTS[name].pipeline_spec)["deploymentSpec"]["executors"].values()
        image = name if name in NAMES else "cpu"
        assert executor["container"]["image"] == container.image_reference(image)
