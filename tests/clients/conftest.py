"""taskbeat and botocore on the loopback: each checks the other, and neither reaches AWS."""

import os
import queue
import re
import subprocess
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TASKBEAT = os.environ.get("TASKBEAT", str(ROOT / "target/debug/taskbeat"))

KEY, SECRET, REGION = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "eu-west-1"

# A limit for hangs; no test waits for it.
HANG = 60


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    """Removes the host's proxies, profiles and variables, and sets example credentials."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "TASKBEAT_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    for name, value in {
        "HOME": str(tmp_path),
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "1",
    }.items():
        monkeypatch.setenv(name, value)


class Process:
    """A taskbeat in the background. Its log is read by a thread."""

    def __init__(self, *arguments):
        self.process = subprocess.Popen(
            [TASKBEAT, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        self.lines = queue.Queue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stderr:
            self.lines.put(line)
        self.lines.put(None)

    def wait_for(self, pattern):
        """Waits for a log line that matches."""
        seen = []
        while (line := self.lines.get(timeout=HANG)) is not None:
            seen.append(line)
            if match := re.search(pattern, line):
                return match
        raise AssertionError(f"no {pattern!r} in:\n{''.join(seen)}")

    def wait(self):
        return self.process.wait(timeout=HANG)

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.wait()


@pytest.fixture
def start():
    """Starts taskbeat with the given arguments, and kills it after the test."""
    processes = []

    def start(*arguments):
        processes.append(Process(*arguments))
        return processes[-1]

    yield start
    for process in processes:
        process.end()


@pytest.fixture
def endpoint(start):
    """Starts a rehearsal and returns the URL of its endpoint.

    Each taskrunner-id gets the script from its beginning. The endpoint runs until the rehearsal's
    own daemon has played the script. Its interval makes it wait after the first step, which must
    therefore be `ok` or `throttle`, with at least one step after it.
    """

    def endpoint(script):
        options = ("--log", "info", "--listen", "127.0.0.1:0", "--interval", "15m")
        process = start("rehearse", *options, "--script", script)
        return process.wait_for(r"endpoint (http://127\.0\.0\.1:\d+) plays")[1]

    return endpoint


@pytest.fixture
def taskbeat():
    """Runs taskbeat until it exits."""

    def taskbeat(*arguments):
        return subprocess.run(
            [TASKBEAT, *arguments], capture_output=True, text=True, timeout=HANG, check=False
        )

    return taskbeat
