"""Stage 3: Gaussian splats from a scene, measured and exported."""
