"""The typed artifacts between the stages.

Each is a folder with one file, `record.json`: the stage's commit record, which names the result's files below
`output_base`. The files themselves never pass through the pipeline's own storage.

The titles stand in the namespace `google`: the SDK takes no other but `system`, and of that one its importer, run on a
machine, knows nothing but the SDK's own types.
"""

from kfp import dsl

SCHEMA_VERSION = "1.0.0"


class Scaffold(dsl.Artifact):
    """Stage 1's result: eight views around one point."""

    schema_title = "google.WorldExplorerScaffold"
    schema_version = SCHEMA_VERSION


class Scene(dsl.Artifact):
    """Stage 2's result: posed frames and a point cloud."""

    schema_title = "google.WorldExplorerScene"
    schema_version = SCHEMA_VERSION


class Splat(dsl.Artifact):
    """Stage 3's result: trained Gaussians."""

    schema_title = "google.WorldExplorerSplat"
    schema_version = SCHEMA_VERSION
