"""`python -m pipelines lint`: look into compiled pipelines for what compiles and then breaks.

Example:
    $ python -m pipelines lint pipelines/compiled/*.yaml
    $ python -m pipelines lint --strict mine.yaml
"""

from __future__ import annotations

from pipelines.lint import main as run

__all__ = ["run"]
