from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from containers.dockerfile import broken_rules, instructions

from images.catalog import IMAGES, LOCK, NAMES, ROOT, ImageLock

HADOLINT = Path(sys.executable).with_name("hadolint")


def text_of(name: str) -> str:
    return (IMAGES / name / "Dockerfile").read_text(encoding="utf-8")


def test_every_folder_with_a_dockerfile_is_an_image() -> None:
    assert sorted(path.parent.name for path in IMAGES.glob("*/Dockerfile")) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_image_keeps_the_rules(name: str) -> None:
    assert broken_rules(text_of(name)) == []


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ("ARG BASE_IMAGE=", "# syntax=docker/dockerfile:1\nARG BASE_IMAGE=", "a syntax line"),
        ("CMD [", "RUN cat <<EOF\nEOF\nCMD [", "heredocs"),
        ("CMD [", "ENTRYPOINT [", "ENTRYPOINT"),
        ("ARG BASE_IMAGE=python:3.11-slim-bookworm", "ARG BASE_IMAGE=python:latest", "the first instruction"),
        ("FROM ${BASE_IMAGE} AS project", "FROM debian AS project", "FROM debian"),
        ("COPY --from=project", "COPY --link --from=project", "COPY --link"),
        ("COPY pyproject.toml", "ADD pyproject.toml", "ADD"),
        ("RUN groupadd", "RUN --mount=type=cache,target=/x groupadd", "RUN --mount"),
        ("--require-hashes -r", "-r", "no hash and no commit"),
        ("--no-cache-dir", "", "pip leaves its cache"),
        ("USER 10001:10001", "USER root", "does not run as"),
        ("CMD [", "RUN true\nCMD [", "after the user"),
        ("org.opencontainers.image.licenses=", "licences=", "no label licenses"),
        ("worldexplorer.engine=", "engine=", "no label worldexplorer.engine"),
        ("/archive/a288dd0f14786c93483e45524328726ab7b1b4ce", "/archive/refs/heads/main", "full commit"),
        ('--no-deps --no-build-isolation "vggt', '--no-build-isolation "vggt', "no hash and no commit"),
    ],
)
def test_a_broken_rule_is_found(before: str, after: str, complaint: str) -> None:
    text = text_of("trajectory")
    assert before in text
    assert any(complaint in found for found in broken_rules(text.replace(before, after)))


@pytest.mark.parametrize("name", NAMES)
def test_what_is_copied_exists_and_reaches_the_builder(name: str) -> None:
    passed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for word, rest in instructions(text_of(name)):
        if word != "COPY" or "--from=" in rest:
            continue
        for source in rest.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert any(source == name.rstrip("/") or source.startswith(name) for name in passed), source


@pytest.mark.parametrize("name", NAMES)
def test_label_names_the_image(name: str) -> None:
    assert f'org.opencontainers.image.title="worldexplorer-{name}"' in text_of(name)


@pytest.mark.parametrize("name", NAMES)
def test_packages_for_hopper_gpus_are_taken_in_only_where_they_are_asked_for(name: str) -> None:
    """And the label of such an image says so."""
    found = instructions(text_of(name))
    asked = [rest for word, rest in found if word == "ARG" and rest.startswith("HOPPER")]
    installed = [rest for word, rest in found if word == "RUN" and "/tmp/hopper.lock" in rest]
    said = any(word == "LABEL" and "${HOPPER:+ AND LicenseRef-NVIDIA-CUTLASS-DSL}" in rest for word, rest in found)
    if name not in ("scaffold", "trajectory"):
        assert (asked, installed, said) == ([], [], False)
        return
    assert asked == ["HOPPER=", "HOPPER="]
    assert len(installed) == 1
    assert installed[0].startswith('test -z "${HOPPER}" || ')
    assert said


@pytest.mark.parametrize("name", [name for name in NAMES if name != "cpu"])
def test_what_a_gpu_image_compiles_goes_to_scratch(name: str) -> None:
    (words,) = (rest.split() for word, rest in instructions(text_of(name)) if word == "ENV" and "HOME=/scratch" in rest)
    variables = dict(word.split("=", 1) for word in words)
    caches = {variable for variable in variables if "CACHE" in variable}
    wanted = {"TRITON_CACHE_DIR", "XDG_CACHE_HOME"}
    if name in ("scaffold", "trajectory"):
        wanted |= {"FLASH_ATTENTION_CUTE_DSL_CACHE_DIR", "QUACK_CACHE_DIR"}
    assert caches == wanted
    assert all(variables[variable].startswith("/scratch/") for variable in caches)


def test_base_image_is_the_locked_one() -> None:
    base = ImageLock.read(LOCK).base
    assert all(instructions(text_of(name))[0] == ("ARG", f"BASE_IMAGE={base}") for name in NAMES)


def test_linter_agrees() -> None:
    done = subprocess.run(
        [HADOLINT, "--config", IMAGES / "hadolint.yaml", *(IMAGES / name / "Dockerfile" for name in NAMES)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_linter_can_disagree(tmp_path: Path) -> None:
    bad = tmp_path / "Dockerfile"
    bad.write_text(text_of("cpu").replace("WORKDIR /scratch", "WORKDIR scratch"))
    command = [HADOLINT, "--config", IMAGES / "hadolint.yaml", bad]
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0
