"""Plan a run: which jobs run, which are reused, which cannot run and why.

The inputs are the run's settings, made from :mod:`worldexplorer.config`; README.md lists them.
"""

import inspect
from typing import Any

from kfp import dsl

from components.container import pod
from components.signature import generated
from worldexplorer.pod.parameters import flag_parameters

_POSITIONAL = inspect.Parameter.POSITIONAL_OR_KEYWORD


def _container(_: dict[str, Any]) -> dsl.ContainerSpec:
    return pod("plan", "cpu")


plan = dsl.container_component(
    generated(
        "plan",
        "Plan a run: which jobs run, which are reused, which cannot run and why.",
        flag_parameters(),
        _container,
        defaults=False,
        more=(
            inspect.Parameter("only_stages", _POSITIONAL, annotation=str),
            inspect.Parameter("run_id", _POSITIONAL, annotation=str),
            inspect.Parameter("jobs", _POSITIONAL, annotation=dsl.OutputPath(list)),
            inspect.Parameter("pending", _POSITIONAL, annotation=dsl.OutputPath(str)),
            inspect.Parameter("report", _POSITIONAL, annotation=dsl.Output[dsl.Markdown]),
        ),
        more_help={
            "only_stages": "The pipeline's stages, such as 1 2 3.",
            "run_id": "The pipeline run's own id.",
            "jobs": "The jobs to run: a list of {job_id, upstream_uri}.",
            "pending": "yes where there is any job to run, else no.",
            "report": "The plan as a table.",
        },
    )
)
