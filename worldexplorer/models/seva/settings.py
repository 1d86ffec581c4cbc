"""How SEVA is run.

Example:
    >>> SevaSettings(precision="bfloat16", compile=False)
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from worldexplorer.config import Precision
from worldexplorer.models.seva.config import TRAINED_FRAMES
from worldexplorer.models.seva.memory import winograd_fits

OWN_KERNELS_FROM = (8, 0)
"""The least compute capability of kernels of our own."""


@dataclass(frozen=True)
class SevaSettings:
    """Settings of :class:`worldexplorer.models.seva.model.SevaModel`.

    The first ones change how fast the same frames are made; those from `steps` on change the frames, are off unless
    asked for, and are part of every fingerprint and record.

    Attributes:
        precision: type the network computes in. float32 also keeps to plain torch.
        compile: torch.compile the network and the decoder of pictures where there are no kernels of our own.
        record: replay a step as a CUDA graph.
        fused: use kernels of our own on CUDA GPUs; off for plain torch.
        most_frames: of one sampling, for which there must be memory.
        steps: network evaluations instead of those a request asks for.
        multistep: second-order steps; meant for fewer `steps`.
        guidance_interval: noise levels within which there is guidance.
        shorter_chunks: sample a request's own frames only, instead of filling up to 21 with copies of the last given.
        fp8: compute the widest products of the transformers in eight-bit floating point.
    """

    precision: Precision = "float16"
    compile: bool = True
    record: bool = True
    fused: bool = True
    most_frames: int = TRAINED_FRAMES
    steps: int | None = None
    multistep: bool = False
    guidance_interval: tuple[float, float] | None = None
    shorter_chunks: bool = False
    fp8: bool = False

    @property
    def bytes_a_value(self) -> int:
        """Of the precision."""
        return 4 if self.precision == "float32" else 2

    @property
    def needs_compiler(self) -> bool:
        """Whether anything is compiled: kernels of our own, which float32 does without, or by torch."""
        return self.compile or (self.fused and self.precision != "float32")

    def winograd(self, capability: tuple[int, int], card_bytes: int) -> bool:
        """Whether wide convolutions are computed by Winograd's filtering; in bfloat16 it would round too much.

        Args:
            capability: the GPU's compute capability.
            card_bytes: all the memory that it has.
        """
        kernels = self.fused and self.precision == "float16" and capability >= OWN_KERNELS_FROM
        return kernels and winograd_fits(card_bytes)

    def shortcuts(self) -> dict[str, Any]:
        """What is set that changes results, for records; empty for the published way."""
        names = ("steps", "multistep", "guidance_interval", "shorter_chunks", "fp8")
        return {name: value for name, value in asdict(self).items() if name in names and value}
