"""What torch sees of the GPUs, told as one line of JSON by a process that then ends.

Whoever asks CUDA about memory holds a context from then on, half a GiB of a GPU's memory, until its process ends.
:func:`worldexplorer.models.gpus.look_at_gpus` runs this file for processes that do not compute on a GPU themselves. It
imports nothing of this package, so that it starts as soon as torch does.

Example:
    $ python worldexplorer/models/gpu_look.py
    {"torch": "2.11.0", "names": ["NVIDIA H200"], "capability": [9, 0], "free_bytes": 149208760320}
"""

from __future__ import annotations

import json
import sys
from typing import Any


def look() -> dict[str, Any]:
    """The values of :class:`worldexplorer.models.gpus.Sight`; asking makes a context on the first GPU."""
    import torch

    seen: dict[str, Any] = {"torch": torch.__version__, "names": [], "capability": [0, 0], "free_bytes": 0}
    if torch.cuda.is_available():
        seen["names"] = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        seen["capability"] = list(torch.cuda.get_device_capability(0))
        seen["free_bytes"], _ = torch.cuda.mem_get_info(0)
    return seen


if __name__ == "__main__":
    sys.stdout.write(json.dumps(look()) + "\n")
