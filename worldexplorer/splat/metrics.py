"""How well renders match pictures.

Example:
    >>> compare(renders, truths)
    {'psnr': 34.1, 'ssim': 0.97, 'gradient_energy': 0.95}
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from worldexplorer.errors import DefectError

Images = NDArray[np.uint8]
_PEAK = 255.0
_MOST_DB = 99.0


def psnr(first: Images, second: Images) -> float:
    """Peak signal-to-noise ratio of two 8-bit pictures or stacks of them, in dB; at most 99 for equal ones."""
    if first.shape != second.shape:
        raise DefectError(f"pictures of shapes {first.shape} and {second.shape} are compared")
    error = float(np.mean((first.astype(np.float64) - second.astype(np.float64)) ** 2))
    return _MOST_DB if error == 0 else min(_MOST_DB, 10.0 * float(np.log10(_PEAK**2 / error)))


def compare(renders: Images, truths: Images) -> dict[str, float]:
    """Means over N pairs of pictures [N, H, W, 3] uint8.

    Returns:
        `psnr` in dB, the mean over the pairs; `ssim`, with 11 x 11 Gaussian windows as in Wang et al. 2004;
        `gradient_energy`: the renders' mean squared brightness gradient over the truths'. Below 1 the renders are
        blurred, which PSNR alone would reward.
    """
    if renders.shape != truths.shape or not len(renders):
        raise DefectError(f"pictures of shapes {renders.shape} and {truths.shape} are compared")
    from skimage.metrics import structural_similarity  # loads all of SciPy's filters, which planning does not need

    similarity = [
        structural_similarity(  # type: ignore[no-untyped-call]
            render, truth, channel_axis=-1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        for render, truth in zip(renders, truths, strict=True)
    ]
    ratios = [psnr(render, truth) for render, truth in zip(renders, truths, strict=True)]
    return {
        "psnr": float(np.mean(ratios)),
        "ssim": float(np.mean(similarity)),
        "gradient_energy": _gradient_energy(renders) / max(_gradient_energy(truths), 1e-9),
    }


def halved(images: Images) -> Images:
    """Pictures [N, H, W, 3] of half the size, each pixel the mean of four; an odd last row or column is left out."""
    height, width = images.shape[1] // 2 * 2, images.shape[2] // 2 * 2
    blocks = images[:, :height, :width].reshape(len(images), height // 2, 2, width // 2, 2, 3)
    return np.asarray(np.round(blocks.mean(axis=(2, 4))), dtype=np.uint8)


def _gradient_energy(images: Images) -> float:
    grey = images.astype(np.float64).mean(axis=-1)
    return float(np.mean(np.diff(grey, axis=1) ** 2) + np.mean(np.diff(grey, axis=2) ** 2))
