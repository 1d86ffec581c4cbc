"""Cameras, rotations, similarity fits, spherical harmonics, Gaussians and their files; pure numpy."""
