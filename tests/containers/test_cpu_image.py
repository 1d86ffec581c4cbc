"""The cpu image, built from its Dockerfile and run as a careful cluster runs it."""

from __future__ import annotations

import hashlib
import json
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from containers.engine import Engine

from images.build import push
from images.catalog import LOCK, ImageLock, project_version
from images.docker import UID

pytestmark = [pytest.mark.slow, pytest.mark.requires_part("docker"), pytest.mark.requires_part("mmdebstrap")]

ROOT = Path(__file__).parents[2]
SMOKE = ("python", "/opt/smoke/smoke.py")


def test_image_is_for_pods(docker_engine: Engine, cpu_image: str) -> None:
    (found,) = json.loads(docker_engine.docker("image", "inspect", cpu_image).stdout)
    config = found["Config"]
    assert not config["Entrypoint"]  # Kubernetes replaces it, kfp.local puts it in front
    assert config["User"] == f"{UID}:{UID}"
    assert not config.get("ExposedPorts")
    variables = dict(word.split("=", 1) for word in config["Env"])
    assert variables["WORLDEXPLORER_SCRATCH"] == "/scratch"
    assert variables["NUMBA_CACHE_DIR"].startswith("/scratch/")
    labels = config["Labels"]
    assert labels["org.opencontainers.image.title"] == "worldexplorer-cpu"
    assert labels["org.opencontainers.image.version"] == project_version()
    assert labels["org.opencontainers.image.revision"] == "tests"
    assert labels["org.opencontainers.image.source"] == "tests"
    assert labels["org.opencontainers.image.base.name"].startswith("worldexplorer-test-base:")
    assert labels["worldexplorer.engine"] == "preview"


def test_smoke_test_passes_hardened(docker_engine: Engine, cpu_image: str) -> None:
    said = json.loads(docker_engine.run(cpu_image, *SMOKE).stdout)
    assert said["python"].startswith("3.11.")
    assert said["worldexplorer"] == project_version()
    assert said["kernels"] > 20


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--user", "0:0"], "it runs as 0:0"),
        (["--env", "WORLDEXPLORER_SCRATCH=/elsewhere"], "/scratch cannot be written"),
        (["--tmpfs", "/opt/kernels"], "no kernel was compiled while the image was built"),
    ],
)
def test_smoke_test_can_fail(docker_engine: Engine, cpu_image: str, options: list[str], complaint: str) -> None:
    done = docker_engine.run(cpu_image, *SMOKE, options=options, check=False)
    assert done.returncode == 1
    assert complaint in done.stderr


@pytest.mark.parametrize(("processor", "compiled"), [("x86-64-v3", 0), ("x86-64-v2", 1)])
def test_kernels_are_used_on_the_processor_they_are_for(
    docker_engine: Engine, cpu_image: str, processor: str, compiled: int
) -> None:
    program = (
        "import os; import numpy; from pathlib import Path; from worldexplorer.preview.rasterizer import power_of_two;"
        "kernels = Path(os.environ['NUMBA_CACHE_DIR']); before = len(list(kernels.rglob('*.nbc')));"
        "assert round(power_of_two(numpy.float32(3.0))) == 8; print(len(list(kernels.rglob('*.nbc'))) - before)"
    )
    done = docker_engine.run(cpu_image, "python", "-c", program, options=["--env", f"NUMBA_CPU_NAME={processor}"])
    assert int(done.stdout) == compiled


def test_preview_job_runs_hardened_without_compiling(docker_engine: Engine, cpu_image: str) -> None:
    """All three stages, as another user than the one who compiled, with scratch empty and no network."""
    script = """
worldexplorer batch --engine preview --preset smoke --num_seva_frames 8 --indices 1 \
    --dataset_dir /data --output_base /scratch/out --log_format json >&2 || exit 1
(cd /opt/kernels && find . -name '*.nbc' | sort) > /tmp/brought
(cd "$NUMBA_CACHE_DIR" && find . -name '*.nbc' | sort) > /tmp/used
diff /tmp/brought /tmp/used && wc -l < /tmp/used
cat /scratch/out/batch_summary.json
"""
    done = docker_engine.run(cpu_image, "sh", "-c", script, options=["--volume", f"{ROOT / 'examples/demo'}:/data:ro"])
    kernels, summary = done.stdout.split("\n", 1)
    assert int(kernels) > 20
    totals = json.loads(summary)
    assert (totals["total"], totals["failed"]) == (1, 0)


@pytest.mark.requires_part("docker-registry")
def test_pushed_image_is_pinned_and_pulled_by_its_digest(docker_engine: Engine, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_text("an image of one file")
    subprocess.run(["tar", "--create", "--file", tmp_path / "tree.tar", "--directory", tree, "."], check=True)
    image = f"worldexplorer-cpu-tiny:{project_version()}"
    docker_engine.docker("import", str(tmp_path / "tree.tar"), image)
    with registry(tmp_path) as place:
        digest = push(docker_engine.client, image, f"{place}/worlds")

        manifest = urllib.request.Request(
            f"http://{place}/v2/worlds/worldexplorer-cpu-tiny/manifests/{project_version()}",
            headers={"Accept": "application/vnd.docker.distribution.manifest.v2+json"},
        )
        with urllib.request.urlopen(manifest) as answer:
            assert f"sha256:{hashlib.sha256(answer.read()).hexdigest()}" == digest

        path = tmp_path / "lock.json"
        lock = ImageLock.read(LOCK).for_version(project_version(), f"{place}/worlds")
        lock.with_digest("worldexplorer-cpu", digest).write(path)
        assert ImageLock.read(path).digests["worldexplorer-cpu"] == digest

        docker_engine.docker("image", "rm", "--force", image, f"{place}/worlds/{image}")
        reference = f"{place}/worlds/worldexplorer-cpu-tiny@{digest}"
        docker_engine.client.pull(reference)
        assert docker_engine.client.digest(reference) == digest
        wrong = reference[:-1] + ("0" if reference[-1] != "0" else "1")
        assert docker_engine.docker("pull", wrong, check=False).returncode != 0
    docker_engine.docker("image", "rm", "--force", reference)


@contextmanager
def registry(folder: Path) -> Iterator[str]:
    """A registry on a free port of this machine; where it listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{probe.getsockname()[1]}"
    settings = folder / "registry.yml"
    settings.write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {folder / 'registry'}}}}}\nhttp: {{addr: '{place}'}}\n"
    )
    with (folder / "registry.log").open("wb") as log:
        process = subprocess.Popen(["docker-registry", "serve", str(settings)], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 30.0
        while not answers(f"http://{place}/v2/"):
            assert process.poll() is None, (folder / "registry.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield place
    finally:
        process.terminate()
        process.wait()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1.0):
            return True
    except OSError:
        return False
