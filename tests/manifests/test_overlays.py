"""Every overlay as it would be applied: rendered, checked against Kubernetes' schemas and against our own rules."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator
from manifest_rules import (
    COMPONENTS,
    MANIFESTS,
    OVERLAYS,
    SMOKE_OVERLAYS,
    Object,
    name_of,
    pod_specs,
    problems_of,
    references_exist,
    render,
)

pytestmark = [pytest.mark.slow, pytest.mark.requires_part("kubectl")]

KUBERNETES_VERSIONS = ("1.31", "1.37")
"""The oldest and the newest that the manifests are checked for."""

CUSTOM_RESOURCES = {"kind PodDefault with api version kubeflow.org/v1alpha1": "Kubeflow's own: see POD_DEFAULT"}
"""What kubernetes-validate has no schema for, as its warning names it, and why that warning is let pass."""

_PLAIN = {"type": "object", "additionalProperties": False}
_TEXT = {"type": "string", "minLength": 1}
POD_DEFAULT = {
    **_PLAIN,
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "properties": {
        "apiVersion": {"const": "kubeflow.org/v1alpha1"},
        "kind": {"const": "PodDefault"},
        "metadata": {"type": "object", "required": ["name", "namespace"]},
        "spec": {
            **_PLAIN,
            "required": ["desc", "selector"],
            "properties": {
                "desc": _TEXT,
                "selector": {
                    **_PLAIN,
                    "required": ["matchLabels"],
                    "properties": {
                        "matchLabels": {"type": "object", "minProperties": 1, "additionalProperties": _TEXT}
                    },
                },
                "env": {
                    "type": "array",
                    "items": {**_PLAIN, "required": ["name", "value"], "properties": {"name": _TEXT, "value": _TEXT}},
                },
                "volumes": {"type": "array"},
                "volumeMounts": {"type": "array"},
            },
        },
    },
}
"""What Kubeflow's admission webhook reads of a PodDefault, as far as ours uses it."""


def schema_problems(text: str, folder: Path, version: str) -> list[str]:
    """What kubernetes-validate says that is not a pass; a warning counts, for it means that nothing was checked."""
    file = folder / "rendered.yaml"
    file.write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "kubernetes_validate", "--strict", "-k", version, str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    assert lines, "kubernetes-validate said nothing"
    return [
        line
        for line in lines
        if not line.startswith("INFO")
        and not (line.startswith("WARN") and any(f"find schema for {name} for" in line for name in CUSTOM_RESOURCES))
    ]


def composed(folder: Path, *, overlay: str, components: tuple[str, ...], namespace: str = "") -> Path:
    """A kustomization outside the tree that adds optional components to an overlay, as a user would."""
    there = Path(os.path.relpath(MANIFESTS, folder))
    parts = [there / "components" / name for name in components] + [there / "overlays" / overlay / "settings"]
    content: Object = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [str(there / "base")],
        "components": [str(part) for part in parts],
    }
    if namespace:
        content["namespace"] = namespace
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(content))
    return folder


@pytest.fixture(scope="module", params=(*OVERLAYS, *SMOKE_OVERLAYS))
def rendered(request) -> list[Object]:
    objects = render(MANIFESTS / "overlays" / request.param)
    if request.param in SMOKE_OVERLAYS:  # it comes after its overlay, whose objects it names
        objects = [*render(MANIFESTS / "overlays" / request.param.removesuffix("/smoke")), *objects]
    return objects


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
def test_every_object_fits_its_schema(rendered, version, tmp_path):
    assert schema_problems(yaml.safe_dump_all(rendered), tmp_path, version) == []


def test_no_rule_is_broken(rendered):
    assert problems_of(rendered) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(lambda job: job["spec"].update(retries=1), "FAIL|ERROR", id="unknown field"),
        pytest.param(lambda job: job["spec"].update(backoffLimit="one"), "FAIL|ERROR", id="wrong type"),
        pytest.param(lambda job: job.update(apiVersion="batch/v1beta1"), "WARN", id="removed version"),
        pytest.param(lambda job: job.update(kind="Jobb"), "WARN", id="unknown kind"),
    ],
)
def test_the_schema_check_sees_what_is_wrong(change, said, tmp_path):
    job = next(one for one in render(MANIFESTS / "overlays/generic/smoke") if one["kind"] == "Job")
    change(job)
    problems = schema_problems(yaml.safe_dump(job), tmp_path, KUBERNETES_VERSIONS[-1])
    assert problems
    assert any(word in problems[0] for word in said.split("|")), problems


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_with_every_component_is_right_too(overlay, tmp_path):
    folder = composed(tmp_path, overlay=overlay, components=("namespace", *COMPONENTS))
    objects = render(folder)
    assert problems_of(objects) == []
    assert schema_problems(yaml.safe_dump_all(objects), tmp_path, KUBERNETES_VERSIONS[-1]) == []
    by_kind = {one["kind"]: one for one in objects}
    Draft202012Validator(POD_DEFAULT).validate(by_kind["PodDefault"])
    assert by_kind["Namespace"]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert by_kind["ConfigMap"]["data"] == {"defaultPipelineRoot": "gs://BUCKET/pipeline-root"}


def test_the_own_schema_of_a_custom_resource_refuses_a_wrong_one(tmp_path):
    folder = composed(tmp_path, overlay="generic", components=("notebooks",))
    pod_default = next(one for one in render(folder) if one["kind"] == "PodDefault")
    validator = Draft202012Validator(POD_DEFAULT)
    assert validator.is_valid(pod_default)
    del pod_default["spec"]["selector"]
    assert not validator.is_valid(pod_default)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_in_a_namespace_of_someone_else_it_is_neither_made_nor_removed(overlay, tmp_path):
    objects = render(composed(tmp_path, overlay=overlay, components=(), namespace="kubeflow"))
    assert not [one for one in objects if one["kind"] == "Namespace"]
    assert problems_of(objects) == []
    assert {one["metadata"].get("namespace") for one in objects} == {"kubeflow", None}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_smoke_job_alone_lacks_only_what_its_overlay_brings(overlay):
    objects = render(MANIFESTS / "overlays" / overlay / "smoke")
    assert sorted(one["kind"] for one in objects) == ["ConfigMap", "Job"]
    assert references_exist(objects) == [
        "Job worldexplorer-smoke names ServiceAccount worldexplorer-runner, which is not there",
        "Job worldexplorer-smoke names PriorityClass worldexplorer-batch, which is not there",
    ]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_setting_up_starts_no_pod_and_brings_no_secret(overlay):
    objects = render(MANIFESTS / "overlays" / overlay)
    assert list(pod_specs(objects)) == []
    assert [name_of(one) for one in objects if one["kind"] == "Secret"] == []


def test_on_gke_runs_have_an_identity_and_reach_the_metadata_server():
    objects = render(MANIFESTS / "overlays/gke")
    accounts = {one["metadata"]["name"]: one for one in objects if one["kind"] == "ServiceAccount"}
    runner = accounts["worldexplorer-runner"]["metadata"]["annotations"]
    assert runner == {
        "iam.gke.io/gcp-service-account": "worldexplorer-runner@PROJECT_ID.iam.gserviceaccount.com",
    }
    assert "annotations" not in accounts["worldexplorer-submitter"]["metadata"]
    for policy in (one for one in objects if one["kind"] == "NetworkPolicy"):
        assert "169.254.169.254/32" in str(policy["spec"]["egress"][-1])


def test_elsewhere_no_pod_reaches_a_metadata_server():
    for policy in (one for one in render(MANIFESTS / "overlays/generic") if one["kind"] == "NetworkPolicy"):
        assert "169.254" not in str(policy)
        assert not {80, 988} & {port["port"] for rule in policy["spec"]["egress"] for port in rule.get("ports", ())}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_one_run_of_any_profile_fits_the_quota(overlay):
    (quota,) = (one for one in render(MANIFESTS / "overlays" / overlay) if one["kind"] == "ResourceQuota")
    profiles = [yaml.safe_load(path.read_text()) for path in (MANIFESTS.parent / "pipelines/profiles").glob("*.yaml")]
    widest = max(int(one["parameters"]["gpu_count"]) * one["build"]["parallelism"] for one in profiles)
    assert int(quota["spec"]["hard"]["requests.nvidia.com/gpu"]) >= widest


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_quota_counts_gpus_and_leaves_helpers_alone(overlay):
    (quota,) = (one for one in render(MANIFESTS / "overlays" / overlay) if one["kind"] == "ResourceQuota")
    assert {"requests.nvidia.com/gpu", "pods"} <= set(quota["spec"]["hard"])
    assert not [key for key in quota["spec"]["hard"] if "cpu" in key or "memory" in key]
