"""The engines by name. Loading one loads its libraries; nothing else in the library does.

Example:
    >>> engine = load_engine(BatchConfig(dataset_dir="data", engine="preview", preset="smoke"))
    >>> engine.label
    'synthesised preview'
"""

from __future__ import annotations

from worldexplorer.config import BatchConfig
from worldexplorer.engine import Engine
from worldexplorer.errors import UsageError


def load_engine(batch: BatchConfig) -> Engine:
    """The engine a run names; UsageError where its libraries are not installed."""
    if batch.engine == "full":
        from worldexplorer.models.engine import FullEngine

        return FullEngine()
    try:
        from worldexplorer.preview.engine import PreviewEngine
    except ImportError as error:
        if (error.name or "").startswith("worldexplorer"):
            raise  # a defect of this program, not a missing package
        raise UsageError(
            f"the preview engine needs the package {error.name}, which cannot be loaded ({error})",
            where="--engine preview",
            remedy='install it with: pip install "worldexplorer[preview]" (in a checkout: pip install -e ".[preview]")',
        ) from None
    return PreviewEngine(preset=batch.preset, seed=batch.seed)
