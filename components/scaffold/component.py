"""Stage 1 of one job: a photo becomes eight views around one point."""

from kfp import dsl

from components.artifacts import Scaffold
from components.container import pod


@dsl.container_component
def scaffold(
    output_base: str,
    run_id: str,
    job_id: str,
    scaffold: dsl.Output[Scaffold],
    preview: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
):
    """Make the eight views of one job.

    Args:
        output_base: Where results go.
        run_id: The pipeline run's own id; the plan left the run's settings under it.
        job_id: The job's folder, such as photorealistic/index_0007.
        scaffold: The record of the result.
        preview: The job's contact sheet, figures and notes.
        metrics: The stage's figures.
    """
    return pod("scaffold", "scaffold")
