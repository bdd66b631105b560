"""The requests of taskbeat, compared with botocore's model of the service and its signature."""

import json
import queue
import threading
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import botocore.session
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.serialize import create_serializer
from botocore.validate import ParamValidator

from conftest import HANG, KEY, REGION, SECRET

MODEL = botocore.session.Session().get_service_model("datapipeline", "2012-10-29")
HEARTBEAT = MODEL.operation_model("ReportTaskRunnerHeartbeat")
(TERMINATE,) = HEARTBEAT.output_shape.members
# botocore does not say which of the two is a fault of the service and which an error of the client.
FAULT, INVALID = sorted(shape.name for shape in HEARTBEAT.error_shapes)

NO, YES = (200, {TERMINATE: False}), (200, {TERMINATE: True})


def failure(status, name):
    return status, {"__type": name, "message": f"This is {name}."}


class Service:
    """Records each request, and sends the given answers in turn."""

    def __init__(self):
        self.requests = queue.Queue()
        self.answers = queue.Queue()
        self.ahead = timedelta()
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self):
                self.raw_requestline = self.rfile.readline(65537)
                if not self.raw_requestline or not self.parse_request():
                    self.close_connection = True
                    return
                # Any method is accepted here: check_request compares it.
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                service.requests.put((self.command, self.path, self.headers, body))
                status, content = service.answers.get(timeout=HANG)
                content = json.dumps(content).encode()
                self.send_response_only(status)
                self.send_header("Date", format_datetime(now() + service.ahead, usegmt=True))
                self.send_header(
                    "Content-Type", f"application/x-amz-json-{MODEL.metadata['jsonVersion']}"
                )
                self.send_header("Content-Length", str(len(content)))
                self.send_header("x-amzn-RequestId", "5e3b2b5c-0000-4000-8000-000000000000")
                self.end_headers()
                self.wfile.write(content)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, *answers):
        for answer in answers:
            self.answers.put(answer)

    def request(self):
        return self.requests.get(timeout=HANG)


@pytest.fixture
def service():
    service = Service()
    yield service
    service.server.shutdown()
    service.server.server_close()


def now():
    return datetime.now(timezone.utc)


def signed_at(headers):
    return datetime.strptime(headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)


def check_signature(method, path, headers, body, token=None):
    """Compares the signature with that of botocore for the same time and headers."""
    scheme, _, rest = headers["Authorization"].partition(" ")
    fields = dict(part.strip().split("=", 1) for part in rest.split(","))
    signed = fields["SignedHeaders"].split(";")
    assert scheme == "AWS4-HMAC-SHA256"
    assert {"host", "x-amz-date", "x-amz-target", "content-type"} <= set(signed)

    auth = SigV4Auth(Credentials(KEY, SECRET, token), MODEL.signing_name, REGION)
    request = AWSRequest(
        method=method,
        url=f"http://{headers['Host']}{path}",
        data=body,
        # With this header botocore would not hash the body itself.
        headers={name: headers[name] for name in signed if name != "x-amz-content-sha256"},
    )
    request.context["timestamp"] = headers["X-Amz-Date"]
    if "x-amz-content-sha256" in signed:
        assert headers["x-amz-content-sha256"] == auth.payload(request)
        request.headers["x-amz-content-sha256"] = headers["x-amz-content-sha256"]
    assert fields["SignedHeaders"] == auth.signed_headers(auth.headers_to_sign(request))
    assert fields["Credential"] == auth.scope(request)
    assert fields["Signature"] == auth.signature(
        auth.string_to_sign(request, auth.canonical_request(request)), request
    )


def check_request(method, path, headers, body, expected):
    """Compares a request with the model, and with botocore's request for the same input."""
    members = json.loads(body)
    shape = HEARTBEAT.input_shape
    assert set(shape.required_members) <= set(members) <= set(shape.members)
    problems = ParamValidator().validate(members, shape)
    assert not problems.has_errors(), problems.generate_report()
    assert members == expected

    assert method == HEARTBEAT.http["method"]
    assert path == HEARTBEAT.http["requestUri"]
    assert headers.get_all("X-Amz-Target") == [f"{MODEL.metadata['targetPrefix']}.{HEARTBEAT.name}"]
    assert headers.get_all("Content-Type") == [
        f"application/x-amz-json-{MODEL.metadata['jsonVersion']}"
    ]

    theirs = create_serializer(MODEL.metadata["protocol"]).serialize_to_request(expected, HEARTBEAT)
    assert (method, path) == (theirs["method"], theirs["url_path"])
    assert {name: headers[name] for name in theirs["headers"]} == theirs["headers"]
    assert members == json.loads(theirs["body"])


IDENTITIES = {
    "plain": {"taskrunnerId": "etl-1", "workerGroup": "etl", "hostname": "etl-1.example"},
    "without a worker group": {"taskrunnerId": "etl-1", "hostname": "etl-1.example"},
    "beyond ASCII": {
        "taskrunnerId": 'é"\\/ 🦀',
        "workerGroup": "größe",
        "hostname": "рунет.example",
    },
    "the shortest": {"taskrunnerId": "t", "hostname": "h"},
    "the longest": {"taskrunnerId": "🦀" * 1024, "workerGroup": "w" * 1024, "hostname": "é" * 1024},
}


def options(service, members):
    flags = {
        "taskrunnerId": "--taskrunner-id",
        "workerGroup": "--worker-group",
        "hostname": "--hostname",
    }
    assert set(flags) == set(HEARTBEAT.input_shape.members)
    return [
        "--endpoint-url",
        service.url,
        *(word for key, value in members.items() for word in (flags[key], value)),
    ]


@pytest.mark.parametrize("members", IDENTITIES.values(), ids=IDENTITIES.keys())
def test_a_heartbeat_matches_the_model(service, taskbeat, members):
    service.answer(NO)
    once = taskbeat("once", *options(service, members))
    assert (once.returncode, once.stdout) == (0, '{"terminate":false}\n'), once.stderr
    request = service.request()
    check_request(*request, members)
    check_signature(*request)
    assert abs(now() - signed_at(request[2])) < timedelta(minutes=5)
    assert service.requests.empty()


def test_a_session_token_is_sent_and_signed(service, taskbeat, monkeypatch):
    monkeypatch.setenv("AWS_SESSION_TOKEN", "a/session+token==")
    service.answer(NO)
    assert taskbeat("once", *options(service, IDENTITIES["plain"])).returncode == 0
    request = service.request()
    assert request[2]["X-Amz-Security-Token"] == "a/session+token=="
    assert "x-amz-security-token" in request[2]["Authorization"]
    check_signature(*request, token="a/session+token==")


def test_the_default_hostname_is_that_of_the_system(service, taskbeat):
    service.answer(NO)
    assert taskbeat("once", *options(service, {"taskrunnerId": "t"})).returncode == 0
    with open("/proc/sys/kernel/hostname", encoding="utf-8") as hostname:
        check_request(
            *service.request(), {"taskrunnerId": "t", "hostname": hostname.read().strip()}
        )


@pytest.mark.parametrize(
    ("answer", "status", "message"),
    [
        (YES, 10, ""),
        (failure(500, FAULT), 69, f"taskbeat: {FAULT}: This is {FAULT}. (HTTP 500)\n"),
        (failure(400, "ThrottlingException"), 69, "taskbeat: ThrottlingException: This is"),
        (failure(400, INVALID), 77, f"taskbeat: {INVALID}: This is {INVALID}. (HTTP 400)\n"),
        (
            failure(400, "UnrecognizedClientException"),
            77,
            "taskbeat: UnrecognizedClientException: This is",
        ),
        # The output shape requires `terminate`, so neither is an acknowledgement.
        ((200, {}), 69, "taskbeat: "),
        ((200, {TERMINATE: "no"}), 69, "taskbeat: "),
    ],
)
def test_once_has_a_status_for_each_kind_of_answer(service, taskbeat, answer, status, message):
    service.answer(answer)
    once = taskbeat("once", *options(service, IDENTITIES["plain"]))
    assert once.returncode == status, once.stderr
    assert once.stdout == ('{"terminate":true}\n' if answer is YES else "")
    assert once.stderr.startswith(message)
    # `once` sends a single request, without a retry by the SDK.
    assert service.requests.qsize() == 1


def test_run_continues_through_failures_until_terminate(service, start):
    answers = [
        NO,
        failure(500, FAULT),
        failure(400, INVALID),
        failure(400, "ExpiredTokenException"),
        NO,
    ]
    service.answer(*answers)
    members = IDENTITIES["plain"]
    runner = ["sh", "-c", 'trap "exit 7" TERM; sleep 1000 & wait']
    run = start("run", "--interval", "1s", *options(service, members), "--", *runner)
    for _ in answers:
        request = service.request()
        check_request(*request, members)
        check_signature(*request)
    assert run.process.poll() is None
    # Before the next heartbeat, which waits for an answer no longer than its limit of one second.
    service.answer(YES)
    run.wait_for(r"terminate received: stop signal to sh\[")
    run.wait_for(r"runner exited status=7")
    assert run.wait() == 0


def test_the_second_attempt_corrects_a_wrong_clock(service, start):
    service.ahead = timedelta(hours=1)
    service.answer(failure(400, "InvalidSignatureException"), YES)
    run = start("run", "--interval", "1s", *options(service, IDENTITIES["plain"]))
    assert abs(now() - signed_at(service.request()[2])) < timedelta(minutes=5)
    second = service.request()
    assert abs(now() + service.ahead - signed_at(second[2])) < timedelta(minutes=5)
    check_signature(*second)
    assert run.wait() == 0
