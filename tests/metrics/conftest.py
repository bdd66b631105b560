"""Fixtures for the metrics: Prometheus and node_exporter, and taskbeat as in tests/clients."""

import importlib.util
import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGED = ROOT / "packaging/prometheus"

spec = importlib.util.spec_from_file_location("clients", ROOT / "tests/clients/conftest.py")
clients = importlib.util.module_from_spec(spec)
spec.loader.exec_module(clients)
environment, start, endpoint = clients.environment, clients.start, clients.endpoint
TASKBEAT, HANG = clients.TASKBEAT, clients.HANG


def tool(name):
    """The path of a program: in target/prometheus, where CI puts it, or on the host."""
    path = shutil.which(name, path=f"{ROOT}/target/prometheus/usr/bin:{os.environ['PATH']}")
    if path is None and "CI" in os.environ:
        pytest.fail(f"{name} is missing")
    return path or pytest.skip(f"{name} is not installed")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture
def promtool():
    """Runs promtool, which must succeed."""

    def promtool(*arguments, **options):
        done = subprocess.run(
            [tool("promtool"), *map(str, arguments)],
            **{"capture_output": True, "text": True, "timeout": HANG} | options,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return promtool


@pytest.fixture
def background(tmp_path):
    """Starts a program that logs to a file, and ends it after the test."""
    programs = []

    def background(name, *arguments):
        with open(tmp_path / f"{name}.log", "w", encoding="utf-8") as log:
            programs.append(
                subprocess.Popen(
                    [tool(name), *arguments], cwd=tmp_path, stdout=log, stderr=subprocess.STDOUT
                )
            )

    yield background
    for program in programs:
        program.kill()
        program.wait(timeout=HANG)
