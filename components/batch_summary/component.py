"""What became of every job: `batch_summary.json`, and a report that a person can read."""

from kfp import dsl

from components.container import pod


@dsl.container_component
def batch_summary(
    output_base: str,
    run_id: str,
    failed_indices: dsl.OutputPath(str),
    summary: dsl.Output[dsl.Artifact],
    report: dsl.Output[dsl.HTML],
    table: dsl.Output[dsl.Markdown],
    metrics: dsl.Output[dsl.Metrics],
):
    """Close a run and write its summary, however it went.

    Args:
        output_base: Where results go.
        run_id: The pipeline run's own id.
        failed_indices: The samples to run again, as the parameter indices takes them; empty where none failed.
        summary: A copy of batch_summary.json.
        report: The whole batch with every job's contact sheet.
        table: The whole batch as a table.
        metrics: How many jobs succeeded, failed, were skipped.
    """
    return pod("batch_summary", "cpu")
