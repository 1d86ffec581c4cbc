"""Parts of pictures made anew: the real loading and sampling code over tiny weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_pipelines import save_flux, save_klein, save_sd2

from worldexplorer.engine import InpaintModel, InpaintRequest
from worldexplorer.errors import Cancelled, OutOfMemoryError, UsageError, UserError
from worldexplorer.models.inpaint import InpaintingModel, nearest_given
from worldexplorer.models.residents import Residents
from worldexplorer.progress import silent

CPU = torch.device("cpu")
SIZE = 64
NAMES = ["sd2-inpainting", "flux2-klein", "flux1-fill"]
PICTURE = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
MASK = np.zeros((SIZE, SIZE), dtype=np.bool_)
MASK[:, 16:48] = True


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("weights")
    save_sd2(root / "sd2-inpainting")
    save_klein(root / "flux2-klein")
    save_flux(root / "flux1-fill", fill=True)
    return root


@pytest.fixture
def make(weights: Path) -> Callable[..., InpaintingModel]:
    def load(name: str, steps: int = 1) -> InpaintingModel:
        return InpaintingModel(name, lambda: weights / name, Residents(), steps, CPU)

    return load


def ask(seed: int = 7, guidance: float = 7.0, prompt: str = "a pier", image: np.ndarray = PICTURE) -> InpaintRequest:
    return InpaintRequest(image, MASK, prompt, "text, people", guidance, seed)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """What the Stable Diffusion pipeline is called with."""
    from diffusers import StableDiffusionInpaintPipeline

    seen: list[dict] = []
    real = StableDiffusionInpaintPipeline.__call__
    monkeypatch.setattr(
        StableDiffusionInpaintPipeline, "__call__", lambda made, **named: seen.append(named) or real(made, **named)
    )
    return seen


@pytest.mark.parametrize("name", NAMES)
class TestPictures:
    def test_requests_give_pictures_of_their_own(self, name: str, make) -> None:
        model: InpaintModel = make(name)
        first, again, other = model.inpaint([ask(), ask(), ask(8)], silent)
        assert first.shape == (SIZE, SIZE, 3)
        assert first.dtype == np.uint8
        assert np.abs(first.astype(int) - again).max() <= 1, "equal requests, but for the last bit of a float"
        assert (first != other)[MASK].mean() > 0.5

    def test_a_picture_does_not_depend_on_what_is_made_with_it(self, name: str, make) -> None:
        alone = next(make(name).inpaint([ask(8)], silent))
        among = list(make(name).inpaint([ask(1), ask(2), ask(8)], silent))[2]
        assert np.abs(alone.astype(int) - among).max() <= 1

    def test_what_stands_under_the_mask_plays_no_part(self, name: str, make) -> None:
        black, white = PICTURE.copy(), PICTURE.copy()
        black[MASK], white[MASK] = 0, 255
        one, other = (next(make(name).inpaint([ask(image=image)], silent)) for image in (black, white))
        assert (one == other).all()

    def test_the_given_part_counts(self, name: str, make) -> None:
        one, other = (next(make(name).inpaint([ask(image=image)], silent)) for image in (PICTURE, 255 - PICTURE))
        assert (one != other)[MASK].any()

    def test_progress_counts_all_steps_and_can_cancel(self, name: str, make) -> None:
        heard = []
        list(make(name, steps=2).inpaint([ask(1), ask(2), ask(3)], lambda *said: heard.append(said[:2])))
        assert heard[-1] == (6, 6)
        assert [done for done, _ in heard] == sorted(done for done, _ in heard)

        def stop(done: int, total: int, what: str) -> None:
            raise Cancelled

        with pytest.raises(Cancelled):
            list(make(name).inpaint([ask()], stop))

    def test_a_size_that_cannot_be_made_is_refused(self, name: str, make) -> None:
        odd = replace(ask(), image=PICTURE[:60, :60], mask=MASK[:60, :60])
        with pytest.raises(UserError, match=r"multiples of (8|16) pixels, not 60"):
            make(name).inpaint([odd], silent)


def test_pictures_with_one_guidance_are_made_together_and_groups_filled_up(make, calls) -> None:
    requests = [ask(seed, 7.0) for seed in range(10)] + [ask(3, 9.0)]
    assert len(list(make("sd2-inpainting").inpaint(requests, silent))) == 11
    assert [call["guidance_scale"] for call in calls] == [7.0, 7.0, 9.0]
    assert [len(call["prompt"]) for call in calls] == [8, 8, 8]
    assert [one.initial_seed() for one in calls[1]["generator"]] == [8, 9, 9, 9, 9, 9, 9, 9]
    assert calls[0]["negative_prompt"] == ["text, people"] * 8
    assert calls[0]["strength"] == 1.0


def test_when_memory_runs_out_half_as_many_are_made_at_once(make, monkeypatch, calls) -> None:
    from diffusers import StableDiffusionInpaintPipeline

    recorded = StableDiffusionInpaintPipeline.__call__

    def short(made, **named):
        if len(named["prompt"]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return recorded(made, **named)

    monkeypatch.setattr(StableDiffusionInpaintPipeline, "__call__", short)
    model = make("sd2-inpainting")
    assert len(list(model.inpaint([ask(seed) for seed in range(4)], silent))) == 4
    assert [[one.initial_seed() for one in call["generator"]] for call in calls] == [[0, 1], [2, 3]]
    assert model.maker.placement is not None
    assert model.maker.placement.together == 2


def test_what_fails_at_the_smallest_setting_is_out_of_memory(make, monkeypatch) -> None:
    from diffusers import StableDiffusionInpaintPipeline

    def short(made, **named):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(StableDiffusionInpaintPipeline, "__call__", short)
    monkeypatch.setattr(StableDiffusionInpaintPipeline, "enable_model_cpu_offload", lambda made, device: None)
    with pytest.raises(OutOfMemoryError, match="over Stable Diffusion 2 inpainting"):
        list(make("sd2-inpainting").inpaint([ask()], silent))


def test_klein_takes_no_guidance_and_fill_does(make) -> None:
    for name, counts in (("flux2-klein", False), ("flux1-fill", True)):
        one, other = make(name).inpaint([ask(guidance=1.0), ask(guidance=30.0)], silent)
        assert (one != other).any() == counts, name


def test_an_unknown_name_is_refused(make) -> None:
    with pytest.raises(UsageError, match="choose from sd2-inpainting, flux2-klein, flux1-fill"):
        make("sd9")


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.95))
def test_masked_pixels_become_the_nearest_given_ones(seed: int, share: float) -> None:
    generator = np.random.default_rng(seed)
    picture = generator.integers(0, 256, (9, 9, 3), dtype=np.uint8)
    mask = generator.random((9, 9)) < share
    mask[4, 4] = False
    filled = nearest_given(picture, mask)
    given_places = np.argwhere(~mask)
    for row, column in np.argwhere(mask):
        distances = np.square(given_places - (row, column)).sum(axis=1)
        nearest = given_places[distances == distances.min()]
        assert any((filled[row, column] == picture[r, c]).all() for r, c in nearest)
    assert (filled[~mask] == picture[~mask]).all()


def test_a_mask_of_everything_leaves_grey() -> None:
    assert (nearest_given(PICTURE, np.ones_like(MASK)) == 127).all()
    assert nearest_given(PICTURE, np.zeros_like(MASK)) is PICTURE
