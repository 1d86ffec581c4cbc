"""Rendering the Kubernetes manifests, and the rules that every rendered object keeps.

A rule takes objects and returns one sentence for each thing that breaks it, so a test of a good overlay compares with
an empty list and a test of the rule itself looks at the sentence.

Example:
    problems = [text for rule in RULES for text in rule(render(MANIFESTS / "overlays" / "gke"))]
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]
Rule = Callable[[Sequence[Object]], list[str]]

MANIFESTS = Path(__file__).parents[1] / "manifests"
OVERLAYS = ("gke", "generic")
SMOKE_OVERLAYS = tuple(f"{overlay}/smoke" for overlay in OVERLAYS)
COMPONENTS = ("notebooks", "pipeline-root", "restricted")
"""Those that an overlay leaves out until someone wants them."""

CLUSTER_KINDS = frozenset({"Namespace", "PriorityClass"})
"""What has no namespace and is allowed here; roles for the whole cluster are not."""

EXTERNAL_OBJECTS: Mapping[tuple[str, str], str] = {
    ("ConfigMap", "kfp-launcher"): "Kubeflow Pipelines keeps one in every namespace that runs execute in",
    ("Secret", "mlpipeline-minio-artifact"): "Kubeflow Pipelines keeps one in every namespace that runs execute in",
}
"""Objects that the manifests name and do not bring, and why that is right."""

IMAGES = frozenset({"worldexplorer-cpu"})
"""The only image that a manifest runs; the stages' images are run by pipelines."""

PIPELINE_API_GROUP = "pipelines.kubeflow.org"
READ_ONLY_VERBS = frozenset({"get", "list", "watch"})
_PINNED = re.compile(r"(?P<name>[^:@]+)(:(?P<tag>[0-9][\w.-]*))?(@sha256:[0-9a-f]{64})?")


def render(folder: Path) -> list[Object]:
    """Every object that `kubectl apply -k FOLDER` would apply."""
    return [one for one in yaml.safe_load_all(render_text(folder)) if one is not None]


@cache
def render_text(folder: Path) -> str:
    """The rendered YAML, once for each folder; an AssertionError carries what kustomize says when it cannot."""
    command = ["kustomize", "build"] if shutil.which("kustomize") else ["kubectl", "kustomize"]
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)} {folder}: {done.stderr}"
    assert "deprecated" not in done.stderr, done.stderr
    return done.stdout


def name_of(one: Object) -> str:
    """How a message names an object."""
    return f"{one['kind']} {one['metadata']['name']}"


def pod_specs(objects: Sequence[Object]) -> Iterator[tuple[str, Object]]:
    """Name and pod spec of everything that starts pods."""
    for one in objects:
        spec = one.get("spec", {})
        if one["kind"] == "Pod":
            yield name_of(one), spec
        elif one["kind"] == "CronJob":
            yield name_of(one), spec["jobTemplate"]["spec"]["template"]["spec"]
        elif "template" in spec:
            yield name_of(one), spec["template"]["spec"]


def containers(objects: Sequence[Object]) -> Iterator[tuple[str, Object]]:
    """Name and container of every container of every pod, those that run first included."""
    for owner, spec in pod_specs(objects):
        for container in [*spec.get("initContainers", ()), *spec["containers"]]:
            yield f"{owner}, container {container['name']}", container


def namespace_everywhere(objects: Sequence[Object]) -> list[str]:
    """One namespace on everything that can have one, subjects of bindings included."""
    problems, namespaces = [], set()
    for one in objects:
        namespace = one["metadata"].get("namespace")
        if one["kind"].startswith("Cluster"):
            problems.append(f"{name_of(one)} reaches beyond its namespace")
        elif one["kind"] in CLUSTER_KINDS:
            if namespace:
                problems.append(f"{name_of(one)} has a namespace, and its kind has none")
        elif not namespace:
            problems.append(f"{name_of(one)} has no namespace")
        else:
            namespaces.add(namespace)
        for subject in one.get("subjects", ()):
            if subject["kind"] == "ServiceAccount" and subject.get("namespace") != namespace:
                problems.append(f"{name_of(one)} binds {subject['name']} of namespace {subject.get('namespace')}")
    namespaces |= {one["metadata"]["name"] for one in objects if one["kind"] == "Namespace"}
    if len(namespaces) > 1:
        problems.append(f"there are several namespaces: {', '.join(sorted(namespaces))}")
    return problems


def references_exist(objects: Sequence[Object]) -> list[str]:
    """Whatever an object names is among the objects, or in EXTERNAL_OBJECTS."""
    there = {(one["kind"], one["metadata"]["name"]) for one in objects} | set(EXTERNAL_OBJECTS)
    return [
        f"{owner} names {kind} {name}, which is not there"
        for owner, kind, name in _references(objects)
        if (kind, name) not in there
    ]


def pods_are_hardened(objects: Sequence[Object]) -> list[str]:
    """Everything that the Pod Security level `restricted` asks for, a read-only root, and no token."""
    problems = []
    for owner, spec in pod_specs(objects):
        pod = spec.get("securityContext", {})
        if spec.get("automountServiceAccountToken") is not False:
            problems.append(f"{owner} mounts a service account token")
        if pod.get("runAsNonRoot") is not True or not pod.get("runAsUser"):
            problems.append(f"{owner} may run as root")
        if pod.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            problems.append(f"{owner} has no seccomp profile")
        problems += [f"{owner} has {key}" for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]
        for volume in spec.get("volumes", ()):
            if "hostPath" in volume:
                problems.append(f"{owner} mounts a folder of its node")
            if "emptyDir" in volume and not volume["emptyDir"].get("sizeLimit"):
                problems.append(f"{owner}: volume {volume['name']} has no size limit")
    for owner, container in containers(objects):
        context = container.get("securityContext", {})
        if context.get("allowPrivilegeEscalation") is not False or context.get("privileged"):
            problems.append(f"{owner} may gain privileges")
        if context.get("readOnlyRootFilesystem") is not True:
            problems.append(f"{owner} may write to its image")
        if context.get("capabilities") != {"drop": ["ALL"]}:
            problems.append(f"{owner} keeps capabilities")
        if context.get("runAsUser") == 0 or context.get("runAsNonRoot") is False:
            problems.append(f"{owner} runs as root")
    return problems


def resources_are_set(objects: Sequence[Object]) -> list[str]:
    """Requests and limits of cpu, memory and disk on every container."""
    return [
        f"{owner} has no {resource} in {bound}"
        for owner, container in containers(objects)
        for bound in ("requests", "limits")
        for resource in ("cpu", "memory", "ephemeral-storage")
        if resource not in container.get("resources", {}).get(bound, {})
    ]


def jobs_end(objects: Sequence[Object]) -> list[str]:
    """A Job has a deadline, few tries and is cleaned up."""
    keys = ("activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished")
    return [
        f"{name_of(one)} has no {key}"
        for one in objects
        if one["kind"] == "Job"
        for key in keys
        if key not in one["spec"]
    ]


def images_are_pinned(objects: Sequence[Object]) -> list[str]:
    """A known image by version or digest, never `latest`."""
    problems = []
    for owner, container in containers(objects):
        image = container["image"]
        match = _PINNED.fullmatch(image)
        if match is None or not (match["tag"] or "@" in image):
            problems.append(f"{owner}: {image} names no version")
        elif match["name"].rsplit("/", 1)[-1] not in IMAGES:
            problems.append(f"{owner}: {image} is not one of {', '.join(sorted(IMAGES))}")
    return problems


def secrets_are_empty(objects: Sequence[Object]) -> list[str]:
    """No Secret among the objects carries anything."""
    return [
        f"{name_of(one)} carries {', '.join(sorted({**(one.get('data') or {}), **(one.get('stringData') or {})}))}"
        for one in objects
        if one["kind"] == "Secret" and (one.get("data") or one.get("stringData"))
    ]


def roles_are_least(objects: Sequence[Object]) -> list[str]:
    """No wildcard, no right over roles; Secrets and ConfigMaps by name only; of pods nothing but reading."""
    problems = []
    for one in objects:
        for rule in one.get("rules", ()) if one["kind"] in ("Role", "ClusterRole") else ():
            where = f"{name_of(one)}, {'/'.join(rule['resources'])}"
            if "*" in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]:
                problems.append(f"{where}: a wildcard")
            if "rbac.authorization.k8s.io" in rule["apiGroups"]:
                problems.append(f"{where}: may change rights")
            if "" in rule["apiGroups"] and not set(rule["verbs"]) <= READ_ONLY_VERBS:
                problems.append(f"{where}: may change {', '.join(sorted(set(rule['verbs']) - READ_ONLY_VERBS))}")
            if {"secrets", "configmaps"} & set(rule["resources"]) and not rule.get("resourceNames"):
                problems.append(f"{where}: not limited to names")
    return problems


def submitting_stays_in_its_api(objects: Sequence[Object]) -> list[str]:
    """Whoever submits has rights in the pipelines API alone, and no Kubernetes token."""
    problems = []
    for one in objects:
        if one["metadata"]["name"] != "worldexplorer-submitter":
            continue
        if one["kind"] == "ServiceAccount" and one.get("automountServiceAccountToken") is not False:
            problems.append(f"{name_of(one)} mounts a token")
        groups = {group for rule in one.get("rules", ()) for group in rule["apiGroups"]}
        if groups - {PIPELINE_API_GROUP}:
            problems.append(f"{name_of(one)} reaches {', '.join(sorted(groups - {PIPELINE_API_GROUP}))}")
    return problems


def batch_gives_way(objects: Sequence[Object]) -> list[str]:
    """Priority below ordinary pods, above the value under which autoscalers start no node, evicting nobody."""
    problems = []
    for one in objects:
        if one["kind"] != "PriorityClass":
            continue
        if not -10 <= one["value"] < 0:
            problems.append(f"{name_of(one)} has value {one['value']}")
        if one.get("preemptionPolicy") != "Never" or one.get("globalDefault"):
            problems.append(f"{name_of(one)} is pressed on others")
    return problems


def egress_is_named(objects: Sequence[Object]) -> list[str]:
    """Network policies let nothing in and out only where a port or a namespace is named."""
    problems = []
    for one in objects:
        if one["kind"] != "NetworkPolicy":
            continue
        if sorted(one["spec"]["policyTypes"]) != ["Egress", "Ingress"] or one["spec"].get("ingress"):
            problems.append(f"{name_of(one)} lets connections in")
        if any(not rule.get("ports") and not rule.get("to") for rule in one["spec"].get("egress", ())):
            problems.append(f"{name_of(one)} lets everything out")
        if not (one["spec"]["podSelector"].get("matchLabels") or one["spec"]["podSelector"].get("matchExpressions")):
            problems.append(f"{name_of(one)} also binds pods that are not ours")
    return problems


RULES: tuple[Rule, ...] = (
    namespace_everywhere,
    references_exist,
    pods_are_hardened,
    resources_are_set,
    jobs_end,
    images_are_pinned,
    secrets_are_empty,
    roles_are_least,
    submitting_stays_in_its_api,
    batch_gives_way,
    egress_is_named,
)


def problems_of(objects: Sequence[Object]) -> list[str]:
    """What breaks any rule."""
    return [text for rule in RULES for text in rule(objects)]


def _references(objects: Sequence[Object]) -> Iterator[tuple[str, str, str]]:
    """Who names which kind of object, by which name."""
    for one in objects:
        owner = name_of(one)
        if one["kind"] == "RoleBinding":
            yield owner, one["roleRef"]["kind"], one["roleRef"]["name"]
            yield from ((owner, subject["kind"], subject["name"]) for subject in one["subjects"])
        if one["kind"] == "Role":
            kinds = {"secrets": "Secret", "configmaps": "ConfigMap"}
            for rule in one["rules"]:
                for resource in set(rule["resources"]) & set(kinds):
                    yield from ((owner, kinds[resource], name) for name in rule.get("resourceNames", ()))
    for owner, spec in pod_specs(objects):
        if "serviceAccountName" in spec:
            yield owner, "ServiceAccount", spec["serviceAccountName"]
        if "priorityClassName" in spec:
            yield owner, "PriorityClass", spec["priorityClassName"]
        for volume in spec.get("volumes", ()):
            if "configMap" in volume:
                yield owner, "ConfigMap", volume["configMap"]["name"]
            if "secret" in volume:
                yield owner, "Secret", volume["secret"]["secretName"]
        for mount in (mount for _, one in containers(_pod(spec)) for mount in one.get("volumeMounts", ())):
            if mount["name"] not in {volume["name"] for volume in spec.get("volumes", ())}:
                yield owner, "volume", mount["name"]
    for owner, container in containers(objects):
        for variable in container.get("env", ()):
            source = variable.get("valueFrom", {})
            if "secretKeyRef" in source:
                yield owner, "Secret", source["secretKeyRef"]["name"]
            if "configMapKeyRef" in source:
                yield owner, "ConfigMap", source["configMapKeyRef"]["name"]


def _pod(spec: Object) -> list[Object]:
    return [{"kind": "Pod", "metadata": {"name": ""}, "spec": spec}]
