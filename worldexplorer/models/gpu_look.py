"""What torch sees of the GPUs, told as one line of JSON by a process that then ends.

Whoever asks CUDA about memory holds a context from then on, half a GiB of a GPU's memory, until its process ends.
:func:`worldexplorer.models.gpus.look_at_gpus` runs this file for processes that do not compute on a GPU themselves. It
imports nothing of this package, so that it starts as soon as torch does.

What torch raises is told as `{"error": ...}`, its first line alone: what CUDA adds to it is the same for every error.

Example:
    $ python worldexplorer/models/gpu_look.py
    {"torch": "2.11.0", "names": ["NVIDIA H200"], "capability": [9, 0], "free_bytes": 149208760320,
     "card_bytes": 150754820096}
"""

from __future__ import annotations

import json
import sys
from typing import Any


def look() -> dict[str, Any]:
    """The values of :class:`worldexplorer.models.gpus.Sight`; asking makes a context on the first GPU."""
    import torch

    seen: dict[str, Any] = {
        "torch": torch.__version__,
        "names": [],
        "capability": [0, 0],
        "free_bytes": 0,
        "card_bytes": 0,
    }
    if torch.cuda.is_available():
        seen["names"] = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        seen["capability"] = list(torch.cuda.get_device_capability(0))
        seen["free_bytes"], _ = torch.cuda.mem_get_info(0)
        seen["card_bytes"] = torch.cuda.get_device_properties(0).total_memory
    return seen


def main() -> int:
    """Tell; 1 where torch cannot look."""
    try:
        told = look()
    except Exception as error:  # noqa: BLE001 (whatever it is, it is told)
        lines = str(error).strip().splitlines() or ["no reason given"]
        told = {"error": f"{type(error).__name__}: {lines[0]}"}
    sys.stdout.write(json.dumps(told) + "\n")
    return int("error" in told)


if __name__ == "__main__":
    sys.exit(main())
