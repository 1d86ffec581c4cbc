"""The smoke job: the data set it draws, the command it runs, the image it runs in."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from manifest_rules import MANIFESTS, OVERLAYS, Object, render
from PIL import Image

from worldexplorer.cli.arguments import parse_run
from worldexplorer.dataset import load_dataset

SCRIPT = MANIFESTS / "smoke" / "make_dataset.py"
JOB = yaml.safe_load((MANIFESTS / "smoke" / "job.yaml").read_text())
POD = JOB["spec"]["template"]["spec"]
IMAGE_LOCK = MANIFESTS.parent / "images" / "images.lock.json"
NAME = "worldexplorer-cpu"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("smoke") / "dataset"
    subprocess.run([sys.executable, str(SCRIPT), str(folder)], check=True)
    return folder


def words_of(container: Object, scratch: Path) -> list[str]:
    """The command line, with the variables that Kubernetes fills in, on this machine's folders."""
    values = {one["name"]: one.get("value", "smoke-pod") for one in container.get("env", ())}
    text = "\n".join([*container["command"], *container.get("args", ())])
    filled = re.sub(r"\$\((\w+)\)", lambda match: values[match[1]], text)
    return filled.replace("/scratch", str(scratch)).splitlines()


def test_the_data_set_is_one_sample_that_the_pipeline_reads(dataset):
    samples = load_dataset(dataset, confine_paths=True).samples
    assert [sample.index for sample in samples] == [0]
    picture = np.asarray(Image.open(dataset / "street_0.png"))
    assert picture.shape == (256, 256, 3)
    assert picture[5].mean(axis=0).argmax() == 2, "the sky is blue"
    assert np.abs(np.diff(picture.astype(int), axis=1)).max() > 60, "houses have edges"


def test_it_is_the_same_bytes_every_time(dataset, tmp_path):
    subprocess.run([sys.executable, str(SCRIPT), str(tmp_path)], check=True)
    for name in ("street_0.png", "metadata.json"):
        assert (tmp_path / name).read_bytes() == (dataset / name).read_bytes()


def test_the_job_speaks_the_command_line(tmp_path):
    (batch,) = POD["containers"]
    command, *words = words_of(batch, tmp_path)
    assert (command, words[0]) == ("worldexplorer", "batch")
    run = parse_run(words[1:])
    assert (run.batch.engine, run.batch.preset, run.batch.log_format) == ("preview", "smoke", "json")
    assert run.batch.output_base == f"{tmp_path}/output/smoke-pod"
    (drawing,) = POD["initContainers"]
    assert drawing["command"][-1] == "/scratch/dataset"
    assert run.batch.dataset_dir == f"{tmp_path}/dataset"


def test_the_script_lies_where_the_job_looks_for_it():
    (drawing,) = POD["initContainers"]
    script = Path(drawing["command"][1])
    mounts = {mount["mountPath"]: mount["name"] for mount in drawing["volumeMounts"]}
    volume = next(one for one in POD["volumes"] if one["name"] == mounts[str(script.parent)])
    (generator,) = yaml.safe_load((MANIFESTS / "smoke" / "kustomization.yaml").read_text())["configMapGenerator"]
    assert volume["configMap"]["name"] == generator["name"]
    assert generator["files"] == [script.name]


@pytest.mark.slow
def test_a_broken_sample_is_planned_and_fails_alone(tmp_path):
    """What the checklist's step a relies on."""
    words = [str(SCRIPT), str(tmp_path / "dataset"), "--samples", "3", "--broken", "1"]
    subprocess.run([sys.executable, *words], check=True)
    flags = ["--engine", "preview", "--preset", "smoke", "--only_stages", "1", "--log_format", "json"]
    places = ["--dataset_dir", str(tmp_path / "dataset"), "--output_base", str(tmp_path / "output")]
    batch = [sys.executable, "-c", _CLI, "batch", *places, *flags, "--continue_on_error"]
    done = subprocess.run(batch, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    last = json.loads(done.stdout.splitlines()[-1])
    assert (last["success"], last["failed"], last["failed_indices"]) == (2, 1, "1")


@pytest.mark.slow
def test_the_job_makes_a_world(tmp_path):
    """Its containers' own commands, one after the other, as the pod runs them."""
    programs = {"python": [sys.executable], "worldexplorer": [sys.executable, "-c", _CLI]}
    scripts = str(MANIFESTS / "smoke")
    for container in [*POD["initContainers"], *POD["containers"]]:
        program, *words = words_of(container, tmp_path)
        words = [word.replace("/smoke/make", f"{scripts}/make") for word in words]
        done = subprocess.run([*programs[program], *words], capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
    last = json.loads(done.stdout.splitlines()[-1])
    assert (last["event"], last["success"], last["failed"]) == ("summary", 1, 0)
    assert (tmp_path / "output/smoke-pod/photorealistic/index_0000/splat/splat.ply").is_file()


_CLI = "import sys; from worldexplorer.cli import main; sys.exit(main(sys.argv[1:]))"


def pin_problems(lock: Object, image: str) -> list[str]:
    """Whether an image reference is the locked one, whatever registry it comes from."""
    entry = lock[NAME]
    pin = f"@{entry['digest']}" if entry["digest"] else f":{entry['tag']}"
    return [] if image.endswith(f"/{NAME}{pin}") else [f"{image} is not {NAME}{pin}"]


@pytest.mark.requires_part("kubectl")
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_overlays_run_the_locked_image(overlay):
    job = next(one for one in render(MANIFESTS / "overlays" / overlay / "smoke") if one["kind"] == "Job")
    spec = job["spec"]["template"]["spec"]
    lock = json.loads(IMAGE_LOCK.read_text())
    for container in [*spec["initContainers"], *spec["containers"]]:
        assert pin_problems(lock, container["image"]) == []


@pytest.mark.parametrize(
    ("entry", "image", "right"),
    [
        ({"tag": "1.2.0", "digest": None}, "registry/worldexplorer-cpu:1.2.0", True),
        ({"tag": "1.2.0", "digest": None}, "registry/worldexplorer-cpu:1.1.0", False),
        ({"tag": "1.2.0", "digest": "sha256:" + "0" * 64}, "registry/worldexplorer-cpu@sha256:" + "0" * 64, True),
        ({"tag": "1.2.0", "digest": "sha256:" + "0" * 64}, "registry/worldexplorer-cpu:1.2.0", False),
    ],
)
def test_a_version_that_is_not_the_locked_one_is_seen(entry, image, right):
    assert (pin_problems({NAME: entry}, image) == []) is right


@pytest.mark.requires_part("kubectl")
def test_results_go_to_the_bucket_where_there_is_one():
    places = {}
    for overlay in OVERLAYS:
        job = next(one for one in render(MANIFESTS / "overlays" / overlay / "smoke") if one["kind"] == "Job")
        (batch,) = job["spec"]["template"]["spec"]["containers"]
        places[overlay] = {one["name"]: one.get("value") for one in batch["env"]}
        assert set(places[overlay]) == {"POD_NAME", "OUTPUT_BASE"}
    assert places["gke"]["OUTPUT_BASE"] == "gs://BUCKET/smoke"
    assert places["generic"]["OUTPUT_BASE"] == "/scratch/output"
