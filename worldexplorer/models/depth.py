"""Metric depth of frames by Depth Anything V2 Metric Small: the model of indoor places, or that of outdoor ones.

Frames are resized to 518 pixels by Pillow's bicubic filter and normalised, as the library's processor does it. The
network computes in half precision on a GPU; its depth is brought back to the frames' size linearly, so no value lies
beyond those that the network gave. How many frames go in at once follows from the memory that is free: SEVA does not
leave the GPU for more of them. When memory runs out all the same, the other networks leave, then half as many go in.

Example:
    >>> model = DepthAnythingModel(depth_model("indoor"), partial(local_folder, weights), Residents())
    >>> metres = model.depth(views, None, 3.0)      # [N, H, W] float32
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from transformers import DepthAnythingForDepthEstimation

from worldexplorer.engine import Images, Views, World
from worldexplorer.errors import DefectError, OutOfMemoryError, UserError
from worldexplorer.models.frame_network import FrameNetwork
from worldexplorer.models.frame_pixels import network_pixels
from worldexplorer.models.gpus import first_gpu
from worldexplorer.models.pipelines import loading_errors
from worldexplorer.models.residents import free_gpu_bytes
from worldexplorer.units import GIB

_MOST_TOGETHER = 16
"""A trajectory's thirteen anchors are looked at in one go."""

_log = logging.getLogger(__name__)


class DepthAnythingModel(FrameNetwork):
    """A model of :class:`worldexplorer.engine.DepthModel`; made as every :class:`FrameNetwork`."""

    role = "depth"
    _most = _MOST_TOGETHER

    def depth(self, views: Views, world: World | None, translation_scaling_factor: float) -> NDArray[np.float32]:
        """See DepthModel.

        Raises:
            UserError: there is no usable GPU, or the files are not this model's weights.
            OutOfMemoryError: the GPU's memory ran out over a single frame.
            DefectError: a depth is not a positive number.
        """
        device = self._device or first_gpu(self.model.title)
        count, size = views.images.shape[:2]
        metres = np.empty((count, size, size), dtype=np.float32)
        done = 0
        while done < count:
            network = self._network(device)
            together = min(count - done, self._together(device))
            frames = slice(done, done + together)
            try:
                with torch.inference_mode():
                    metres[frames] = look(network, views.images[frames], self.model.size)
            except torch.OutOfMemoryError as error:
                message = str(error).splitlines()[0]
                error.__traceback__ = None  # its frames hold the tensors that are to be freed
                del network
                self._make_smaller(together, message)
                continue
            done += together
        self._check(metres)
        return metres

    def _network(self, device: torch.device) -> Any:
        return self._residents.get(self._key, int(self.model.least_gib * GIB), lambda: self._load(device))

    def _load(self, device: torch.device) -> Any:
        folder = self._folder()
        kind = torch.float16 if device.type == "cuda" else torch.float32
        with loading_errors(self.model.title, folder):
            network = DepthAnythingForDepthEstimation.from_pretrained(folder, local_files_only=True, dtype=kind)
        if network.config.depth_estimation_type != "metric":
            raise UserError(
                f"the weights of {self.model.title} do not give metres: config.json says "
                f"{network.config.depth_estimation_type!r}",
                where=str(folder),
                remedy="take those of a metric model; `worldexplorer weights pull` gets them",
            )
        return network.to(device).eval().requires_grad_(requires_grad=False)

    def _together(self, device: torch.device) -> int:
        free = free_gpu_bytes() if device.type == "cuda" else None
        if free is None:
            return self._most
        return max(1, min(self._most, int((free / GIB - self.model.work_gib) / self.model.frame_gib)))

    def _make_smaller(self, together: int, message: str) -> None:
        """Free memory for another try; OutOfMemoryError where there is nothing left to free."""
        if self._others_left(message):
            return
        if together == 1:
            raise OutOfMemoryError(
                f"the GPU's memory ran out over {self.model.title} ({message})",
                where="one frame",
                remedy="end other programs on this GPU, or take one with more memory",
            )
        self._most = together // 2
        _log.warning("%s ran out of GPU memory (%s): trying again, %d at once", self.model.title, message, self._most)

    def _check(self, metres: NDArray[np.float32]) -> None:
        flawed = ~(np.isfinite(metres) & (metres > 0)).all(axis=(1, 2))
        if flawed.any():
            raise DefectError(
                f"{self.model.title} gave a depth that is not a positive number",
                where=f"frames {np.flatnonzero(flawed).tolist()} of {len(metres)}",
                remedy="check the weights with `worldexplorer weights verify`; if they are whole, report it",
            )


def look(network: Any, images: Images, size: int) -> NDArray[np.float32]:
    """Metres [n, S, S] of frames [n, S, S, 3] by the network, which takes them at another size."""
    pixels = torch.from_numpy(network_pixels(images, size, "bicubic", normalise=True)).to(network.device, network.dtype)
    small = network(pixel_values=pixels).predicted_depth.float()
    whole = functional.interpolate(small[:, None], size=images.shape[1:3], mode="bilinear", align_corners=False)
    metres: NDArray[np.float32] = whole[:, 0].cpu().numpy()
    return metres
