"""FlashAttention-4's kernel for Hopper, where the package is installed: over 1.2 times as fast as cuDNN's.

Example:
    >>> attention(qkv, head_channels=64)        # [N, L, 3C] -> [N, L, C]
"""

from __future__ import annotations

import os
import warnings

# The package keeps what it compiles only where this says so, and reads it when it is imported.
os.environ.setdefault("FLASH_ATTENTION_CUTE_DSL_CACHE_ENABLED", "1")

from flash_attn.cute.interface import flash_attn_func
from torch import Tensor

LEAST_LENGTH = 1024
"""Shorter sequences are faster with cuDNN."""

# The package's own notice to itself, told once a kernel.
warnings.filterwarnings("ignore", message="Argument aux_data", category=UserWarning)


def attention(qkv: Tensor, head_channels: int) -> Tensor:
    """See Operations.attention."""
    query, key, value = qkv.unflatten(2, (3, -1, head_channels)).unbind(2)
    result = flash_attn_func(query, key, value)
    mixed: Tensor = result[0] if isinstance(result, tuple) else result
    return mixed.flatten(2)
