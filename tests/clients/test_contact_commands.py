"""The commands of docs/health.md that report contact, with the real AWS CLI."""

import os
import queue
import re
import sys
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from conftest import HANG, ROOT

BLOCKS = re.findall(
    r"^```toml\n(on-contact-change.*?)^```$",
    (ROOT / "docs/health.md").read_text(),
    re.MULTILINE | re.DOTALL,
)


@pytest.fixture
def aws():
    """A service of AWS that takes every request; a queue of them, and its URL."""
    requests = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            requests.put(self.path.encode() + b" " + body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield requests, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (BLOCKS[0], [b"Action=Publish", b"etl-contact%3A+contact+lost"]),
        (BLOCKS[1], [b"ContactLost", b"TaskRunner", b"etl-contact"]),
    ],
    ids=["sns", "cloudwatch"],
)
def test_lost_contact_is_published(start, aws, monkeypatch, tmp_path, command, expected):
    requests, url = aws
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    # The AWS CLI of these tests.
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    settings = tmp_path / "taskbeat.toml"
    settings.write_text(command)
    assert list(tomllib.loads(command)) == ["on-contact-change"]
    process = start(
        "run",
        *("--config", str(settings), "--taskrunner-id", "etl-contact", "--interval", "300ms"),
        *("--endpoint-url", "http://127.0.0.1:9"),
    )
    process.wait_for("WARN contact lost")
    request = requests.get(timeout=HANG)
    for part in expected:
        assert part in request
