"""VGGT: depth, confidence and cameras of many frames in one look; the points follow from them.

The network comes from its authors' package, at a pinned commit. This module runs it for what is needed here and no
more: of its heads those of cameras and depth alone, and of the 24 outputs of its trunk the four that these heads read,
where the package keeps all of them. The trunk computes in half precision, as published; its weights lie on the GPU in
the precision that they are multiplied in. On a CUDA GPU the steps between projections and attention run in one kernel
(:mod:`worldexplorer.models.vggt_attention`), from compute capability 8.0 on.

Frames are resized to 518 pixels by Pillow's bicubic filter, as published. The first one, view 000 of the scaffold,
defines the network's frame.

Example:
    >>> folder = partial(local_folder, weight_sets()["vggt"])
    >>> maps = VggtModel(GEOMETRY["vggt"], folder, Residents()).points(views, None, 3.0)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from worldexplorer.engine import Poses, Views
from worldexplorer.geometry.rotations import quaternion_to_matrix
from worldexplorer.models.frame_pixels import DEVIATIONS, MEANS, network_pixels
from worldexplorer.models.point_maps import PointMapModel, Seen
from worldexplorer.models.seva.attention import attention_backends
from worldexplorer.models.vggt_attention import RotationTable, fuse, is_fused

_WEIGHTS = "model.safetensors"
_HEAD_FRAMES = 4
"""Frames that the depth head takes at once: its maps of 518 pixels are the largest tensors of all."""
_BFLOAT16_CAPABILITY = _OWN_KERNELS_CAPABILITY = 8


class VggtModel(PointMapModel):
    """A model of :class:`worldexplorer.engine.GeometryModel`."""

    def _load(self, folder: Path, device: torch.device) -> Any:
        from vggt.models.vggt import VGGT

        with without_storage():
            network = VGGT(img_size=self.model.size, enable_point=False, enable_track=False)
        fill(network, folder / _WEIGHTS, device)
        return prepare(network)

    def _look(self, network: Any, views: Views, device: torch.device) -> Seen:
        pixels = torch.from_numpy(network_pixels(views.images, self.model.size, "bicubic", normalise=False)).to(device)
        return look(network, pixels)


def prepare(network: Any) -> Any:
    """A network that has its weights, ready to look; on a CUDA GPU in half precision."""
    trunk = network.aggregator
    device = trunk.camera_token.device
    network.eval().requires_grad_(requires_grad=False)
    if device.type == "cuda":
        for module in trunk.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                module.to(_half(device))
        if torch.cuda.get_device_capability(device)[0] >= _OWN_KERNELS_CAPABILITY:
            fuse(trunk)
    return network


@torch.inference_mode()
def look(network: Any, pixels: Tensor) -> Seen:
    """What the network says of frames.

    Args:
        network: with `aggregator`, `camera_head` and `depth_head`.
        pixels: [n, 3, S, S] from 0 to 1, on the network's device.
    """
    device = pixels.device
    wanted = frozenset(network.depth_head.intermediate_layer_idx)
    with (
        attention_backends(device),
        torch.autocast(device.type, dtype=_half(device), enabled=device.type == "cuda"),
    ):
        outputs = run_trunk(network.aggregator, pixels, wanted)
    with attention_backends(device):
        encoding = network.camera_head(outputs)[-1][0]
        depth, confidence = network.depth_head(
            outputs,
            images=pixels[None],
            patch_start_idx=network.aggregator.patch_start_idx,
            frames_chunk_size=_HEAD_FRAMES,
        )
    c2w, intrinsics = read_cameras(encoding)
    return Seen(depth[0, ..., 0].float(), confidence[0].float(), c2w, intrinsics)


def run_trunk(trunk: Any, pixels: Tensor, wanted: frozenset[int]) -> list[Tensor | None]:
    """The outputs of the trunk's layers that are wanted, and of its last; None for the others.

    Each frame's patches pass a backbone; then layers of attention within the frames and across all of them take turns.
    A layer's output is that of both, one after the other along the channels. Each frame also carries tokens of its own
    for the camera and others, of which there is one kind for the first frame and another for all that follow.

    Args:
        trunk: the package's `aggregator`.
        pixels: [n, 3, S, S] from 0 to 1.
        wanted: numbers of layers.

    Returns:
        For each layer [1, n, tokens, 2 channels] or None.
    """
    frames = len(pixels)
    means, deviations = (torch.tensor(values, device=pixels.device)[:, None, None] for values in (MEANS, DEVIATIONS))
    patches = trunk.patch_embed((pixels - means) / deviations)
    if isinstance(patches, dict):
        patches = patches["x_norm_patchtokens"]
    special = torch.cat([trunk.camera_token, trunk.register_token], dim=2)[0]  # [2, tokens, channels]
    kinds = torch.ones(frames, dtype=torch.long, device=pixels.device)
    kinds[0] = 0
    tokens = torch.cat([special[kinds], patches], dim=1)
    own_places, all_places = _places(trunk, pixels, frames)
    outputs: list[Tensor | None] = []
    last = len(trunk.frame_blocks) - 1
    for layer, (within, across) in enumerate(zip(trunk.frame_blocks, trunk.global_blocks, strict=True)):
        own = within(tokens, pos=own_places)
        tokens = across(own.flatten(0, 1)[None], pos=all_places).view_as(own)
        outputs.append(torch.cat([own, tokens], dim=-1)[None] if layer in wanted or layer == last else None)
    return outputs


def _places(trunk: Any, pixels: Tensor, frames: int) -> tuple[Any, Any]:
    """Where tokens are in their frames, as the blocks of frames and those of all frames take it.

    Patches count from 1 in rows and columns; the tokens that are no patch are at 0.
    """
    rows, columns = (length // trunk.patch_size for length in pixels.shape[2:])
    grid = trunk.position_getter(1, rows, columns, device=pixels.device)[0] + 1
    places = torch.cat([grid.new_zeros(trunk.patch_start_idx, 2), grid])  # [tokens, 2]
    if is_fused(trunk):
        table = RotationTable.of(places, trunk)
        return table, table
    every = places.repeat(frames, 1, 1)
    return every, every.flatten(0, 1)[None]


def read_cameras(encoding: Tensor) -> tuple[Poses, Poses]:
    """Cameras from what the camera head says.

    Args:
        encoding: [n, 9]: translation and rotation (quaternion x, y, z, w) from world to camera, and the vertical and
            the horizontal field of view, radians; OpenCV axes.

    Returns:
        [n, 4, 4] camera-to-world, OpenCV, and [n, 3, 3] normalised intrinsics.
    """
    values = encoding.double().cpu().numpy()
    to_camera = quaternion_to_matrix(values[:, [6, 3, 4, 5]])
    c2w = np.tile(np.eye(4), (len(values), 1, 1))
    c2w[:, :3, :3] = np.swapaxes(to_camera, 1, 2)
    c2w[:, :3, 3] = -(c2w[:, :3, :3] @ values[:, :3, None])[..., 0]
    intrinsics = np.tile(np.eye(3), (len(values), 1, 1))
    intrinsics[:, :2, 2] = 0.5
    with np.errstate(divide="ignore"):  # a field of view of 0 is told apart by who checks that all is finite
        intrinsics[:, 0, 0], intrinsics[:, 1, 1] = (0.5 / np.tan(values[:, place] / 2) for place in (8, 7))
    return c2w, intrinsics


class _OnMeta(TorchFunctionMode):
    """What is made without values is made without storage."""

    _MAKERS = (torch.empty, torch.zeros, torch.ones, torch.randn)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in self._MAKERS and kwargs.get("device") is None:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


@contextmanager
def without_storage() -> Iterator[None]:
    """Build a network whose parameters have shapes alone: no random numbers, no memory."""
    with _OnMeta():
        yield


def fill(network: nn.Module, path: Path, device: torch.device) -> None:
    """Give a network without storage the weights of a file; those of parts that it lacks are not read.

    On a CUDA GPU the trunk's products get their weights in half precision at once.

    Raises:
        KeyError, ValueError: a weight is missing or has another shape (for `loading_errors`).
    """
    wanted = network.state_dict()
    half = set(_products(network, "aggregator.")) if device.type == "cuda" else set()
    weights = {}
    with safe_open(path, framework="pt", device="cpu") as file:
        missing = sorted(wanted.keys() - set(file.keys()))
        if missing:
            raise KeyError(f"{path.name} lacks {len(missing)} weights, the first is {missing[0]}")
        for name, place in wanted.items():
            value = file.get_tensor(name)
            if value.shape != place.shape:
                raise ValueError(f"{name} has shape {list(value.shape)}, not {list(place.shape)}")
            weights[name] = value.to(device, _half(device) if name in half else torch.float32)
    network.load_state_dict(weights, assign=True)
    network.to(device)  # buffers that are no part of the file


def _products(network: nn.Module, start: str) -> Iterator[str]:
    """The names of the weights of products, which autocast computes in half precision."""
    for name, module in network.named_modules():
        if name.startswith(start) and isinstance(module, (nn.Linear, nn.Conv2d)):
            yield from (f"{name}.{part}" for part in ("weight", "bias"))


def _half(device: torch.device) -> torch.dtype:
    """The published half precision: bfloat16 where the GPU has it."""
    if device.type == "cuda" and torch.cuda.get_device_capability(device)[0] < _BFLOAT16_CAPABILITY:
        return torch.float16
    return torch.bfloat16
