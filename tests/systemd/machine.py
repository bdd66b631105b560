"""A container that boots a Debian root with a real systemd, and the units as they are shipped."""

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TASKBEAT = Path(os.environ.get("TASKBEAT", ROOT / "target/debug/taskbeat"))
UNITS = ROOT / "systemd"
PROMETHEUS = ROOT / "packaging/prometheus"
ROOTS = ROOT / "target/systemd"

# A limit for hangs; no test waits for it.
HANG = 120


def shipped():
    """The files that a package installs, and their paths."""
    units = {unit: f"/usr/lib/systemd/system/{unit.name}" for unit in UNITS.glob("*.service")}
    shared = {
        file: f"/usr/share/taskbeat/prometheus/{file.name}" for file in PROMETHEUS.iterdir()
    }
    return {TASKBEAT: "/usr/bin/taskbeat"} | units | shared


def until(condition, what):
    """Waits until `condition()` is true, and returns its value."""
    give_up = time.monotonic() + HANG
    while not (value := condition()):
        if time.monotonic() > give_up:
            raise AssertionError(f"never seen: {what}")
        time.sleep(0.02)
    return value


def children(pid):
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        # The thread may have ended.
        with contextlib.suppress(OSError):
            found += map(int, task.read_text().split())
    return found


def is_first(pid):
    """True if `pid`, an id of this host, is PID 1 of a container."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return re.search(r"^Name:\tsystemd\n(.*\n)*NSpid:.*\t1$", status, re.MULTILINE)


class Machine:
    """A booted machine. Its changes are discarded.

    `binds` maps files of this host to paths in the machine; by default those that are shipped.
    """

    def __init__(self, suite, binds=None):
        if binds is None:
            binds = shipped()
        self.container = subprocess.Popen(
            [
                "systemd-nspawn",
                "--quiet",
                f"--machine=taskbeat-{os.getpid()}",
                f"--directory={ROOTS / suite}",
            ]
            + [
                "--boot",
                "--volatile=overlay",
                "--private-network",
                "--register=no",
                "--keep-unit",
                "--console=pipe",
            ]
            + [f"--bind-ro={source}:{target}" for source, target in binds.items()],
            env=os.environ | {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
            stdin=subprocess.DEVNULL,
        )
        self.pid = None
        try:
            self.pid = until(self._init, "the container's systemd")
            until(self._is_up, "the end of the boot")
        except BaseException:
            self.end()
            raise

    def _init(self):
        """The id on this host of the machine's systemd."""
        if self.container.poll() is not None:
            raise AssertionError(f"systemd-nspawn ended with {self.container.returncode}")
        return next(filter(is_first, children(self.container.pid)), None)

    def _is_up(self):
        return self.attempt("systemctl", "is-system-running").stdout.strip() in (
            "running",
            "degraded",
        )

    def end(self):
        # When its systemd ends, so does the container, and systemd-nspawn cleans up.
        os.kill(self.pid or self.container.pid, signal.SIGKILL)
        self.container.wait(timeout=HANG)

    def attempt(self, *command):
        """Runs a command in the machine, which may fail."""
        command = ["nsenter", "--target", str(self.pid), "--all", "--", *command]
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=HANG,
            check=False,
        )

    def run(self, *command):
        """Runs a command in the machine and returns its output. The command must succeed."""
        done = self.attempt(*command)
        assert done.returncode == 0, (command, done)
        return done.stdout

    def systemctl(self, *arguments):
        return self.run("systemctl", *arguments)

    def path(self, path):
        return Path(f"/proc/{self.pid}/root{path}")

    def write(self, path, text):
        self.path(path).parent.mkdir(parents=True, exist_ok=True)
        self.path(path).write_text(text)

    def drop_in(self, unit, name, text):
        """Adds a drop-in to a unit."""
        self.write(f"/etc/systemd/system/{unit}.service.d/{name}.conf", text)
        self.systemctl("daemon-reload")

    def example(self, unit, name, whole=False):
        """Adds a drop-in of systemd/drop-ins; `whole` uncomments its lines."""
        text = (UNITS / f"drop-ins/{name}.conf").read_text()
        if whole:
            text = re.sub(r"^#(?=\w+=)", "", text, flags=re.MULTILINE)
        self.drop_in(unit, name, text)

    def systemd_version(self):
        return int(re.match(r"systemd (\d+)", self.systemctl("--version"))[1])

    def show(self, unit, name):
        return self.systemctl("show", unit, "--property", name, "--value").strip()

    def main_pid(self, unit):
        """The id in the machine of the unit's main process; 0 if there is none."""
        return int(self.show(unit, "MainPID"))

    def restarts(self, unit):
        return int(self.show(unit, "NRestarts"))

    def user_of(self, pid):
        return int(self.run("ps", "-o", "uid=", "--pid", str(pid)))

    def processes(self, unit):
        """The ids in the machine of all processes of a unit."""
        group = self.show(unit, "ControlGroup")
        members = self.attempt("cat", f"/sys/fs/cgroup{group}/cgroup.procs") if group else None
        return [int(pid) for pid in members.stdout.split()] if members else []

    def kill(self, signal, pid):
        self.run("sh", "-c", 'kill "$@"', "sh", f"-{signal}", str(pid))

    def wait_for(self, unit, name, value):
        """Waits until the whole of a unit's property matches the pattern `value`."""
        actual = ""

        def matches():
            nonlocal actual
            actual = self.show(unit, name)
            return re.fullmatch(value, actual)

        try:
            return until(matches, f"{unit} with {name}={value}")
        except AssertionError as never:
            raise AssertionError(f"{never}, but {actual}") from None

    def journal(self, unit, *options):
        """The log entries of a unit's processes, without those of systemd about the unit."""
        entries = self.run("journalctl", "--output=json", f"_SYSTEMD_UNIT={unit}.service", *options)
        return [json.loads(line) for line in entries.splitlines()]

    def wait_for_log(self, unit, pattern, count=1):
        def entries():
            found = [
                entry for entry in self.journal(unit) if re.search(pattern, str(entry["MESSAGE"]))
            ]
            return found[count - 1 :]

        return until(entries, f"{unit} logs {pattern!r}, {count} times")[0]

    def wait_for_file(self, path):
        until(self.path(path).exists, path)
        return self.path(path).read_text()

    def wait_for_end(self, pids):
        until(
            lambda: not any(self.path(f"/proc/{pid}").exists() for pid in pids),
            f"the end of {pids}",
        )
