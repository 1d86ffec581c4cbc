"""The engines by name; the one place that knows them.

Example:
    >>> engine = load_engine(RunConfig(BatchConfig(dataset_dir="data", engine="preview", preset="smoke")))
    >>> engine.label
    'synthesised preview'
"""

from __future__ import annotations

from worldexplorer.config import RunConfig
from worldexplorer.engine import Engine


def load_engine(run: RunConfig) -> Engine:
    """The engine a run names; whether it can run here is what its `check` says."""
    if run.batch.engine == "full":
        from worldexplorer.models.engine import FullEngine
        from worldexplorer.models.picture_models import text_settings

        return FullEngine(text=text_settings(run))
    from worldexplorer.preview.engine import PreviewEngine

    return PreviewEngine(preset=run.batch.preset, seed=run.batch.seed)
