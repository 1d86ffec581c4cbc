"""nerfstudio's checkpoints: whole ones only, and nothing but numbers."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_nerfstudio import parameters, write_checkpoint

from worldexplorer.errors import DefectError
from worldexplorer.models.nerfstudio.checkpoints import (
    adopt_checkpoint,
    checkpoint_step,
    latest_whole,
    read_gaussians,
)
from worldexplorer.splat.export import check_gaussians


class Hostile:
    """What pickle would run."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.witness),)


def named(folder: Path, step: int) -> Path:
    folder.mkdir(exist_ok=True)
    return folder / f"step-{step:09d}.ckpt"


class TestReading:
    def test_the_gaussians_of_a_checkpoint(self, tmp_path: Path) -> None:
        values = parameters()
        exported = read_gaussians(write_checkpoint(tmp_path / "c", values))
        assert (exported.not_finite, exported.transparent) == (0, 0)
        check_gaussians(exported.gaussians)
        np.testing.assert_array_equal(exported.gaussians.means, values["means"])
        np.testing.assert_array_equal(exported.gaussians.log_scales, values["scales"])
        np.testing.assert_array_equal(exported.gaussians.opacity_logits, values["opacities"][:, 0])
        np.testing.assert_array_equal(exported.gaussians.sh[:, 0], values["features_dc"])
        np.testing.assert_array_equal(exported.gaussians.sh[:, 1:], values["features_rest"])
        expected = torch.nn.functional.normalize(values["quats"], dim=1)
        np.testing.assert_allclose(exported.gaussians.quaternions, expected, atol=1e-6)

    def test_the_checkpoint_needs_the_allowed_list(self, tmp_path: Path) -> None:
        write_checkpoint(tmp_path / "c", parameters())
        with pytest.raises(Exception, match="numpy"):
            torch.load(tmp_path / "c", weights_only=True)

    def test_what_is_no_world_is_left_out_and_counted(self, tmp_path: Path) -> None:
        values = parameters()
        values["means"][3, 1] = torch.nan
        values["features_rest"][4, 14, 2] = torch.inf
        values["quats"][5] = 0.0
        values["opacities"][6] = float(np.log(0.0039 / 0.9961))
        values["opacities"][7] = float(np.log(0.004 / 0.996))
        exported = read_gaussians(write_checkpoint(tmp_path / "c", values))
        assert (exported.not_finite, exported.transparent) == (3, 1)
        left = [index for index in range(20) if index not in (3, 4, 5, 6)]
        np.testing.assert_array_equal(exported.gaussians.means, values["means"][left])
        check_gaussians(exported.gaussians)

    def test_a_hostile_pickle_is_not_run(self, tmp_path: Path) -> None:
        write_checkpoint(tmp_path / "c", parameters(), extra=Hostile(tmp_path / "witness"))
        with pytest.raises(DefectError, match="more than numbers"):
            read_gaussians(tmp_path / "c")
        assert not (tmp_path / "witness").exists()
        torch.load(tmp_path / "c", weights_only=False)
        assert (tmp_path / "witness").exists()  # it was one

    @pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04" + bytes(200)])
    def test_rubbish(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "c").write_bytes(content)
        with pytest.raises(DefectError, match="damaged"):
            read_gaussians(tmp_path / "c")

    def test_other_contents(self, tmp_path: Path) -> None:
        for content, says in (([1, 2], "none of nerfstudio's"), ({"pipeline": 3}, "no state of a pipeline")):
            torch.save(content, tmp_path / "other")
            with pytest.raises(DefectError, match=says):
                read_gaussians(tmp_path / "other")
        values = parameters()
        del values["quats"]
        with pytest.raises(DefectError, match=r"no float32 _model\.gauss_params\.quats"):
            read_gaussians(write_checkpoint(tmp_path / "c", values))
        for name, other in (("scales", torch.zeros(19, 3)), ("features_rest", torch.zeros(20, 8, 3))):
            with pytest.raises(DefectError, match=f"{name} have the shape"):
                read_gaussians(write_checkpoint(tmp_path / "c", parameters() | {name: other}))
        with pytest.raises(DefectError, match="no float32"):
            read_gaussians(write_checkpoint(tmp_path / "c", parameters() | {"means": torch.zeros(20, 3).double()}))


class TestFiles:
    def test_the_latest_finished_one_is_moved(self, tmp_path: Path) -> None:
        made, kept = tmp_path / "made", tmp_path / "checkpoint.ckpt"
        for step, content in ((20, "older"), (40, "whole"), (60, "half")):
            named(made, step).write_text(content)
        (made / "step-50.ckpt").touch()
        kept.write_text("oldest")
        changed = tmp_path.stat().st_mtime_ns
        assert adopt_checkpoint(made, kept, reached=50) == 40
        assert kept.read_text() == "whole"
        assert sorted(path.name for path in made.iterdir()) == ["step-000000060.ckpt", "step-50.ckpt"]
        assert tmp_path.stat().st_mtime_ns != changed  # what the stage looks at
        assert adopt_checkpoint(made, kept, reached=59) is None
        assert adopt_checkpoint(tmp_path / "missing", kept, reached=59) is None
        assert kept.read_text() == "whole"

    def test_the_step_of_a_whole_one(self, tmp_path: Path) -> None:
        path = write_checkpoint(tmp_path / "c", parameters(), step=120)
        whole = path.read_bytes()
        assert checkpoint_step(path) == 120
        assert checkpoint_step(tmp_path / "missing") is None
        for damaged in (whole[:-1], whole[:2000], b"", whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:]):
            path.write_bytes(damaged)
            assert checkpoint_step(path) is None
        assert checkpoint_step(write_checkpoint(path, parameters(), step="120")) is None
        assert checkpoint_step(write_checkpoint(path, parameters(), extra=Hostile(tmp_path / "witness"))) is None
        assert not (tmp_path / "witness").exists()

    def test_the_latest_whole_one(self, tmp_path: Path) -> None:
        made, kept = tmp_path / "made", tmp_path / "c"
        assert latest_whole(kept, made) is None
        write_checkpoint(kept, parameters(), step=40)
        write_checkpoint(named(made, 60), parameters(), step=60)
        write_checkpoint(named(made, 80), parameters(), step=20)  # not what its name says
        found = latest_whole(kept, made)
        assert found is not None
        assert (found.step, found.path) == (60, named(made, 60))
        named(made, 60).write_bytes(named(made, 60).read_bytes()[:-9])
        found = latest_whole(kept, made)
        assert found is not None
        assert (found.step, found.path) == (40, kept)
