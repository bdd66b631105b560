#!/usr/bin/env python3
"""The cost of a heartbeat: taskbeat beside the usual alternatives, in one run on this machine.

Needs the packages of tests/clients/requirements.txt, and `cargo build --release --locked`. Prints a
table without goals: another machine has other numbers, but similar ratios.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from importlib.metadata import distribution
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TASKBEAT = Path(os.environ.get("TASKBEAT", ROOT / "target/release/taskbeat"))
PYTHON = Path(sys.executable)
HANG = 300

# The heartbeats until everything is loaded, and those that are measured.
WARM, MEASURED = 3, 50

BOTO3 = """
import socket, time, boto3
client = boto3.client("datapipeline")
while True:
    client.report_task_runner_heartbeat(taskrunnerId="boto3", hostname=socket.getfqdn())
    print("heartbeat", flush=True)
    time.sleep(0.05)
"""

CLI = """
while :; do
    "$AWS" datapipeline report-task-runner-heartbeat --taskrunner-id cli --hostname h >/dev/null
    echo heartbeat
    sleep 0.05
done
"""


def main():
    rows = []
    with Endpoint() as url, tempfile.TemporaryDirectory() as home:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": home,
            "AWS": str(PYTHON.parent / "aws"),
            "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "any",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ENDPOINT_URL_DATA_PIPELINE": url,
        }
        taskbeat = [
            TASKBEAT,
            "run",
            "--taskrunner-id",
            "taskbeat",
            "--interval",
            "50ms",
            "--jitter",
            "0%",
        ]
        for name, command, size in [
            ("taskbeat", taskbeat, TASKBEAT.stat().st_size),
            ("a loop around boto3", [PYTHON, "-c", BOTO3], packages("boto3")),
            ("a loop around the AWS CLI", ["sh", "-c", CLI], packages("awscli")),
        ]:
            rows.append((name, *measure(command, environment), size / 2**20))
    show(rows)


class Endpoint:
    """A rehearsal whose own daemon waits after its first heartbeat, while others may call."""

    def __enter__(self):
        script = f"ok*{4 * (WARM + MEASURED)}"
        self.process = subprocess.Popen(
            [TASKBEAT, "rehearse", "--log", "info", "--interval", "15m", "--script", script],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        return re.search(r"http://\S+", self.process.stderr.readline())[0]

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(timeout=HANG)


def measure(command, environment):
    """Seconds to the first heartbeat, CPU milliseconds per heartbeat, MiB resident between two."""
    start = time.monotonic()
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        wait_for_heartbeats(process, 1)
        first = time.monotonic() - start
        wait_for_heartbeats(process, WARM - 1)
        before = cpu(process.pid)
        wait_for_heartbeats(process, MEASURED)
        return first, 1000 * (cpu(process.pid) - before) / MEASURED, resident(process.pid)
    finally:
        process.kill()
        process.wait(timeout=HANG)


def wait_for_heartbeats(process, count):
    """Each heartbeat is a line of taskbeat's log or of the loop's output."""
    while count:
        line = process.stdout.readline()
        assert line, "the program ended"
        count -= "heartbeat" in line and "failed" not in line


def cpu(pid):
    """CPU seconds of a process, its threads and its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def resident(pid):
    """MiB of a process and its children."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    children = [child for task in tasks for child in task.read_text().split()]
    own = int(re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1]) / 1024
    return own + sum(resident(child) for child in children)


def packages(name, seen=None):
    """Bytes of a Python package and its dependencies, without Python itself."""
    seen = set() if seen is None else seen
    if name.lower() in seen:
        return 0
    seen.add(name.lower())
    found = distribution(name)
    needed = [
        re.match(r"[\w.-]+", line)[0] for line in found.requires or [] if "extra ==" not in line
    ]
    own = sum(
        path.stat().st_size for file in found.files or [] if (path := Path(file.locate())).is_file()
    )
    return own + sum(packages(each, seen) for each in needed)


def show(rows):
    titles = ["", "first heartbeat", "CPU each", "memory", "on disk"]
    units = ["s", "ms", "MiB", "MiB"]
    lines = [titles]
    for name, *values in rows:
        ratios = [value / least for value, least in zip(values, rows[0][1:])]
        cells = [
            f"{value:.3g} {unit} ({round(ratio, 1 if ratio < 10 else None)}x)"
            for value, unit, ratio in zip(values, units, ratios)
        ]
        lines.append([name, *cells])
    widths = [max(len(line[column]) for line in lines) for column in range(len(titles))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())


if __name__ == "__main__":
    main()
