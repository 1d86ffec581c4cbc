"""Compiling: from the graph to the package a cluster takes.

Example:
    >>> compile_pipeline((1, 2, 3), Path("worldexplorer.yaml"))
    >>> compiled_path((2, 3)).name
    'worldexplorer_23.yaml'
"""

import re
from collections.abc import Sequence
from pathlib import Path

from kfp import compiler

from pipelines.build import STAGE_SETS, build_pipeline
from pipelines.parameters import RUN_PARAMETERS
from pipelines.settings import BuildSettings

_DEFAULT_IN_COMMENT = re.compile(r"^(# +(\w+): \w+ )\[Default: [\[{].*$", re.MULTILINE)
COMPILED = Path(__file__).resolve().parent / "compiled"


def compiled_path(stages: Sequence[int]) -> Path:
    """Where the committed package of these stages lies."""
    return COMPILED / f"worldexplorer_{''.join(str(stage) for stage in sorted(set(stages)))}.yaml"


def compile_pipeline(stages: Sequence[int], target: Path, settings: BuildSettings | None = None) -> None:
    """Write the package of these stages, the same bytes each time; UsageError where there is a gap between them."""
    pipeline = build_pipeline(stages, settings)
    target.parent.mkdir(parents=True, exist_ok=True)
    compiler.Compiler().compile(pipeline, str(target))
    target.write_text(_settled(target.read_text(encoding="utf-8")), encoding="utf-8")


def compile_all() -> list[Path]:
    """Write every committed package again."""
    for stages in STAGE_SETS:
        compile_pipeline(stages, compiled_path(stages))
    return [compiled_path(stages) for stages in STAGE_SETS]


def _settled(text: str) -> str:
    """The package with the comment on top in a fixed order: the SDK writes mappings there as they come."""
    return _DEFAULT_IN_COMMENT.sub(lambda found: f"{found[1]}[Default: {RUN_PARAMETERS[found[2]].default}]", text)
