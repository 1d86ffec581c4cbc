"""How well pictures show what texts say: the cosine between CLIP's picture and text features.

Pictures come to the network as in the published system: first to 299 pixels (bilinear), then to the network's own size
(bicubic), both antialiased, then normalised with CLIP's means and deviations. A text of more than the network's 77
tokens is cut.

Example:
    >>> scores = PromptScoreModel(folder, Residents()).score(images, ["a harbour", "a pier"], silent)  # [N, 2]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from transformers import AutoTokenizer, CLIPModel

from worldexplorer.engine import Images, Picture
from worldexplorer.errors import DefectError
from worldexplorer.models.gpus import first_gpu
from worldexplorer.models.pipelines import loading_errors
from worldexplorer.models.residents import Residents
from worldexplorer.progress import Progress
from worldexplorer.units import GIB

_TITLE = "CLIP for comparing pictures with words"
_WANTED_GIB = 2.0
_FIRST_SIZE = 299
_TOGETHER = 16
_MEANS = (0.48145466, 0.4578275, 0.40821073)
_DEVIATIONS = (0.26862954, 0.26130258, 0.27577711)


class PromptScoreModel:
    """A model of :class:`worldexplorer.engine.PromptScorer`, in float32.

    Args:
        folder: answers with where the files are, downloading them where needed.
        residents: who else is on the GPU.
        device: to compute on; the current CUDA GPU unless given.
    """

    def __init__(self, folder: Callable[[], Path], residents: Residents, device: torch.device | None = None) -> None:
        self._folder = folder
        self._residents = residents
        self._device = device

    @torch.inference_mode()
    def score(self, images: Images, texts: Sequence[str], progress: Progress) -> NDArray[np.float32]:
        """See PromptScorer.

        Raises:
            UserError: there is no usable GPU, or the weights cannot be had.
            DefectError: a score is not finite.
        """
        device = self._device or first_gpu(_TITLE)
        model, tokenizer = self._residents.get(_TITLE, int(_WANTED_GIB * GIB), lambda: self._load(device))
        words = tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=model.config.text_config.max_position_embeddings,
            return_tensors="pt",
        )
        text = _unit(model.get_text_features(**{name: value.to(device) for name, value in words.items()}))
        scores = np.empty((len(images), len(texts)), dtype=np.float32)
        size = model.config.vision_config.image_size
        for start in range(0, len(images), _TOGETHER):
            pixels = np.stack([network_pixels(picture, size) for picture in images[start : start + _TOGETHER]])
            picture = _unit(model.get_image_features(pixel_values=torch.from_numpy(pixels).to(device)))
            scores[start : start + _TOGETHER] = (picture @ text.T).float().cpu().numpy()
            progress(min(start + _TOGETHER, len(images)), len(images), "CLIP score")
        if not np.isfinite(scores).all():
            raise DefectError(
                "a CLIP score is not finite", remedy="check the weights with `worldexplorer weights verify`"
            )
        return scores

    def _load(self, device: torch.device) -> tuple[Any, Any]:
        folder = self._folder()
        with loading_errors(_TITLE, folder):
            model = CLIPModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        return model.to(device).eval().requires_grad_(requires_grad=False), tokenizer


def network_pixels(picture: Picture, size: int) -> NDArray[np.float32]:
    """A square picture [S, S, 3] as the network takes it: [3, size, size], normalised."""
    small = Image.fromarray(picture).resize((_FIRST_SIZE, _FIRST_SIZE), Image.Resampling.BILINEAR)
    values = np.asarray(small.resize((size, size), Image.Resampling.BICUBIC), dtype=np.float32) / 255.0
    normal = (values - np.asarray(_MEANS, dtype=np.float32)) / np.asarray(_DEVIATIONS, dtype=np.float32)
    return np.ascontiguousarray(normal.transpose(2, 0, 1))


def _unit(features: object) -> Tensor:
    """Features of length 1; the library answers with a tensor or with what holds it."""
    vectors = getattr(features, "pooler_output", features)
    assert isinstance(vectors, Tensor)
    return torch.nn.functional.normalize(vectors, dim=-1)
