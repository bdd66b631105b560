"""What the comparison and the counts share: the programs, their environment, and /proc."""

import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from itertools import count
from pathlib import Path

from endpoint import HANG

ROOT = Path(__file__).resolve().parents[2]
TASKBEAT = Path(os.environ.get("TASKBEAT", ROOT / "target/release/taskbeat"))

numbers = count(1)


def new_id(name):
    """An id for each start: no other taskbeat on this host may have it."""
    return f"{name}.{os.getpid()}.{next(numbers)}"


def environment(endpoint, home):
    """The least environment, with the endpoint and its authority in each program's variables."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL_DATA_PIPELINE": endpoint.url,
        "AWS_CA_BUNDLE": endpoint.authority,
        "SSL_CERT_FILE": endpoint.authority,
    }


def end_at_sigterm():
    """Lets a SIGTERM end the programs that were started, too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def run(taskrunner_id, *arguments, interval="15m"):
    """The command line of a daemon. A test of a runner has `-- COMMAND` in `arguments`."""
    options = ["--taskrunner-id", taskrunner_id, "--interval", interval, "--jitter", "0%"]
    return [str(TASKBEAT), "run", *options, *arguments]


def compile_runner(folder):
    runner = folder / "runner"
    source = Path(__file__).with_name("runner.c")
    subprocess.run(["cc", "-O2", "-o", runner, source], check=True)
    return str(runner)


class Started:
    """A process in the background, which is killed at the end of the block."""

    def __init__(self, command, variables):
        self.log = tempfile.TemporaryFile()
        streams = {"stdout": self.log, "stderr": self.log}
        self.begin = time.monotonic_ns()
        self.process = subprocess.Popen(command, env=variables, **streams)
        self.pid = self.process.pid

    def __enter__(self):
        return self

    def __exit__(self, failure, *_):
        ended = self.process.poll()
        self.process.kill()
        self.process.wait(timeout=HANG)
        with self.log:
            if failure:
                self.log.seek(0)
                log = self.log.read().decode()[-4000:]
                print(f"{self.process.args}, exit status {ended}:\n{log}", file=sys.stderr)

    def ended(self):
        """Waits for the end. Returns its time in nanoseconds."""
        # `Popen.wait` with a limit sleeps between its looks.
        file = os.pidfd_open(self.pid)
        assert select.select([file], [], [], HANG)[0], "it does not end"
        moment = time.monotonic_ns()
        os.close(file)
        self.process.wait(timeout=HANG)
        return moment


def status(pid, name):
    """A number of /proc/PID/status, added up over the threads for numbers of threads."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(rf"^{name}:\s+(\d+)", text, re.MULTILINE)[1])


def memory(pid):
    """KiB resident, and KiB that the process alone has and has written."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return [
        int(re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)[1])
        for name in ("Rss", "Private_Dirty")
    ]


def wakeups(pid):
    """How often a thread of a process began to run, so far. A thread that ends is left out."""
    switches = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):
            for kind in ("voluntary", "nonvoluntary"):
                switches += status(f"{pid}/task/{task.name}", f"{kind}_ctxt_switches")
    return switches


def settled(pid):
    """Waits until the threads of a heartbeat have ended and each thread sleeps."""
    limit = time.monotonic() + HANG
    before = None
    while (now := (status(pid, "Threads"), wakeups(pid))) != before:
        assert time.monotonic() < limit, "it never rests"
        before = now
        time.sleep(0.5)


def crates():
    """The packages that are built into the program, itself and build scripts included."""
    tree = ["cargo", "tree", "--locked", "--edges", "normal,build", "--prefix", "none"]
    listed = subprocess.run(
        [*tree, "--format", "{p}"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return len({line.removesuffix(" (*)") for line in listed.stdout.splitlines() if line})
