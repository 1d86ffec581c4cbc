"""The picture encoders through the real loading code, with tiny random weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_seva import SIZE, save_tiny_weights, save_tower

from worldexplorer.errors import UserError
from worldexplorer.models.seva.model import SevaFiles
from worldexplorer.models.seva.pictures import BATCH, load_codec, load_image_tower

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> SevaFiles:
    return save_tiny_weights(tmp_path_factory.mktemp("weights"))


def pictures(count: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, SIZE, SIZE, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
def test_latents_are_the_scaled_means(files: SevaFiles) -> None:
    codec = load_codec(files.codec, CPU, torch.float32)
    latents = codec.encode(pictures(BATCH + 2))
    assert latents.shape == (BATCH + 2, 4, SIZE // 8, SIZE // 8)
    x = pictures(1).permute(0, 3, 1, 2) / 127.5 - 1
    torch.testing.assert_close(latents[:1], codec.model.encode(x).latent_dist.mean * 0.18215, atol=1e-5, rtol=1e-4)


@torch.inference_mode()
def test_decoding_gives_pictures_for_any_number(files: SevaFiles) -> None:
    codec = load_codec(files.codec, CPU, torch.float32)
    latents = torch.randn(BATCH + 1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    found = codec.decode(latents)
    assert found.dtype == torch.uint8
    assert found.shape == (BATCH + 1, SIZE, SIZE, 3)
    one = codec.model.decode(latents[-1:] / 0.18215).sample
    expected = ((one.clamp(-1, 1) + 1) * 127.5).round()[0].permute(1, 2, 0)
    assert (found[-1].float() - expected).abs().max() <= 1


@torch.inference_mode()
def test_filling_a_batch_up_changes_no_picture(files: SevaFiles) -> None:
    codec = load_codec(files.codec, CPU, torch.float32)
    latents = torch.randn(3, 4, 8, 8)
    plain = codec.decode(latents)
    codec._fill = True  # as where the decoder is compiled for full batches
    assert torch.equal(codec.decode(latents), plain)


@torch.inference_mode()
def test_a_picture_becomes_one_token(files: SevaFiles) -> None:
    tower = load_image_tower(files.tower, CPU, torch.float32)
    tokens = tower.embed(pictures(3))
    assert tokens.shape == (3, 16)
    assert not torch.allclose(tokens[0], tokens[1])
    grey = torch.full((1, SIZE, SIZE, 3), 128, dtype=torch.uint8)
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])
    deviation = torch.tensor([0.26862954, 0.26130258, 0.27577711])
    plain = ((128 / 255 - mean) / deviation)[None, :, None, None].expand(1, 3, 28, 28)
    torch.testing.assert_close(tower.embed(grey), tower.model(plain).image_embeds, atol=1e-5, rtol=1e-4)


def test_another_clip_is_refused(tmp_path: Path) -> None:
    save_tower(tmp_path / "clip", "quick_gelu")
    with pytest.raises(UserError, match=r"computes with quick_gelu, SEVA's with gelu.*laion"):
        load_image_tower(tmp_path / "clip", CPU, torch.float32)


def test_a_folder_without_weights_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"AutoencoderKL cannot be loaded.*needs the model's config.json"):
        load_codec(tmp_path, CPU, torch.float32)
