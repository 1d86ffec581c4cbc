"""Stage 3 of one job: frames and points become Gaussian splats."""

from kfp import dsl

from components.artifacts import Scene, Splat
from components.container import pod


@dsl.container_component
def splat(
    output_base: str,
    run_id: str,
    job_id: str,
    scene: dsl.Input[Scene],
    splat: dsl.Output[Splat],
    preview: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
):
    """Train and export the Gaussians of one job.

    Args:
        output_base: Where results go.
        run_id: The pipeline run's own id; the plan left the run's settings under it.
        job_id: The job's folder, such as photorealistic/index_0007.
        scene: The record of stage 2.
        splat: The record of the result.
        preview: The job's contact sheet, figures and notes.
        metrics: The stage's figures.
    """
    return pod("splat", "splat")
