"""How nerfstudio is called here.

Example:
    >>> NerfstudioSettings.of(run.splat).steps
    30000
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from worldexplorer.config import SplatConfig
from worldexplorer.models.nerfstudio.command import CAP, CHECKPOINT_INTERVAL, COMMIT, DATA_RECIPE, STEPS, recipe

PYTHON_VARIABLE = "WORLDEXPLORER_NERFSTUDIO_PYTHON"
"""Names the Python that has nerfstudio, where that is not the one worldexplorer runs in."""
_PROBE_SECONDS = 60.0


@dataclass(frozen=True)
class NerfstudioSettings:
    """How to train.

    Attributes:
        steps: of the whole training.
        until: the step to stop before, where that is not the last one.
        checkpoint_interval: steps between checkpoints.
    """

    steps: int = STEPS
    until: int | None = None
    checkpoint_interval: int = CHECKPOINT_INTERVAL

    @staticmethod
    def of(config: SplatConfig) -> NerfstudioSettings:
        """What a command's settings of stage 3 say."""
        return NerfstudioSettings(steps=config.splat_steps or STEPS)

    @property
    def end(self) -> int:
        """Steps that are done here."""
        return self.until or self.steps

    def described(self, cap: int = CAP) -> dict[str, Any]:
        """Everything that changes the result, for fingerprints."""
        return {
            "method": "splatfacto-big",
            "commit": COMMIT,
            "steps": self.steps,
            "flags": dict(recipe(self.steps, cap)) | dict(DATA_RECIPE),
        }


def nerfstudio_python() -> str:
    """The interpreter that has nerfstudio."""
    return os.environ.get(PYTHON_VARIABLE) or sys.executable


def missing_for_nerfstudio() -> Iterator[str]:
    """What keeps nerfstudio from running here, one sentence each; whether a GPU is there is not looked at."""
    python = nerfstudio_python()
    probe = "import importlib.util as u, sys; sys.exit(any(u.find_spec(n) is None for n in ('nerfstudio', 'gsplat')))"
    try:
        found = subprocess.run([python, "-P", "-c", probe], capture_output=True, timeout=_PROBE_SECONDS).returncode
    except (OSError, subprocess.TimeoutExpired) as error:
        yield f"the Python that {PYTHON_VARIABLE} names, {python}, does not run ({type(error).__name__})"
        return
    if found != 0:
        yield (
            f"nerfstudio (commit {COMMIT[:7]}) and gsplat are not installed for {python}; use the image "
            f"worldexplorer-splat-nerfstudio, or name another Python with {PYTHON_VARIABLE}"
        )
