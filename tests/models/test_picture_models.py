"""What a GPU allows, which weights a run needs, and which networks stay."""

from __future__ import annotations

import pytest

from worldexplorer.cli.arguments import parse_run
from worldexplorer.config import ScaffoldConfig
from worldexplorer.errors import UsageError, UserError
from worldexplorer.models.picture_models import (
    INPAINT,
    TEXT_TO_IMAGE,
    PictureModel,
    Placement,
    TextSettings,
    built_in_weights,
    choose_placement,
    most_frames_at_once,
    needed_weights,
    smaller_placement,
    text_settings,
)
from worldexplorer.models.residents import Residents
from worldexplorer.models.weights import weight_sets
from worldexplorer.scaffold.variants import takes_guidance
from worldexplorer.units import GIB

ALL = [*TEXT_TO_IMAGE.values(), *INPAINT.values()]


def gib(size: float) -> int:
    return int(size * GIB)


@pytest.mark.parametrize("model", ALL, ids=lambda model: model.title)
class TestPlacement:
    def test_a_large_gpu_keeps_everything(self, model: PictureModel) -> None:
        assert choose_placement(model, gib(79)) == Placement(resident=True, together=model.together)
        assert choose_placement(model, gib(model.wanted_gib) + 1) == Placement(resident=True, together=model.together)

    def test_with_the_least_memory_one_network_is_there_at_a_time(self, model: PictureModel) -> None:
        placed = choose_placement(model, gib(model.least_gib) + 1)
        assert placed == Placement(resident=False, together=1)

    def test_too_little_memory_is_an_error_that_says_how_much_is_needed(self, model: PictureModel) -> None:
        with pytest.raises(UserError, match=rf"too little GPU memory for {model.title}.*{model.least_gib:.1f} GiB are"):
            choose_placement(model, gib(model.least_gib - 0.2))

    def test_more_memory_never_means_less(self, model: PictureModel) -> None:
        steps = [choose_placement(model, gib(model.least_gib + 0.05 + step / 2)) for step in range(120)]
        ranks = [(placed.resident, placed.together) for placed in steps]
        assert ranks == sorted(ranks)


@pytest.mark.parametrize("model", [TEXT_TO_IMAGE["flux1-dev"], INPAINT["flux1-fill"]], ids=lambda model: model.title)
def test_flux_is_too_large_for_a_24_gb_card_and_stays_on_one_of_40(model: PictureModel) -> None:
    with pytest.raises(UserError, match=r"23\.8 GiB are needed"):
        choose_placement(model, gib(23.4))
    assert not choose_placement(model, gib(31)).resident
    assert choose_placement(model, gib(38)).resident


@pytest.mark.parametrize(
    ("model", "peak", "reserved"),
    [
        (TEXT_TO_IMAGE["flux1-dev"], 32.49, 33.2),
        (INPAINT["flux1-fill"], 32.23, 32.77),
        (TEXT_TO_IMAGE["flux2-klein"], 15.72, 16.3),
        (INPAINT["flux2-klein"], 15.72, 16.21),
        (INPAINT["sd2-inpainting"], 7.78, 12.93),
    ],
)
def test_room_for_everything_is_what_was_measured(model: PictureModel, peak: float, reserved: float) -> None:
    """Peaks on an H200, most pictures at once: not less than was in use, nor much more than was held."""
    assert peak < model.wanted_gib < reserved + 1


def test_smaller_settings_end_with_one_network_at_a_time() -> None:
    placed: Placement | None = Placement(resident=True, together=8)
    seen = []
    while placed is not None:
        seen.append((placed.resident, placed.together))
        placed = smaller_placement(placed)
    assert seen == [(True, 8), (True, 4), (True, 2), (True, 1), (False, 1)]


def test_the_published_settings() -> None:
    flux, sd2 = TEXT_TO_IMAGE["flux1-dev"], INPAINT["sd2-inpainting"]
    assert (flux.steps, flux.guidance, flux.precision) == (100, 3.5, "bfloat16")
    assert (sd2.steps, sd2.guidance, sd2.precision) == (50, None, "float16")


def test_a_scale_is_asked_for_where_the_model_takes_one() -> None:
    """The stage goes by names: it knows no models."""
    assert {name for name, model in INPAINT.items() if takes_guidance(name)} == {
        name for name, model in INPAINT.items() if model.guidance is None
    }


@pytest.mark.parametrize(
    ("stages", "method", "frames", "most"),
    [
        ((1, 2, 3), "single_image", 80, 24),
        ((1,), "single_image", 24, 24),
        ((1,), "single_image", 16, 21),
        ((1,), "single_image_hybrid", 80, 24),
        ((1, 2), "scaffold_gen", 80, 21),
        ((2, 3), "single_image", 80, 21),
    ],
)
def test_the_largest_sampling_of_a_run(stages, method, frames, most) -> None:
    assert most_frames_at_once(stages, method, frames) == most


def test_the_command_offers_exactly_the_models_there_are() -> None:
    fields = ScaffoldConfig.__dataclass_fields__
    assert fields["text_to_image"].metadata["choices"] == tuple(TEXT_TO_IMAGE)
    assert fields["inpaint"].metadata["choices"] == tuple(INPAINT)
    plain = text_settings(parse_run(["--dataset_dir", "x"]))
    assert plain == TextSettings()


def test_every_model_has_its_weights_in_the_list() -> None:
    assert set(built_in_weights()) <= weight_sets().keys()
    for model in ALL:
        assert 1 in weight_sets()[model.weights].stages


@pytest.mark.parametrize(
    ("stages", "method", "names"),
    [
        ((1,), "single_image", ("seva", "seva-vae", "seva-clip")),
        ((1,), "scaffold_gen", ("flux1-dev", "sd2-inpainting", "prompt-score")),
        ((1,), "single_image_hybrid", ("sd2-inpainting", "seva", "seva-vae", "seva-clip")),
        (
            (2,),
            "scaffold_gen",
            ("seva", "seva-vae", "seva-clip", "depth-indoor-small", "depth-outdoor-small", "vggt"),
        ),
        ((3,), "scaffold_gen", ()),
    ],
)
def test_stages_need_their_own_models_only(stages, method, names) -> None:
    assert needed_weights(stages, method, TextSettings()) == names


def test_the_command_says_which_models_are_needed() -> None:
    text = text_settings(
        parse_run(["--dataset_dir", "x", "--text_to_image=flux2-klein", "--inpaint=flux2-klein", "--inpaint_steps=9"])
    )
    assert needed_weights((1,), "scaffold_gen", text) == ("flux2-klein", "prompt-score")
    assert text.inpaint_steps == 9
    with pytest.raises(UsageError, match="choose from flux1-dev, flux2-klein"):
        needed_weights((1,), "scaffold_gen", TextSettings(text_to_image="flux9"))


@pytest.mark.parametrize("words", ["--text_to_image_steps 0", "--inpaint_steps 1001"])
def test_steps_have_bounds(words: str) -> None:
    with pytest.raises(UsageError, match="give a number from 1 to 1000"):
        parse_run(["--dataset_dir", "x", *words.split()])


@pytest.mark.requires_part("torch")
class TestResidents:
    """A card of 10 units: what is loaded takes its size."""

    def card(self) -> tuple[Residents, dict[str, int]]:
        sizes = {"a": 4, "b": 4, "c": 9, "d": 1}
        residents = Residents(free=lambda: 10 - sum(size for name, size in sizes.items() if name in residents))
        return residents, sizes

    def ask(self, residents: Residents, name: str, size: int, log: list[str]) -> str:
        return residents.get(name, size, lambda: log.append(name) or name)

    def test_what_fits_stays_and_the_oldest_goes_first(self) -> None:
        residents, sizes = self.card()
        log: list[str] = []
        for name in "abad":
            self.ask(residents, name, sizes[name], log)
        assert log == ["a", "b", "d"], "a was there"
        self.ask(residents, "c", 5, log)  # a was used after b
        assert ["b" in residents, "a" in residents, "d" in residents] == [False, True, True]

    def test_all_others_go_where_they_must(self) -> None:
        residents, sizes = self.card()
        log: list[str] = []
        for name in "abc":
            self.ask(residents, name, sizes[name], log)
        assert ["a" in residents, "b" in residents, "c" in residents] == [False, False, True]
        assert not residents.keep_only("c")
        self.ask(residents, "d", 1, log)
        assert residents.keep_only("d")
        residents.drop("d")
        self.ask(residents, "d", 1, log)
        assert log == ["a", "b", "c", "d", "d"]

    def test_when_loading_runs_out_of_memory_all_others_leave_and_it_is_tried_once_more(self) -> None:
        import torch

        residents = Residents(free=lambda: 10)
        for name in "ab":
            residents.get(name, 1, lambda: "loaded")
        tries = []

        def load() -> str:
            tries.append(("a" in residents, "b" in residents))
            if "a" in residents or "b" in residents:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return "loaded"

        assert residents.get("c", 1, load) == "loaded"
        assert tries == [(True, True), (False, False)]

    def test_a_network_that_does_not_fit_alone_and_other_errors_are_raised_at_once(self) -> None:
        import torch

        residents = Residents(free=lambda: 10)
        tries = []

        def fail(error: Exception) -> None:
            tries.append(error)
            raise error

        with pytest.raises(torch.OutOfMemoryError):
            residents.get("c", 1, lambda: fail(torch.OutOfMemoryError("CUDA out of memory")))
        residents.get("a", 1, lambda: "loaded")
        with pytest.raises(UserError):
            residents.get("c", 1, lambda: fail(UserError("these are not its weights")))
        assert len(tries) == 2
        assert "a" in residents
        assert "c" not in residents

    def test_what_torch_keeps_is_given_back_before_the_next_one_counts(self, monkeypatch) -> None:
        import torch

        log = []
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: log.append("given back"))
        residents = Residents(free=lambda: 10)
        for _ in range(2):
            residents.get("a", 1, lambda: log.append("loaded"))
        assert log == ["given back", "loaded"]

    def test_without_a_gpu_nothing_is_short(self) -> None:
        residents = Residents(free=lambda: None)
        for name in "abc":
            residents.get(name, 10**15, lambda: "loaded")
        assert all(name in residents for name in "abc")
