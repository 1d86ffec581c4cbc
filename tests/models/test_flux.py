"""Views from text: the real loading and sampling code over tiny weights, and every way it can fail."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_pipelines import save_flux, save_klein

from worldexplorer.engine import TextToImageModel, TextToImageRequest
from worldexplorer.errors import Cancelled, DefectError, OutOfMemoryError, UsageError, UserError
from worldexplorer.models.flux import FluxModel
from worldexplorer.models.picture_models import Placement
from worldexplorer.models.residents import Residents
from worldexplorer.progress import silent

CPU = torch.device("cpu")
SIZE = 64
NAMES = ["flux1-dev", "flux2-klein"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("weights")
    save_flux(root / "flux1-dev")
    save_klein(root / "flux2-klein")
    return root


@pytest.fixture
def make(weights: Path) -> Callable[..., FluxModel]:
    def load(name: str, steps: int = 1, residents: Residents | None = None) -> FluxModel:
        return FluxModel(name, lambda: weights / name, residents or Residents(), steps, CPU)

    return load


def ask(seed: int = 7, prompt: str = "a harbour", size: int = SIZE) -> TextToImageRequest:
    return TextToImageRequest(prompt, seed, size)


@pytest.mark.parametrize("name", NAMES)
class TestPictures:
    def test_requests_give_pictures_of_their_own(self, name: str, make) -> None:
        model: TextToImageModel = make(name)
        first, again, other, words = model.generate([ask(), ask(), ask(8), ask(prompt="a pier, seen from")], silent)
        assert first.shape == (SIZE, SIZE, 3)
        assert first.dtype == np.uint8
        assert (first == again).all(), "equal requests"
        assert (first != other).mean() > 0.5
        assert (first != words).any()

    def test_a_picture_does_not_depend_on_what_is_made_with_it(self, name: str, make) -> None:
        alone = next(make(name).generate([ask(8)], silent))
        torch.manual_seed(99)
        among = list(make(name).generate([ask(1), ask(2), ask(8)], silent))[2]
        assert (alone == among).all()

    def test_pictures_come_one_by_one_and_progress_counts_all(self, name: str, make) -> None:
        heard = []
        made = make(name, steps=2).generate([ask(), ask(8)], lambda *said: heard.append(said))
        assert heard == [], "nothing is made before it is asked for"
        next(made)
        assert [done for done, _, _ in heard] == [1, 2]
        next(made)
        assert [said[:2] for said in heard] == [(1, 4), (2, 4), (3, 4), (4, 4)]
        assert "FLUX" in heard[0][2]

    def test_a_run_is_cancelled_at_its_next_step(self, name: str, make) -> None:
        def stop(done: int, total: int, what: str) -> None:
            raise Cancelled

        with pytest.raises(Cancelled):
            list(make(name).generate([ask()], stop))

    def test_a_size_that_cannot_be_made_is_refused(self, name: str, make) -> None:
        with pytest.raises(UserError, match="multiples of 16 pixels, not 72"):
            make(name).generate([ask(size=72)], silent)

    @pytest.mark.parametrize("damage", ["missing", "truncated", "index"])
    def test_damaged_weights_are_told_with_their_place(self, name: str, damage: str, weights, tmp_path) -> None:
        folder = tmp_path / name
        shutil.copytree(weights / name, folder)
        network = next((folder / "transformer").glob("*.safetensors"))
        if damage == "missing":
            network.unlink()
        elif damage == "truncated":
            network.write_bytes(network.read_bytes()[:100])
        else:
            (folder / "model_index.json").write_text("{")
        model = FluxModel(name, lambda: folder, Residents(), 1, CPU)
        with pytest.raises(
            UserError, match=rf"weights of FLUX.* cannot be loaded.*{name}.*worldexplorer weights verify"
        ):
            list(model.generate([ask()], silent))

    def test_a_result_that_is_not_finite_is_a_defect(self, name: str, make) -> None:
        model = make(name)
        pipeline, _ = model.maker._loaded()
        with torch.no_grad():
            pipeline.transformer.proj_out.weight.fill_(torch.nan)
        with pytest.raises(DefectError, match=r"not finite.*seeds \[7\]"):
            list(model.generate([ask()], silent))

    def test_a_picture_of_one_colour_is_a_defect(self, name: str, make, monkeypatch) -> None:
        model = make(name)
        pipeline, _ = model.maker._loaded()
        decode = pipeline.vae.decode
        monkeypatch.setattr(pipeline.vae, "decode", lambda *given, **named: [decode(*given, **named)[0] * 0 - 1])
        with pytest.raises(DefectError, match=r"of one colour \(seeds \[7\]\)"):
            list(model.generate([ask()], silent))


def test_the_published_steps_are_the_default_and_guidance_reaches_the_model(weights, monkeypatch) -> None:
    model = FluxModel("flux1-dev", lambda: weights / "flux1-dev", Residents(), None, CPU)
    assert model.steps == 100
    asked = {}
    pipeline, _ = model.maker._loaded()

    def remember(self, **named):
        asked.update(named)
        raise Cancelled

    monkeypatch.setattr(type(pipeline), "__call__", remember)
    with pytest.raises(Cancelled):
        list(model.generate([ask()], silent))
    assert (asked["num_inference_steps"], asked["guidance_scale"], asked["height"], asked["width"]) == (
        100,
        3.5,
        64,
        64,
    )
    assert [one.device.type for one in asked["generator"]] == ["cpu"]
    assert [one.initial_seed() for one in asked["generator"]] == [7]


class Short:
    """Memory runs out until it was freed often enough."""

    def __init__(self, pipeline: type, failures: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.failures = failures
        real = pipeline.__call__

        def call(made, **named):
            if self.failures:
                self.failures -= 1
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return real(made, **named)

        monkeypatch.setattr(pipeline, "__call__", call)
        monkeypatch.setattr(pipeline, "enable_model_cpu_offload", lambda made, device: made.to(device))


class TestMemory:
    """Nothing here has a GPU: its errors are raised in its place."""

    def test_the_same_picture_is_made_with_one_network_at_a_time(self, make, monkeypatch) -> None:
        from diffusers import FluxPipeline

        expected = next(make("flux1-dev").generate([ask()], silent))
        Short(FluxPipeline, 1, monkeypatch)
        model = make("flux1-dev")
        (picture,) = model.generate([ask()], silent)
        assert (picture == expected).all()
        assert model.maker.placement == Placement(resident=False, together=1)

    def test_other_networks_go_first(self, make, monkeypatch) -> None:
        from diffusers import FluxPipeline

        residents = Residents()
        residents.get("seva", 0, object)
        Short(FluxPipeline, 1, monkeypatch)
        model = make("flux1-dev", residents=residents)
        list(model.generate([ask()], silent))
        assert "seva" not in residents
        assert model.maker.placement == Placement(resident=True, together=1)

    def test_networks_that_do_not_fit_together_take_turns(self, make, monkeypatch) -> None:
        from diffusers import FluxPipeline

        expected = next(make("flux1-dev").generate([ask()], silent))
        real, offloaded = FluxPipeline.to, []

        def full(made, place, **named):
            if isinstance(place, torch.device):
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return real(made, place, **named)

        monkeypatch.setattr(FluxPipeline, "to", full)
        monkeypatch.setattr(FluxPipeline, "enable_model_cpu_offload", lambda made, device: offloaded.append(device))
        model = make("flux1-dev")
        (picture,) = model.generate([ask()], silent)
        assert offloaded == [CPU]
        assert (picture == expected).all()
        assert model.maker.placement == Placement(resident=False, together=1)

    def test_what_fails_at_the_smallest_setting_is_out_of_memory(self, make, monkeypatch) -> None:
        from diffusers import FluxPipeline

        Short(FluxPipeline, 9, monkeypatch)
        with pytest.raises(
            OutOfMemoryError, match=r"over FLUX\.1-dev \(CUDA out of memory.*--text_to_image flux2-klein"
        ):
            list(make("flux1-dev").generate([ask()], silent))


def test_without_a_gpu_the_error_says_so(weights, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    model = FluxModel("flux2-klein", lambda: weights / "flux2-klein", Residents())
    with pytest.raises(UserError, match=r"FLUX.2-klein-4B needs a CUDA GPU, and torch finds none here"):
        next(model.generate([ask()], silent))


def test_an_unknown_name_is_refused(make) -> None:
    with pytest.raises(UsageError, match="choose from flux1-dev, flux2-klein"):
        make("flux9")
