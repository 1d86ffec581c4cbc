"""The sizes the preview engine comes in.

Example:
    >>> PRESETS["smoke"].image_size
    128
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from worldexplorer.errors import DefectError

if TYPE_CHECKING:
    from collections.abc import Mapping

LEAST_FRAMES_PER_TRAJECTORY = 4
"""Fewer cannot show where a trajectory that turns around has been."""


@dataclass(frozen=True)
class PreviewPreset:
    """One size of everything.

    Attributes:
        name: what `--preset` calls it.
        image_size: pixels across and down of every view.
        pixels_per_degree: of the world's panorama, about half as many again as a view has at its centre: colours pass
            through the panorama once, and at the views' own resolution they would lose sharpness.
        gaussians: in the splat; training starts from as many points and makes no new ones.
        iterations_half: training steps on views of half the size, which come first.
        iterations_full: training steps on views of full size.
        num_images_for_vggt: frames that feed the point cloud, besides the eight scaffold views.
        heldout_views: rendered for measuring and kept out of training.
        frames_per_trajectory: frames of each of the 32 trajectories.
    """

    name: str
    image_size: int
    pixels_per_degree: int
    gaussians: int
    iterations_half: int
    iterations_full: int
    num_images_for_vggt: int
    heldout_views: int
    frames_per_trajectory: int = 4

    def __post_init__(self) -> None:
        if self.frames_per_trajectory < LEAST_FRAMES_PER_TRAJECTORY:
            raise DefectError(f"preset {self.name} has {self.frames_per_trajectory} frames a trajectory, too few")
        if self.image_size % 2:
            raise DefectError(f"preset {self.name} has views of {self.image_size} pixels, which have no half size")

    @property
    def point_count(self) -> int:
        """Points of the point cloud: one for each Gaussian."""
        return self.gaussians


PRESETS: Mapping[str, PreviewPreset] = {
    preset.name: preset
    for preset in (
        PreviewPreset("smoke", 128, 3, 15_000, 100, 400, num_images_for_vggt=12, heldout_views=8),
        PreviewPreset("quick", 192, 4, 50_000, 200, 800, num_images_for_vggt=16, heldout_views=12),
        PreviewPreset("default", 256, 6, 220_000, 400, 2000, num_images_for_vggt=32, heldout_views=24),
        PreviewPreset("quality", 384, 8, 360_000, 500, 2200, num_images_for_vggt=32, heldout_views=24),
    )
}
