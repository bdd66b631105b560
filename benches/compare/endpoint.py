"""The service, on the loopback, over HTTP or TLS. It closes each connection after its reply."""

import json
import multiprocessing
import os
import re
import select
import socket
import ssl
import subprocess
import time
from collections import Counter

HANG = 120

# The reply to heartbeat N of the id `terminate-N` is `terminate`, and so are all later ones.
TERMINATE = re.compile(r"terminate-(\d+)")


class Endpoint:
    """Runs in a process of its own, which reports the time of each reply."""

    def __init__(self, folder, tls):
        listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        scheme = "https" if tls else "http"
        self.url = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
        self.replies, writer = os.pipe()
        self.seen, self.rest = {}, b""
        # Clients read it over HTTP, too, so that they do not read the host's 140 authorities.
        self.authority, certificate = certificates(folder)
        context = None
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            # Each connection has a full handshake, as after 15 minutes.
            context.num_tickets = 0
            context.options |= ssl.OP_NO_TICKET
        fork = multiprocessing.get_context("fork")
        self.process = fork.Process(target=serve, args=(listener, context, writer), daemon=True)
        self.process.start()
        listener.close()
        os.close(writer)

    def replied(self, taskrunner_id, count=1):
        """Waits for the reply number `count` to an id. Returns its time, in nanoseconds."""
        while len(self.seen.get(taskrunner_id, ())) < count:
            ready, _, _ = select.select([self.replies], [], [], HANG)
            assert ready, f"no heartbeat of {taskrunner_id} within {HANG} s"
            read = os.read(self.replies, 65536)
            assert read, "the endpoint has ended"
            *lines, self.rest = (self.rest + read).split(b"\n")
            for line in lines:
                sender, moment = line.decode().split()
                self.seen.setdefault(sender, []).append(int(moment))
        return self.seen[taskrunner_id][count - 1]

    def end(self):
        self.process.kill()
        self.process.join()
        os.close(self.replies)


def serve(listener, context, replies):
    calls = Counter()
    while True:
        connection, _ = listener.accept()
        connection.settimeout(HANG)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if context:
                connection = context.wrap_socket(connection, server_side=True)
            with connection:
                sender = json.loads(body(connection))["taskrunnerId"]
                calls[sender] += 1
                last = TERMINATE.match(sender)
                moment = time.monotonic_ns()
                connection.sendall(reply(bool(last) and calls[sender] >= int(last[1])))
                os.write(replies, f"{sender} {moment}\n".encode())
        except OSError:
            # The client was ended.
            connection.close()


def body(connection):
    received = b""
    while True:
        head, end, rest = received.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: *(\d+)", head)
        if end and length and len(rest) >= int(length[1]):
            return rest
        more = connection.recv(65536)
        if not more:
            raise ConnectionResetError
        received += more


def reply(terminate):
    content = json.dumps({"terminate": terminate})
    lines = [
        "HTTP/1.1 200 OK",
        "x-amzn-RequestId: 00000000-0000-4000-8000-000000000000",
        "Content-Type: application/x-amz-json-1.1",
        f"Content-Length: {len(content)}",
        "Connection: close",
    ]
    return "\r\n".join([*lines, "", content]).encode()


def certificates(folder):
    """The certificate of an authority, and key and certificate of 127.0.0.1; RSA, as at AWS."""
    path = {name: str(folder / name) for name in ("authority", "key", "request", "server")}

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)

    new = ["req", "-newkey", "rsa:2048", "-noenc"]
    of_authority = ["-keyout", path["key"], "-out", path["authority"], "-subj", "/CN=authority"]
    openssl(*new, "-x509", "-days", "2", *of_authority)
    name = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    basic = ["-addext", "basicConstraints=critical,CA:FALSE"]
    openssl(*new, *name, *basic, "-keyout", path["server"], "-out", path["request"])
    signer = ["-CA", path["authority"], "-CAkey", path["key"], "-copy_extensions", "copy"]
    certificate = folder / "certificate"
    openssl("x509", "-req", "-days", "2", "-in", path["request"], *signer, "-out", str(certificate))
    with open(path["server"], "ab") as server:
        server.write(certificate.read_bytes())
    return path["authority"], path["server"]
