"""What a bucket may forget, what the templates hold, and that the pages say what the manifests are."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from manifest_rules import COMPONENTS, MANIFESTS, OVERLAYS, secrets_are_empty

REPOSITORY = MANIFESTS.parent
SETUP = REPOSITORY / "docs" / "cluster-setup.md"
SMOKE = REPOSITORY / "docs" / "cluster-smoke.md"
FORGETTABLE = ("pipeline-root/", "smoke/")
"""What nobody misses: Kubeflow's own artifacts (records name the data elsewhere) and results of the smoke job."""
PROFILES = ("gke-l4-spot", "gke-a100", "gke-h100", "any-gpu", "cpu-preview")
PLACEHOLDER = re.compile(r"\b(?:PROJECT_ID|PROJECT_NUMBER|[A-Z]*BUCKET|REGION|ZONE|REGISTRY|CLUSTER)\b")


def forgets_too_much(lifecycle: dict) -> list[str]:
    """Rules that delete anything but what may be forgotten; a rule without a prefix deletes from everywhere."""
    problems = []
    for rule in lifecycle["rule"]:
        if rule["action"]["type"] == "AbortIncompleteMultipartUpload":
            continue
        prefixes = rule["condition"].get("matchesPrefix") or [""]
        problems += [f"{prefix!r} is deleted" for prefix in prefixes if prefix not in FORGETTABLE]
        if rule["condition"].get("age", 0) < 7:
            problems.append("deleted within a week")
    return problems


def test_the_bucket_forgets_only_what_nobody_misses():
    assert forgets_too_much(json.loads((MANIFESTS / "bucket/lifecycle.json").read_text())) == []


@pytest.mark.parametrize(
    "condition",
    [
        {"age": 30},
        {"age": 30, "matchesPrefix": []},
        {"age": 30, "matchesPrefix": ["batch/"]},
        {"age": 30, "matchesPrefix": ["pipeline-root/", "output"]},
        {"age": 1, "matchesPrefix": ["pipeline-root/"]},
        {"matchesPrefix": ["pipeline-root/"]},
    ],
)
def test_a_rule_that_would_delete_results_is_seen(condition):
    assert forgets_too_much({"rule": [{"action": {"type": "Delete"}, "condition": condition}]})


def test_no_file_holds_a_token_and_no_overlay_includes_the_template():
    (template,) = yaml.safe_load_all((MANIFESTS / "templates/huggingface-token.yaml").read_text())
    assert secrets_are_empty([template]) == []
    assert (template["kind"], template["metadata"]["name"]) == ("Secret", "huggingface-token")
    assert "data" not in template
    assert "stringData" not in template  # an empty value would overwrite a real one
    texts = {path: path.read_text() for path in MANIFESTS.rglob("*") if path.is_file()}
    assert not [path for path, text in texts.items() if re.search(r"\bhf_[A-Za-z0-9]{8,}", text)]
    kustomizations = [text for path, text in texts.items() if path.name == "kustomization.yaml"]
    assert kustomizations
    assert not [text for text in kustomizations if "templates" in text]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_setting_stands_in_one_file(overlay):
    """Words in capitals are in the overlay's settings and nowhere else that it reads but a component's default."""
    folder = MANIFESTS / "overlays" / overlay
    for path in (*folder.rglob("*"), *(MANIFESTS / "base").rglob("*"), *(MANIFESTS / "smoke").rglob("*")):
        if path.is_file() and path != folder / "settings" / "kustomization.yaml":
            assert not PLACEHOLDER.search(path.read_text()), path


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_setting_is_documented(overlay):
    file = MANIFESTS / "overlays" / overlay / "settings" / "kustomization.yaml"
    rows = [line for line in SETUP.read_text().splitlines() if line.startswith("|")]
    words = set(PLACEHOLDER.findall(file.read_text()))
    assert words
    for word in words:
        assert any(f"`{word}`" in row for row in rows), word
        assert word in file.read_text().splitlines()[0], "the first line names what is to be replaced"


@pytest.mark.parametrize("page", [SETUP, SMOKE], ids=lambda page: page.name)
def test_what_a_page_names_is_there(page):
    text = page.read_text()
    named = set(re.findall(r"\b(?:manifests|docs|examples)/[\w./-]*\w", text))
    assert named
    for name in named:
        assert (REPOSITORY / name).exists(), name
    for target in re.findall(r"\]\(((?!https:)[^)#]+)[^)]*\)", text):
        assert (page.parent / target).exists(), target


def test_components_and_profiles_are_explained():
    text = SETUP.read_text()
    for component in COMPONENTS:
        assert f"components/{component}" in text
    for profile in PROFILES:
        assert f"`{profile}`" in text


def test_optional_components_can_be_switched_on_where_they_belong():
    for overlay in OVERLAYS:
        lines = (MANIFESTS / "overlays" / overlay / "kustomization.yaml").read_text().splitlines()
        listed = [line.strip().lstrip("# -").split(" ")[0] for line in lines if line.strip().startswith(("- ", "# - "))]
        assert listed[-1] == "settings", "settings change what the others bring"
        assert {Path(one).name for one in listed} == {"base", "namespace", "settings", *COMPONENTS}


@dataclass(frozen=True)
class Pool:
    """A node pool as a page has it made."""

    machine: str
    accelerator: str
    spot: bool
    taints: frozenset[str]

    @property
    def labels(self) -> dict[str, str]:
        """What GKE labels its nodes with, as far as profiles ask for it."""
        gpu = {"cloud.google.com/gke-accelerator": self.accelerator} if self.accelerator else {}
        return gpu | ({"cloud.google.com/gke-spot": "true"} if self.spot else {})


def node_pools(text: str) -> dict[str, Pool]:
    """The pools that a page's gcloud commands make, by name."""
    made = re.findall(r"gcloud container node-pools create (\S+) ((?:[^\n\\]|\\\n)+)", text)
    return {
        name: Pool(
            machine=re.search(r"--machine-type=(\S+)", flags)[1],
            accelerator="".join(re.findall(r"--accelerator=type=([\w-]+)", flags)),
            spot="--spot" in flags,
            taints=frozenset(re.findall(r"--node-taints=(\S+)", flags)),
        )
        for name, flags in made
    }


POOL_OF_PROFILE = {"gke-l4-spot": "gpu-l4-spot", "gke-a100": "gpu-a100", "gke-h100": "gpu-h100", "cpu-preview": "cpu"}
MACHINES = {"e2-standard-8": (8, 32), "g2-standard-8": (8, 32), "a2-highgpu-1g": (12, 85), "a3-highgpu-1g": (26, 234)}
"""Processors and GiB of memory."""
SYSTEM_CPU, SYSTEM_MEMORY = 0.5, 0.7
"""Processors and GiB that GKE's own pods on each node and Kubeflow's helper beside the stage ask for, roughly."""


def allocatable(machine: str) -> tuple[float, float]:
    """Processors and GiB that GKE leaves to pods: it keeps shares that shrink step by step, and 0.1 GiB."""
    cores, memory = MACHINES[machine]
    steps = ((4, 0.25), (4, 0.20), (8, 0.10), (112, 0.06), (math.inf, 0.02))
    kept, rest = 0.1, float(memory)
    for width, share in steps:
        kept += min(rest, width) * share
        rest -= min(rest, width)
    return cores - (0.06 + 0.01 + 0.005 * 2 + 0.0025 * (cores - 4)), memory - kept


def test_gpu_pools_are_tainted_and_the_pool_of_drivers_is_not():
    pools = node_pools(SETUP.read_text())
    assert set(pools) == set(POOL_OF_PROFILE.values())
    for name, pool in pools.items():
        assert pool.taints == (frozenset() if name == "cpu" else {"nvidia.com/gpu=present:NoSchedule"})


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_is_at_home_in_its_pool(profile):
    """Its pods tolerate the taints, select the labels, and ask for less than a node has to give."""
    parameters = yaml.safe_load((REPOSITORY / "pipelines/profiles" / f"{profile}.yaml").read_text())["parameters"]
    tolerated = {(one["key"], one.get("effect")) for one in parameters["tolerations"]}
    if profile not in POOL_OF_PROFILE:
        assert ("nvidia.com/gpu", "NoSchedule") in tolerated
        return
    pool = node_pools(SETUP.read_text())[POOL_OF_PROFILE[profile]]
    assert parameters.get("node_selector", {}).items() <= pool.labels.items()
    for taint in pool.taints:
        key, _, effect = taint.replace("=", ":").split(":")
        assert (key, effect) in tolerated
    cores, memory = allocatable(pool.machine)
    assert float(parameters["cpu"]) <= cores - SYSTEM_CPU
    assert float(parameters["memory"].removesuffix("Gi")) <= memory - SYSTEM_MEMORY, f"{memory:.1f} GiB on a node"


def commands(text: str) -> list[tuple[str, set[str]]]:
    """Each command of `python -m pipelines` on a page, and its flags; `submit` is the checklist's short form."""
    joined = text.replace("\\\n", " ")
    lines = re.findall(r"^ *(?:python -m pipelines (\w+)|(submit)) (--.*)$", joined, flags=re.MULTILINE)
    return [(full or short, set(re.findall(r"(?<!\S)--\w+", flags))) for full, short, flags in lines]


@pytest.mark.slow
@pytest.mark.parametrize("page", [SETUP, SMOKE], ids=lambda page: page.name)
def test_the_commands_of_a_page_have_the_flags_they_are_given(page):
    found = commands(page.read_text())
    assert found
    for name in {name for name, _ in found}:
        words = [sys.executable, "-m", "pipelines", name, "--help"]
        done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=REPOSITORY)
        known = set(re.findall(r"--\w+", done.stdout))
        for flags in (flags for one, flags in found if one == name):
            assert flags <= known, flags - known
