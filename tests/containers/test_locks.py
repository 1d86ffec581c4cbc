"""The lock files against their lists, against each other and against the project."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from images.catalog import IMAGES, NAMES, ROOT
from images.lock import LISTS, List, pins

PATHS = [item.path for item in LISTS]
BY_PATH = {item.path: item for item in LISTS}
FORCED_BY_NERFSTUDIO = {
    "google-api-core": "follows protobuf",
    "googleapis-common-protos": "follows protobuf",
    "opencv-python-headless": "pinned by nerfstudio",
    "pillow": "nerfstudio does not read pictures with 12.2 or newer",
    "proto-plus": "follows protobuf",
    "protobuf": "5 at most for nerfstudio",
    "setuptools": "pkg_resources is gone from 82 on",
}
"""What is older in the nerfstudio image than in the others, and why."""
NOT_TO_BE_PASSED_ON = "nvidia-cutlass-dsl"
"""Start of the names of packages whose licence forbids that."""


def requirements(item: Path) -> list[Requirement]:
    """Those of a list, and of the lists it includes."""
    found = []
    for line in (line.partition("#")[0].strip() for line in item.read_text().splitlines()):
        if line.startswith("-r "):
            found += requirements(item.parent / line.removeprefix("-r "))
        elif line:
            found.append(Requirement(line))
    return found


def normal(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def versions(item: List) -> dict[str, str]:
    return {normal(name): version for name, (version, _) in pins(item.lock).items()}


def unsatisfied(wanted: list[Requirement], locked: dict[str, str]) -> list[str]:
    return [
        f"{one}, locked {locked.get(normal(one.name))}"
        for one in wanted
        if normal(one.name) not in locked
        or not one.specifier.contains(Version(locked[normal(one.name)]), prereleases=True)
    ]


def test_every_list_is_locked() -> None:
    assert sorted(IMAGES.glob("*/*.in")) == sorted(item.source for item in LISTS)
    assert sorted(IMAGES.glob("*/requirements*.lock")) == sorted(
        item.lock for item in LISTS if "requirements" in item.path
    )


@pytest.mark.parametrize("path", PATHS)
def test_what_a_list_asks_for_is_locked(path: str) -> None:
    item = BY_PATH[path]
    assert unsatisfied(requirements(item.source), versions(item)) == []


def test_a_pin_that_moved_is_found() -> None:
    locked = {**versions(BY_PATH["cpu/requirements"]), "numba": "0.60.0"}
    assert unsatisfied(requirements(IMAGES / "cpu" / "requirements.in"), locked) == ["numba==0.68.1, locked 0.60.0"]


@pytest.mark.parametrize("path", PATHS)
def test_lock_has_pins_with_hashes_and_nothing_of_a_machine(path: str) -> None:
    lock = BY_PATH[path].lock
    assert all(version and hashes for version, hashes in pins(lock).values())
    text = lock.read_text()
    assert "://" not in text
    assert not any(line.startswith(("-", "/")) for line in text.splitlines())


@pytest.mark.parametrize("line", ["numba\n", "numba==0.68.1\n", "-e .\n", "numba==0.68.1 --hash=md5:00\n"])
def test_lock_without_hashes_is_refused(tmp_path: Path, line: str) -> None:
    lock = tmp_path / "a.lock"
    lock.write_text(line)
    with pytest.raises(SystemExit, match=r"not a pin with hashes"):
        pins(lock)


def test_images_agree_on_what_they_share() -> None:
    everywhere: dict[str, dict[str, str]] = {}
    for item in LISTS:
        for name, version in versions(item).items():
            everywhere.setdefault(name, {})[item.path] = version
    differing = {name for name, found in everywhere.items() if len(set(found.values())) > 1}
    assert differing == set(FORCED_BY_NERFSTUDIO)
    for name in differing:
        others = {version for path, version in everywhere[name].items() if not path.startswith("splat-nerfstudio/")}
        assert len(others) == 1


@pytest.mark.parametrize("name", NAMES)
def test_image_has_what_the_project_needs(name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["gcs"], *(extras["preview"] if name == "cpu" else [])]
    locked = versions(BY_PATH[f"{name}/requirements"])
    assert unsatisfied([Requirement(one) for one in wanted], locked) == []
    full = {Requirement(one).name: Requirement(one) for one in extras["full"]}
    assert unsatisfied([one for library, one in full.items() if library in locked], locked) == []
    assert ("torch" in locked) == (name != "cpu")


def test_packages_for_hopper_gpus_are_those_of_the_extra() -> None:
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["hopper"]
    wanted = requirements(IMAGES / "hopper" / "requirements.in")
    assert sorted(map(str, wanted)) == sorted(str(Requirement(one)) for one in extra)
    assert all(str(one.specifier).startswith("==") for one in wanted)


@pytest.mark.parametrize("name", ["scaffold", "trajectory"])
def test_packages_for_hopper_gpus_change_nothing_that_an_image_has(name: str) -> None:
    image, added = versions(BY_PATH[f"{name}/requirements"]), versions(BY_PATH["hopper/requirements"])
    assert {library: added[library] for library in added if library in image and added[library] != image[library]} == {}
    asked = {normal(one.name) for one in requirements(IMAGES / "hopper" / "requirements.in")}
    assert asked <= added.keys() - image.keys()


@pytest.mark.parametrize("name", NAMES)
def test_no_image_holds_by_itself_what_may_not_be_passed_on(name: str) -> None:
    assert any(library.startswith(NOT_TO_BE_PASSED_ON) for library in versions(BY_PATH["hopper/requirements"]))
    for path in (path for path in PATHS if path.startswith(f"{name}/")):
        assert not [library for library in versions(BY_PATH[path]) if library.startswith(NOT_TO_BE_PASSED_ON)]


@pytest.mark.parametrize("name", NAMES)
def test_no_image_holds_the_pipeline_compiler(name: str) -> None:
    assert not [library for library in versions(BY_PATH[f"{name}/requirements"]) if library.startswith("kfp")]


def test_what_comes_without_dependencies_finds_them_locked() -> None:
    locked = versions(BY_PATH["trajectory/requirements"])
    assert {"addict", "einops", "omegaconf"} <= locked.keys(), "what the networks import, VGGT's and depth-anything-3's"
    assert versions(BY_PATH["trajectory/requirements-no-deps"]).keys() == {"depth-anything-3"}


@pytest.mark.slow
def test_locks_resolve_to_themselves() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "images.lock", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
