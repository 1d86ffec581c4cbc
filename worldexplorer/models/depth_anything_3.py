"""Depth Anything 3 that is told where the cameras stand: depth and confidence of many frames in one look.

The network comes from the package depth-anything-3; of it only the network is imported, not what its program brings
along. Known poses go in as the package does it itself: from world to camera in the first frame's axes, distances in
units of the median distance from the first camera. What comes out are depth in a scale of its own, and cameras from
which that scale follows.

Frames are resized to 504 pixels by averaging areas, which is what the package does with square frames.

Example:
    >>> model = DepthAnything3Model(GEOMETRY["depth-anything-3"], partial(local_folder, weights), Residents())
    >>> maps = model.points(views, None, 3.0)
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_model
from torch import Tensor, nn

from worldexplorer.engine import Poses, Views
from worldexplorer.geometry.cameras import opengl_to_opencv
from worldexplorer.models.frame_pixels import network_pixels
from worldexplorer.models.point_maps import PointMapModel, Seen
from worldexplorer.models.seva.attention import attention_backends

_WEIGHTS = "model.safetensors"
_NETWORK = "da3-base"
_LEAST_DISTANCE = 0.1
"""Smaller median distances count as this: cameras in one place are not blown up."""


class DepthAnything3Model(PointMapModel):
    """A model of :class:`worldexplorer.engine.GeometryModel`."""

    def _load(self, folder: Path, device: torch.device) -> Any:
        network = build_network(_NETWORK)
        # The file names the network `model`, and once what several of its layers share.
        whole = nn.ModuleDict({"model": network})
        missing, _ = load_model(whole, folder / _WEIGHTS, strict=False)
        if missing:
            raise KeyError(f"{_WEIGHTS} lacks {len(missing)} weights, the first is {min(missing)}")
        return network.to(device).eval().requires_grad_(requires_grad=False)

    def _look(self, network: Any, views: Views, device: torch.device) -> Seen:
        pixels = torch.from_numpy(network_pixels(views.images, self.model.size, "area", normalise=True)).to(device)
        return look(network, pixels, views.c2w, views.intrinsics)


def build_network(name: str) -> Any:
    """A network of the package with random weights, by the name of its configuration."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the package's way with its configuration library
        from depth_anything_3.cfg import create_object, load_config
        from depth_anything_3.registry import MODEL_REGISTRY
        from depth_anything_3.utils.logger import logger

        logger.level = 0  # of errors; all else it would print into this program's output
        return create_object(load_config(MODEL_REGISTRY[name]))


@torch.inference_mode()
def look(network: Any, pixels: Tensor, c2w: Poses, intrinsics: Poses) -> Seen:
    """What the network says of frames whose cameras are known.

    Args:
        network: of the package, on the pixels' device.
        pixels: [n, 3, S, S] normalised.
        c2w: [n, 4, 4] OpenGL camera-to-world.
        intrinsics: [n, 3, 3] normalised.
    """
    size = pixels.shape[-1]
    to_cameras = torch.from_numpy(known_cameras(c2w)).to(pixels)
    focal = torch.from_numpy(intrinsics * np.array([[size], [size], [1.0]])).to(pixels)
    with (
        attention_backends(pixels.device),
        torch.autocast(pixels.device.type, dtype=torch.bfloat16, enabled=pixels.is_cuda),
    ):
        answer = network(
            pixels[None],
            to_cameras[None],
            focal[None],
            export_feat_layers=[],
            infer_gs=False,
            use_ray_pose=False,
            ref_view_strategy="first",
        )
    found = np.tile(np.eye(4), (len(pixels), 1, 1))
    found[:, :3] = answer.extrinsics[0, :, :3].double().cpu().numpy()
    lens = answer.intrinsics[0].double().cpu().numpy() / np.array([[size], [size], [1.0]])
    own = np.asarray(np.linalg.inv(found), dtype=np.float64)
    return Seen(answer.depth[0].float(), answer.depth_conf[0].float(), own, lens)


def known_cameras(c2w: Poses) -> Poses:
    """Known cameras as the network takes them.

    Args:
        c2w: [n, 4, 4] OpenGL camera-to-world.

    Returns:
        [n, 4, 4] from the first camera's OpenCV axes to each camera's, distances in units of the median distance of
        the cameras from the first.
    """
    cameras = opengl_to_opencv(c2w)
    from_first = np.linalg.inv(cameras[0]) @ cameras
    distances = np.sort(np.linalg.norm(from_first[:, :3, 3], axis=1))
    middle = float(distances[(len(distances) - 1) // 2])  # the lower one of two, as the package has it
    from_first[:, :3, 3] /= max(middle, _LEAST_DISTANCE)
    return np.asarray(np.linalg.inv(from_first), dtype=np.float64)
