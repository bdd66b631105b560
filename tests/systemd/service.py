"""Data Pipeline on the loopback of a machine: records heartbeats, and replies as the test sets."""

import ctypes
import json
import os
import re
import threading
import uuid
from collections import namedtuple
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from machine import until

PORT = 4566
CLONE_NEWNET = 0x40000000

Heartbeat = namedtuple("Heartbeat", "id key")


class Service:
    """Listens from the start. `down` begins an outage and `up` ends it."""

    def __init__(self, pid):
        self.pid = pid
        self.heartbeats = []
        self.terminated = set()
        self.refused = {}
        self.server = None
        self.up()

    def up(self):
        # A thread of its own, because it enters the machine's network namespace for good.
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()
        until(lambda: self.server, "the service listens")

    def down(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
        self.server = None

    def count(self, id):
        return sum(heartbeat.id == id for heartbeat in self.heartbeats)

    def wait_for_heartbeats(self, id, total=1):
        """Waits until a task runner has sent this number of heartbeats since the test began.

        To wait for further ones, add to a `count` that was taken before their cause.
        """
        until(lambda: self.count(id) >= total, f"{total} heartbeats of {id}")

    def _serve(self):
        with open(f"/proc/{self.pid}/ns/net", "rb") as network:
            if ctypes.CDLL(None, use_errno=True).setns(network.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                id, key = (
                    body["taskrunnerId"],
                    re.search(r"Credential=(\w+)/", self.headers["Authorization"])[1],
                )
                service.heartbeats.append(Heartbeat(id, key))
                status, content = 200, {"terminate": id in service.terminated}
                if refusal := service.refused.get(id):
                    status, content = 400, {"__type": refusal, "message": "no"}
                content = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/x-amz-json-1.1")
                self.send_header("Content-Length", str(len(content)))
                self.send_header("x-amzn-RequestId", str(uuid.uuid4()))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", PORT), Handler)
        self.server = server
        server.serve_forever(poll_interval=0.05)
