"""The engines by name; the one place that knows them.

Example:
    >>> engine = load_engine(BatchConfig(dataset_dir="data", engine="preview", preset="smoke"))
    >>> engine.label
    'synthesised preview'
"""

from __future__ import annotations

from worldexplorer.config import BatchConfig
from worldexplorer.engine import Engine


def load_engine(batch: BatchConfig) -> Engine:
    """The engine a run names; whether it can run here is what its `check` says."""
    if batch.engine == "full":
        from worldexplorer.models.engine import FullEngine

        return FullEngine()
    from worldexplorer.preview.engine import PreviewEngine

    return PreviewEngine(preset=batch.preset, seed=batch.seed)
