"""Stage 2 of one job: eight views become frames along trajectories, and a point cloud."""

from kfp import dsl

from components.artifacts import Scaffold, Scene
from components.container import pod


@dsl.container_component
def trajectory(
    output_base: str,
    run_id: str,
    job_id: str,
    scaffold: dsl.Input[Scaffold],
    scene: dsl.Output[Scene],
    preview: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
):
    """Make the frames and the point cloud of one job.

    Args:
        output_base: Where results go.
        run_id: The pipeline run's own id; the plan left the run's settings under it.
        job_id: The job's folder, such as photorealistic/index_0007.
        scaffold: The record of stage 1.
        scene: The record of the result.
        preview: The job's contact sheet, figures and notes.
        metrics: The stage's figures.
    """
    return pod("trajectory", "trajectory")
