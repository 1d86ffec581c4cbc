"""Every parameter of a run: the settings of the command, and what only a cluster needs.

Each has one name, default and help text, whoever asks: the compiled pipeline, the page it is started from, `submit`.

Example:
    >>> RUN_PARAMETERS["gpu_count"].default
    '1'
"""

from collections.abc import Mapping

from components.container import image_reference
from worldexplorer.pod.parameters import RunParameter, flag_parameters

CLUSTER_GROUP = "Cluster"

CLUSTER_PARAMETERS: tuple[RunParameter, ...] = (
    RunParameter(
        "gpu_type",
        "string",
        "nvidia.com/gpu",
        "The resource a stage asks its node for; which card it is, node_selector says.",
        CLUSTER_GROUP,
    ),
    RunParameter("gpu_count", "string", "1", "GPUs of each stage's pod; 0 for the preview engine.", CLUSTER_GROUP),
    RunParameter("cpu", "string", "7", "Processors of each stage's pod, request and limit.", CLUSTER_GROUP),
    RunParameter("memory", "string", "28Gi", "Memory of each stage's pod, request and limit.", CLUSTER_GROUP),
    RunParameter(
        "node_selector",
        "object",
        {},
        'Labels of the nodes the stages run on, as JSON, such as {"cloud.google.com/gke-accelerator": "nvidia-l4"}.',
        CLUSTER_GROUP,
    ),
    RunParameter(
        "tolerations",
        "list",
        [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "Taints of nodes that the stages tolerate, as a JSON list of Kubernetes tolerations.",
        CLUSTER_GROUP,
    ),
    RunParameter(
        "hf_secret",
        "string",
        "huggingface-token",
        "The Secret whose key HF_TOKEN opens gated models; the stages run without it where there is none.",
        CLUSTER_GROUP,
    ),
    RunParameter("image_cpu", "string", image_reference("cpu"), "The image of plan and summary.", CLUSTER_GROUP),
    RunParameter("image_scaffold", "string", image_reference("scaffold"), "The image of stage 1.", CLUSTER_GROUP),
    RunParameter("image_trajectory", "string", image_reference("trajectory"), "The image of stage 2.", CLUSTER_GROUP),
    RunParameter("image_splat", "string", image_reference("splat"), "The image of stage 3.", CLUSTER_GROUP),
)

RUN_PARAMETERS: Mapping[str, RunParameter] = {one.name: one for one in (*flag_parameters(), *CLUSTER_PARAMETERS)}
"""By name, in the order a person reads them."""
