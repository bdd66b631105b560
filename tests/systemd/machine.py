"""A machine with a real systemd: a container that boots a root of Debian, with our units as they are shipped."""

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
ROOTS = ROOT / "target/systemd"

# A limit for hangs; no test waits for it.
HANG = 120


def shipped():
    """What a package installs, and where."""
    units = {unit: f"/usr/lib/systemd/system/{unit.name}" for unit in UNITS.glob("*.service")}
    return {TASKBEAT: "/usr/bin/taskbeat"} | units


def until(condition, what):
    """Waits until `condition` is true, and returns what it is."""
    give_up = time.monotonic() + HANG
    while not (value := condition()):
        if time.monotonic() > give_up:
            raise AssertionError(f"never seen: {what}")
        time.sleep(0.02)
    return value


def children(pid):
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        # A thread may end meanwhile.
        with contextlib.suppress(OSError):
            found += map(int, task.read_text().split())
    return found


def is_first(pid):
    """Whether the process is the first one of a container, by our id. systemd-nspawn has children that come and go."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return re.search(r"^Name:\tsystemd\n(.*\n)*NSpid:.*\t1$", status, re.MULTILINE)


class Machine:
    """Boots when it is made. Nothing that happens in it is kept.

    `binds` are our files that it has, and where; when nobody says otherwise, what is shipped.
    """

    def __init__(self, suite, binds=None):
        if binds is None:
            binds = shipped()
        self.container = subprocess.Popen(
            ["systemd-nspawn", "--quiet", f"--machine=taskbeat-{os.getpid()}", f"--directory={ROOTS / suite}"]
            + ["--boot", "--volatile=overlay", "--private-network", "--register=no", "--keep-unit", "--console=pipe"]
            + [f"--bind-ro={ours}:{its}" for ours, its in binds.items()],
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
        """Our id of the systemd inside."""
        if self.container.poll() is not None:
            raise AssertionError(f"systemd-nspawn ended with {self.container.returncode}")
        return next(filter(is_first, children(self.container.pid)), None)

    def _is_up(self):
        return self.ask("systemctl", "is-system-running").stdout.strip() in ("running", "degraded")

    def end(self):
        # With its systemd all of the container ends, and systemd-nspawn clears away.
        os.kill(self.pid or self.container.pid, signal.SIGKILL)
        self.container.wait(timeout=HANG)

    def ask(self, *command):
        """Runs a command inside, whatever becomes of it."""
        command = ["nsenter", "--target", str(self.pid), "--all", "--", *command]
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=HANG, check=False
        )

    def run(self, *command):
        """Runs a command inside, and returns what it prints. It must succeed."""
        done = self.ask(*command)
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
        """Adds to a unit, as an operator would. Our own examples are in drop-ins/."""
        self.write(f"/etc/systemd/system/{unit}.service.d/{name}.conf", text)
        self.systemctl("daemon-reload")

    def example(self, unit, name, whole=False):
        """Adds one of our own examples; `whole` is with all that is commented out there."""
        text = (UNITS / f"drop-ins/{name}.conf").read_text()
        if whole:
            text = re.sub(r"^#(?=\w+=)", "", text, flags=re.MULTILINE)
        self.drop_in(unit, name, text)

    def show(self, unit, name):
        return self.systemctl("show", unit, "--property", name, "--value").strip()

    def main_pid(self, unit):
        """The id inside of the unit's main process; 0 if there is none."""
        return int(self.show(unit, "MainPID"))

    def restarts(self, unit):
        return int(self.show(unit, "NRestarts"))

    def user_of(self, pid):
        return int(self.run("ps", "-o", "uid=", "--pid", str(pid)))

    def processes(self, unit):
        """The ids inside of all processes of a unit."""
        group = self.show(unit, "ControlGroup")
        members = self.ask("cat", f"/sys/fs/cgroup{group}/cgroup.procs") if group else None
        return [int(pid) for pid in members.stdout.split()] if members else []

    def kill(self, signal, pid):
        self.run("sh", "-c", 'kill "$@"', "sh", f"-{signal}", str(pid))

    def wait_for(self, unit, name, value):
        """Waits until a property of a unit matches, as a whole."""
        said = []

        def is_so():
            said[:] = [self.show(unit, name)]
            return re.fullmatch(value, said[0])

        try:
            return until(is_so, f"{unit} with {name}={value}")
        except AssertionError as never:
            raise AssertionError(f"{never}, but {said[0]}") from None

    def journal(self, unit, *options):
        """What a unit's processes logged; systemd's own lines about it are not among that."""
        told = self.run("journalctl", "--output=json", f"_SYSTEMD_UNIT={unit}.service", *options)
        return [json.loads(line) for line in told.splitlines()]

    def wait_for_log(self, unit, pattern, count=1):
        def entries():
            found = [entry for entry in self.journal(unit) if re.search(pattern, str(entry["MESSAGE"]))]
            return found[count - 1 :]

        return until(entries, f"{unit} logs {pattern!r}, {count} times")[0]

    def wait_for_file(self, path):
        until(self.path(path).exists, path)
        return self.path(path).read_text()

    def wait_for_end(self, pids):
        until(lambda: not any(self.path(f"/proc/{pid}").exists() for pid in pids), f"the end of {pids}")
