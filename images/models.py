"""Makes every `models.lock` in images/ from the one list of weights, `worldexplorer/models/weights.json`.

    python -m images.models             # write them
    python -m images.models --check     # change nothing; exit 1 where one is not what the list says

`worldexplorer weights lock` fills revisions and checksums into that list; run this afterwards. An image's file names
the weights of the stage that runs in it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from worldexplorer.models.weights import WeightSet, weight_sets

IMAGES = Path(__file__).parent
STAGES: Mapping[str, int | None] = {
    "cpu": None,
    "scaffold": 1,
    "trajectory": 2,
    "splat": 3,
    "splat-nerfstudio": 3,
}
"""The stage that runs in each image."""
_ENGINE = "full"


def models_lock(image: str) -> str:
    """The text of an image's models.lock."""
    stage = STAGES[image]
    models = [_entry(one, stage) for one in weight_sets().values() if stage in one.stages]
    return json.dumps({"models": models}, indent=2) + "\n"


def stale(images: Path = IMAGES) -> list[str]:
    """The images whose models.lock is not what the list says."""
    return [name for name in STAGES if (images / name / "models.lock").read_text(encoding="utf-8") != models_lock(name)]


def main(argv: list[str] | None = None) -> int:
    """Write or check; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m images.models", description="Make every models.lock.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 where a file is out of date")
    parser.add_argument("--images", type=Path, default=IMAGES, help="the folder of the images")
    words = parser.parse_args(argv)
    behind = stale(words.images)
    for name in behind:
        path = words.images / name / "models.lock"
        if not words.check:
            path.write_text(models_lock(name), encoding="utf-8")
        sys.stderr.write(f"{path}: {'not what weights.json says' if words.check else 'written'}\n")
    return 1 if behind and words.check else 0


def _entry(one: WeightSet, stage: int | None) -> dict[str, Any]:
    return {
        "role": one.role,
        "repository": one.repository,
        "revision": one.revision,
        "licence": one.licence,
        "gated": one.gated,
        "permissive": one.permissive,
        "engine": _ENGINE,
        "stages": [stage],
        "needed": one.needed,
        "files": dict(one.files) if one.listed else None,
    }


if __name__ == "__main__":
    sys.exit(main())
