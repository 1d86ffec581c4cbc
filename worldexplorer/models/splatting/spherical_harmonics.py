"""Spherical harmonics in torch; values and order of :mod:`worldexplorer.geometry.spherical_harmonics`.

Example:
    >>> colours = 0.5 + torch.einsum("nk,nkc->nc", basis(directions, 2), sh[:, :9])
"""

from __future__ import annotations

import torch
from torch import Tensor

BAND_0 = 0.28209479177387814
BAND_1 = 0.4886025119029199
BAND_2 = (1.0925484305920792, 0.31539156525252005, 0.5462742152960396)
BAND_3 = (0.5900435899266435, 2.890611442640554, 0.4570457994644658, 0.3731763325901154, 1.445305721320277)
"""Different factors of the polynomials of each band, in order of |m| and then of the middle; see :func:`basis`."""


def basis(directions: Tensor, degree: int) -> Tensor:
    """[N, (degree + 1)²] the functions at unit vectors [N, 3]."""
    x, y, z = directions.unbind(dim=-1)
    found = [torch.full_like(x, BAND_0)]
    if degree >= 1:
        found += [-BAND_1 * y, BAND_1 * z, -BAND_1 * x]
    if degree >= 2:
        cross, middle, side = BAND_2
        squares = x * x - y * y
        found += [cross * x * y, -cross * y * z, middle * (3 * z * z - 1), -cross * x * z, side * squares]
    if degree >= 3:
        outer, cross, inner, middle, side = BAND_3
        found += [
            -outer * y * (3 * x * x - y * y),
            cross * x * y * z,
            -inner * y * (5 * z * z - 1),
            middle * z * (5 * z * z - 3),
            -inner * x * (5 * z * z - 1),
            side * z * (x * x - y * y),
            -outer * x * (x * x - 3 * y * y),
        ]
    return torch.stack(found, dim=-1)
