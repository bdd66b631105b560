"""The image and the example of a runner's image, built by their Containerfiles and run."""

import json
import re
import signal
import socket
import ssl
import subprocess

import pytest
import yaml

from conftest import BINARY, DEBIAN_ARCHITECTURE, REPOSITORY, ROOT, needs
from image import HANG, Container, build
from machine import children, until

PACKAGING = REPOSITORY / "packaging"

# Leaves orphans behind, and prints a line when it runs.
RUNNER = """#!/bin/sh
trap 'echo asked to stop; kill $!; exit 7' TERM
for number in 1 2 3 4 5 6 7 8 9; do (true & true & ); done
(: > /tmp/file) && exit 9
echo runs as $(id -u)
while :; do sleep 1000 & wait; done
"""


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    folder.parent.chmod(0o755)
    return folder


@pytest.fixture(scope="session")
def image(folder):
    needs("root", ROOT, BINARY, REPOSITORY / "target/debian")
    # The root has the certificates, too.
    known = {"docker.io/library/buildpack-deps:bookworm-curl": ROOT}
    engine = {"TARGETARCH": DEBIAN_ARCHITECTURE, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    (folder / "taskbeat").mkdir()
    return build(PACKAGING / "Containerfile", REPOSITORY, known, engine, folder / "taskbeat")


@pytest.fixture(scope="session")
def runner_image(folder, image):
    context = folder / "context"
    context.mkdir()
    (context / "runner").write_text(RUNNER)
    (context / "runner").chmod(0o755)
    known = {
        "registry.example/taskbeat:0.1.0": image.root,
        "docker.io/library/debian:bookworm-slim": ROOT,
    }
    (folder / "runner").mkdir()
    return build(PACKAGING / "Containerfile.runner", context, known, {}, folder / "runner")


@pytest.fixture
def endpoint():
    """Starts a rehearsal, and returns the environment of a container that talks to its endpoint."""
    rehearsals = []

    def endpoint(script):
        rehearsal = subprocess.Popen(
            [
                BINARY,
                "rehearse",
                "--log",
                "info",
                "--listen",
                "127.0.0.1:0",
                "--interval",
                "15m",
                "--script",
                script,
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        rehearsals.append(rehearsal)
        for line in rehearsal.stderr:
            if found := re.search(r"endpoint (http://\S+) plays", line):
                return {
                    "AWS_ENDPOINT_URL_DATA_PIPELINE": found[1],
                    "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
                    "AWS_SECRET_ACCESS_KEY": "any",
                    "AWS_EC2_METADATA_DISABLED": "true",
                    "AWS_REGION": "us-east-1",
                    "TASKBEAT_INTERVAL": "100ms",
                    "TASKBEAT_TASKRUNNER_ID": "image-test",
                }
        raise AssertionError("the rehearsal has no endpoint")

    yield endpoint
    for rehearsal in rehearsals:
        rehearsal.kill()
        rehearsal.communicate()


@pytest.fixture
def start():
    """Starts containers, and kills them after the test, the newest first."""
    containers = []

    def start(*arguments, **options):
        containers.append(Container(*arguments, **options))
        return containers[-1]

    yield start
    for container in reversed(containers):
        container.kill()


def test_the_image_has_the_binary_its_libraries_and_certificates(image):
    files = {str(path.relative_to(image.root)) for path in image.root.rglob("*") if path.is_file()}
    name = re.compile(r"/(ld-linux|lib(c|m|dl|pthread)\b)[^/]*\.so[.0-9]*$")
    libraries = {path for path in files if name.search(path)}
    assert files - libraries == {"usr/bin/taskbeat", "etc/ssl/certs/ca-certificates.crt"}
    assert len(libraries) == 5
    assert sum((image.root / path).stat().st_size for path in files) < 12_000_000
    assert image.user == "65534:65534"


def test_without_settings_the_image_names_the_missing_id(image, start):
    status, output = start(image, environment={}).end()
    assert status == 78
    assert "TASKBEAT_TASKRUNNER_ID" in output


def test_the_image_resolves_names(image, start, endpoint):
    environment = endpoint("ok*2") | {
        "AWS_ENDPOINT_URL_DATA_PIPELINE": "http://datapipeline.invalid"
    }
    status, output = start(image, ["once"], environment=environment).end()
    assert status == 69
    assert "cannot look up datapipeline.invalid: " in output


def test_the_image_finds_the_root_certificates(image, start, endpoint, tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "ca-certificates.crt"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    kind = [
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
    ]
    request = ["openssl", "req", *kind, *subject, "-keyout", key, "-out", certificate]
    subprocess.run(request, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(HANG)
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        environment = endpoint("ok*2") | {"AWS_ENDPOINT_URL_DATA_PIPELINE": url}

        def is_trusted(files):
            container = start(image, ["once"], environment=environment, files=files)
            connection, _ = listener.accept()
            try:
                context.wrap_socket(connection, server_side=True).close()
            except ssl.SSLError:
                return False
            finally:
                connection.close()
                assert container.end()[0] == 69
            return True

        assert not is_trusted({})
        assert is_trusted({"/etc/ssl/certs/ca-certificates.crt": certificate})


def test_a_runner_under_pid_1_is_stopped_at_terminate(runner_image, start, endpoint):
    container = start(runner_image, environment=endpoint("ok*3,terminate"))
    container.wait_for("runs as 65534")
    status, output = container.end()
    assert (status, "asked to stop" in output) == (0, True), output


def test_a_stop_of_the_container_ends_with_the_status_of_the_runner(runner_image, start, endpoint):
    container = start(runner_image, environment=endpoint("ok*2,hang"))
    container.wait_for("runs as 65534")
    until(lambda: len(children(container.pid)) == 1, "the reaping of the orphans")
    # Set in the image, because an engine would take the stop signal of its base.
    container.signal(signal.Signals[runner_image.stop_signal])
    status, output = container.end()
    assert (status, "asked to stop" in output) == (7, True), output


@pytest.fixture
def pod(runner_image, start, tmp_path):
    """A shared PID namespace with a runner that writes its pid file, as in the manifests."""
    volume = tmp_path / "pid"
    volume.mkdir()
    volume.chmod(0o777)
    first = start(runner_image, ["-c", "echo up; exec sleep infinity"], entrypoint=["/bin/sh"])
    first.wait_for("up")
    command = yaml.safe_load_all((PACKAGING / "kubernetes.yaml").read_text())
    [spec] = [part["spec"]["template"]["spec"] for part in command if "spec" in part]
    command = spec["containers"][0]["command"]
    runner = start(
        runner_image, command[1:], entrypoint=command[:1], pod=first, volumes={"/run/etl": volume}
    )
    runner.wait_for("runs as 65534")
    return first, runner, {"/run/etl": volume}


def test_the_sidecar_of_kubernetes_stops_its_runner_and_stays(image, pod, start, endpoint):
    first, runner, volumes = pod
    documents = yaml.safe_load_all((PACKAGING / "kubernetes.yaml").read_text())
    [template] = [
        document["spec"]["template"]["spec"] for document in documents if document["kind"] == "Job"
    ]
    [manifest] = template["initContainers"]
    environment = {
        variable["name"]: variable.get("value", "etl-x7k2p") for variable in manifest["env"]
    }
    environment = endpoint("ok*2,terminate") | environment
    sidecar = start(image, manifest["args"], environment=environment, pod=first, volumes=volumes)
    sidecar.wait_for("terminate received")
    status, output = runner.end()
    assert (status, "asked to stop" in output) == (7, True), output
    probe = manifest["readinessProbe"]["exec"]["command"]

    def is_idle():
        status, output = start(
            image, probe[1:], entrypoint=probe[:1], environment=environment, pod=first
        ).end()
        assert status == 0, output
        return "idle after terminate" in output

    until(is_idle, "idle after terminate")
    sidecar.signal(signal.SIGTERM)
    assert sidecar.end()[0] == 0


def test_the_sidecar_of_ecs_stops_its_runner_and_ends(image, pod, start, endpoint):
    first, runner, volumes = pod
    task = json.loads((PACKAGING / "ecs-task.json").read_text())
    [manifest] = [
        container for container in task["containerDefinitions"] if container["name"] == "taskbeat"
    ]
    environment = {variable["name"]: variable["value"] for variable in manifest["environment"]}
    environment = endpoint("ok*2,terminate") | environment
    sidecar = start(image, manifest["command"], environment=environment, pod=first, volumes=volumes)
    assert runner.end()[0] == 7
    status, output = sidecar.end()
    assert status == 0, output
