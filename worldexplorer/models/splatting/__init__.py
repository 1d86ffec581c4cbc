"""Gaussian splats trained with gsplat, after the published recipe."""
