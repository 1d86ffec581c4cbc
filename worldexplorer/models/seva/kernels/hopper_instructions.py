"""Single instructions of NVIDIA GPUs for the epilogues of Hopper products.

They are in a module of their own because quack tells compiled epilogues apart by what they refer to, and takes a module
for what it is.

Example:
    >>> square = hopper_instructions.bounded_square(gate)
"""

from __future__ import annotations

from typing import Any

from cutlass import Float32
from cutlass._mlir.dialects import llvm
from cutlass.cutlass_dsl import T, dsl_user_op


@dsl_user_op
def bounded_square(x: Any, *, loc: Any = None, ip: Any = None) -> Any:
    """min(x * x, 1)."""
    value = Float32(x).ir_value(loc=loc, ip=ip)
    flags = {"has_side_effects": False, "is_align_stack": False, "asm_dialect": llvm.AsmDialect.AD_ATT}
    return Float32(llvm.inline_asm(T.f32(), [value, value], "mul.ftz.sat.f32 $0, $1, $2;", "=f,f,f", **flags))
