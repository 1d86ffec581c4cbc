"""How SEVA is run.

Example:
    >>> SevaSettings(precision="bfloat16", compile=False)
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Precision = Literal["float16", "bfloat16", "float32"]


@dataclass(frozen=True)
class SevaSettings:
    """Settings of :class:`worldexplorer.models.seva.model.SevaModel`.

    The first ones change how fast the same frames are made; those from `steps` on change the frames, are off unless
    asked for, and are part of every fingerprint and record.

    Attributes:
        precision: type the network computes in. float32 also keeps to plain torch.
        compile: torch.compile the decoder of pictures, and the network where it has no kernels of our own.
        record: replay a step as a CUDA graph.
        fused: use kernels of our own on CUDA GPUs; off for plain torch.
        steps: network evaluations instead of those a request asks for.
        multistep: second-order steps; meant for fewer `steps`.
        guidance_interval: noise levels within which there is guidance.
        shorter_chunks: sample a request's own frames only, instead of filling up to 21 with copies of the last given.
    """

    precision: Precision = "float16"
    compile: bool = True
    record: bool = True
    fused: bool = True
    steps: int | None = None
    multistep: bool = False
    guidance_interval: tuple[float, float] | None = None
    shorter_chunks: bool = False

    def shortcuts(self) -> dict[str, Any]:
        """What is set that changes results, for records; empty for the published way."""
        names = ("steps", "multistep", "guidance_interval", "shorter_chunks")
        return {name: value for name, value in asdict(self).items() if name in names and value}
