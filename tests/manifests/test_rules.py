"""Each rule of the manifests, shown to see what it is there for."""

from __future__ import annotations

import copy

import pytest
from manifest_rules import (
    MANIFESTS,
    RULES,
    batch_gives_way,
    egress_is_named,
    images_are_pinned,
    jobs_end,
    namespace_everywhere,
    pods_are_hardened,
    problems_of,
    references_exist,
    render,
    resources_are_set,
    roles_are_least,
    secrets_are_empty,
    submitting_stays_in_its_api,
)

pytestmark = pytest.mark.requires_part("kubectl")


@pytest.fixture(scope="module")
def good():
    objects = [*render(MANIFESTS / "overlays/gke"), *render(MANIFESTS / "overlays/gke/smoke")]
    assert problems_of(objects) == []
    return objects


def pod(objects):
    return objects["Job", "worldexplorer-smoke"]["spec"]["template"]["spec"]


def batch(objects):
    return pod(objects)["containers"][0]


def first_rule(objects, role):
    return objects["Role", f"worldexplorer-{role}"]["rules"][0]


def policy(objects):
    return objects["NetworkPolicy", "worldexplorer-runs"]["spec"]


def add_secret(**content):
    def change(objects):
        metadata = {"name": "huggingface-token", "namespace": "worldexplorer"}
        objects["Secret", "huggingface-token"] = {"kind": "Secret", "metadata": metadata, **content}

    return change


def rename_role(objects):
    objects["Role", "worldexplorer-runner"]["metadata"]["name"] = "another"


def read_secret(objects):
    source = {"valueFrom": {"secretKeyRef": {"name": "huggingface-token", "key": "HF_TOKEN"}}}
    batch(objects)["env"].append({"name": "HF_TOKEN", **source})


def cluster_role(objects):
    role = copy.deepcopy(objects["Role", "worldexplorer-runner"])
    objects["ClusterRole", "x"] = role | {"kind": "ClusterRole", "metadata": {"name": "x"}}


BAD = [
    (namespace_everywhere, lambda o: o["LimitRange", "worldexplorer"]["metadata"].pop("namespace"), "has no namespace"),
    (
        namespace_everywhere,
        lambda o: o["ResourceQuota", "worldexplorer"]["metadata"].update(namespace="default"),
        "several namespaces: default, worldexplorer",
    ),
    (
        namespace_everywhere,
        lambda o: o["RoleBinding", "worldexplorer-runner"]["subjects"][0].update(namespace="default"),
        "binds worldexplorer-runner of namespace default",
    ),
    (
        namespace_everywhere,
        lambda o: o["PriorityClass", "worldexplorer-batch"]["metadata"].update(namespace="worldexplorer"),
        "its kind has none",
    ),
    (namespace_everywhere, cluster_role, "reaches beyond its namespace"),
    (references_exist, lambda o: pod(o).update(serviceAccountName="runner"), "names ServiceAccount runner"),
    (references_exist, lambda o: pod(o).update(priorityClassName="high"), "names PriorityClass high"),
    (
        references_exist,
        lambda o: pod(o)["volumes"][-1]["configMap"].update(name="worldexplorer-smoke"),
        "names ConfigMap worldexplorer-smoke",
    ),
    (references_exist, lambda o: pod(o)["volumes"].pop(), "names volume smoke"),
    (references_exist, rename_role, "names Role worldexplorer-runner"),
    (references_exist, read_secret, "names Secret huggingface-token"),
    (
        references_exist,
        lambda o: o["Role", "worldexplorer-runner"]["rules"][2].update(resourceNames=["launcher"]),
        "names ConfigMap launcher",
    ),
    (pods_are_hardened, lambda o: pod(o).pop("automountServiceAccountToken"), "mounts a service account token"),
    (pods_are_hardened, lambda o: pod(o)["securityContext"].pop("runAsNonRoot"), "may run as root"),
    (pods_are_hardened, lambda o: pod(o)["securityContext"].update(runAsUser=0), "may run as root"),
    (pods_are_hardened, lambda o: pod(o)["securityContext"].pop("seccompProfile"), "no seccomp profile"),
    (pods_are_hardened, lambda o: pod(o).update(hostNetwork=True), "has hostNetwork"),
    (pods_are_hardened, lambda o: pod(o)["volumes"].append({"name": "x", "hostPath": {"path": "/"}}), "folder of its"),
    (pods_are_hardened, lambda o: pod(o)["volumes"][0]["emptyDir"].clear(), "volume scratch has no size limit"),
    (pods_are_hardened, lambda o: batch(o).pop("securityContext"), "may gain privileges"),
    (pods_are_hardened, lambda o: batch(o)["securityContext"].update(privileged=True), "may gain privileges"),
    (pods_are_hardened, lambda o: batch(o)["securityContext"].update(readOnlyRootFilesystem=False), "write to its"),
    (pods_are_hardened, lambda o: batch(o)["securityContext"].update(capabilities={}), "keeps capabilities"),
    (pods_are_hardened, lambda o: batch(o)["securityContext"].update(runAsUser=0), "runs as root"),
    (
        pods_are_hardened,
        lambda o: pod(o)["initContainers"][0]["securityContext"]["capabilities"].update(add=["NET_ADMIN"]),
        "container dataset keeps capabilities",
    ),
    (resources_are_set, lambda o: batch(o)["resources"]["limits"].pop("memory"), "no memory in limits"),
    (resources_are_set, lambda o: pod(o)["initContainers"][0].pop("resources"), "container dataset has no cpu"),
    (jobs_end, lambda o: o["Job", "worldexplorer-smoke"]["spec"].pop("activeDeadlineSeconds"), "activeDeadlineSeconds"),
    (images_are_pinned, lambda o: batch(o).update(image="registry/worldexplorer-cpu"), "names no version"),
    (images_are_pinned, lambda o: batch(o).update(image="registry/worldexplorer-cpu:latest"), "names no version"),
    (images_are_pinned, lambda o: batch(o).update(image="python:3.11.2"), "is not one of worldexplorer-cpu"),
    (secrets_are_empty, add_secret(stringData={"HF_TOKEN": "hf_0"}), "carries HF_TOKEN"),
    (secrets_are_empty, add_secret(data={"HF_TOKEN": "aGZfMA=="}), "carries HF_TOKEN"),
    (roles_are_least, lambda o: first_rule(o, "runner").update(verbs=["*"]), "a wildcard"),
    (
        roles_are_least,
        lambda o: first_rule(o, "runner").update(apiGroups=["rbac.authorization.k8s.io"]),
        "change right",
    ),
    (
        roles_are_least,
        lambda o: o["Role", "worldexplorer-runner"]["rules"][1].update(verbs=["get", "delete"]),
        "pods: may change delete",
    ),
    (
        roles_are_least,
        lambda o: o["Role", "worldexplorer-runner"]["rules"][3].pop("resourceNames"),
        "secrets: not limited to names",
    ),
    (
        submitting_stays_in_its_api,
        lambda o: first_rule(o, "submitter").update(apiGroups=[""], resources=["pods"]),
        "Role worldexplorer-submitter reaches ",
    ),
    (
        submitting_stays_in_its_api,
        lambda o: o["ServiceAccount", "worldexplorer-submitter"].pop("automountServiceAccountToken"),
        "mounts a token",
    ),
    (batch_gives_way, lambda o: o["PriorityClass", "worldexplorer-batch"].update(value=-11), "has value -11"),
    (batch_gives_way, lambda o: o["PriorityClass", "worldexplorer-batch"].update(value=0), "has value 0"),
    (batch_gives_way, lambda o: o["PriorityClass", "worldexplorer-batch"].pop("preemptionPolicy"), "pressed on"),
    (egress_is_named, lambda o: policy(o).update(ingress=[{}]), "lets connections in"),
    (egress_is_named, lambda o: policy(o).update(policyTypes=["Egress"]), "lets connections in"),
    (egress_is_named, lambda o: policy(o)["egress"].append({}), "lets everything out"),
    (egress_is_named, lambda o: policy(o).update(podSelector={}), "not ours"),
]


@pytest.mark.parametrize(("rule", "change", "said"), BAD, ids=[f"{rule.__name__}: {said}" for rule, _, said in BAD])
def test_a_rule_sees_what_breaks_it(good, rule, change, said):
    objects = {(one["kind"], one["metadata"]["name"]): one for one in copy.deepcopy(good)}
    smoke = next(key for key in objects if key[0] == "ConfigMap")
    assert smoke[1].startswith("worldexplorer-smoke-")  # the generator's suffix: an unfinished name is no reference
    change(objects)
    problems = rule(list(objects.values()))
    assert any(said in problem for problem in problems), problems


def test_every_rule_is_shown():
    assert {rule for rule, _, _ in BAD} == set(RULES)
