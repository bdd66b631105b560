"""The packages, the image and the manifests, used as their users do."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.append(str(REPOSITORY / "tests/systemd"))

from machine import ROOTS, Machine  # noqa: E402

# The machine that builds, as Rust, uname and Debian name it, and the program of its packages.
HOST = re.search(
    "^host: (.*)$", subprocess.run(["rustc", "-vV"], capture_output=True, text=True).stdout, re.M
)[1]
ARCHITECTURE = HOST.split("-")[0]
# The names of Rust, and of Debian.
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
DEBIAN_ARCHITECTURE = ARCHITECTURES[ARCHITECTURE]
BINARY = REPOSITORY / "target" / HOST / "release/taskbeat"

# A Debian system, made by .ci/run.
SUITE = "bookworm"
ROOT = ROOTS / SUITE

# A limit for hangs; no test waits for it.
HANG = 300


def needs(*things):
    """Skips a test if `root`, a command or a path is missing; in CI that is a failure."""

    def exists(thing):
        if thing == "root":
            return os.geteuid() == 0
        return thing.exists() if isinstance(thing, Path) else shutil.which(thing)

    if missing := [str(thing) for thing in things if not exists(thing)]:
        reason = f"needs {', '.join(missing)}"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)


def output(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG, check=False)
    assert done.returncode == 0, done
    return done.stdout


@pytest.fixture(scope="session", params=ARCHITECTURES)
def of_architecture(request):
    """The architecture, its .deb and its .rpm."""
    needs(REPOSITORY / "target/debian", REPOSITORY / "target/generate-rpm")
    debs = list(REPOSITORY.glob(f"target/debian/*_{ARCHITECTURES[request.param]}.deb"))
    rpms = list(REPOSITORY.glob(f"target/generate-rpm/*.{request.param}.rpm"))
    if not debs and request.param != ARCHITECTURE and os.environ.get("CI") != "true":
        pytest.skip(f"needs `packaging/build --target {request.param}-unknown-linux-gnu`")
    [deb], [rpm] = debs, rpms
    return request.param, deb, rpm


@pytest.fixture
def boot():
    """Boots a fresh Debian system with the folder at /mnt."""
    needs("root", "systemd-nspawn", ROOT / "usr/bin/rpm")
    machines = []

    def boot(folder):
        machines.append(Machine(SUITE, {folder: "/mnt"}))
        return machines[-1]

    yield boot
    for machine in machines:
        machine.end()
