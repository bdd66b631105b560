"""The manifests, checked by the schema of the system that reads each, and by taskbeat."""

import copy
import json
import os
import re
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import botocore.session
import jsonschema
import kubernetes_validate
import parliament
import pytest
import yaml
from botocore.validate import ParamValidator

from conftest import REPOSITORY, needs

PACKAGING = REPOSITORY / "packaging"
TASKBEAT = os.environ.get("TASKBEAT", str(REPOSITORY / "target/debug/taskbeat"))
# From Debian's package cloud-init, unpacked by .ci/run.
CLOUD_INIT = REPOSITORY / "target/cloud-init/usr/lib/python3/dist-packages/cloudinit/config/schemas"
KUBERNETES = "1.29"  # the first version with native sidecars by default


def kubernetes():
    return list(yaml.safe_load_all((PACKAGING / "kubernetes.yaml").read_text()))


def kubernetes_main():
    return list(yaml.safe_load_all((PACKAGING / "kubernetes-main.yaml").read_text()))


def ecs():
    return json.loads((PACKAGING / "ecs-task.json").read_text())


def user_data():
    return yaml.safe_load((PACKAGING / "ec2-user-data.yaml").read_text())


def policy():
    return json.loads((PACKAGING / "iam-policy.json").read_text())


def errors_of_kubernetes(documents):
    for version in (KUBERNETES, kubernetes_validate.latest_version()):
        for document in documents:
            try:
                kubernetes_validate.validate(document, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                yield f"{version}: {error}"


def errors_of_ecs(task):
    model = botocore.session.get_session().get_service_model("ecs")
    shape = model.operation_model("RegisterTaskDefinition").input_shape
    report = ParamValidator().validate(task, shape)
    if report.has_errors():
        yield report.generate_report()
    else:
        yield from wrong_words(task, shape)


def wrong_words(value, shape):
    """Values that are not in the model's enums, which botocore does not check."""
    if shape.type_name == "structure":
        for name, part in value.items():
            yield from wrong_words(part, shape.members[name])
    elif shape.type_name == "list":
        for part in value:
            yield from wrong_words(part, shape.member)
    elif shape.type_name == "string" and shape.enum and value not in shape.enum:
        yield f"{value} is not one of {shape.enum}"


def errors_of_cloud_init(data):
    needs(CLOUD_INIT)
    schema = json.loads((CLOUD_INIT / "schema-cloud-config-v1.json").read_text())
    for error in jsonschema.Draft4Validator(schema).iter_errors(data):
        yield error.message


def errors_of_iam(statements):
    yield from parliament.analyze_policy_string(json.dumps(statements)).findings


def spoiled(manifest, *path):
    """A copy with one value replaced."""
    *path, last, value = path
    result = part = copy.deepcopy(manifest())
    for key in path:
        part = part[key]
    part[last] = value
    return result


CONTAINER = (1, "spec", "template", "spec", "initContainers", 0)


@pytest.mark.parametrize(
    ("errors", "manifest", "wrong"),
    [
        (errors_of_kubernetes, kubernetes, (*CONTAINER, "restartpolicy", "Always")),
        (errors_of_kubernetes, kubernetes, (1, "spec", "backoffLimit", "many")),
        (
            errors_of_kubernetes,
            kubernetes_main,
            (0, "spec", "template", "spec", "containers", 0, "arg", ["run"]),
        ),
        (errors_of_ecs, ecs, ("containerDefinitions", 1, "stopTimeout", "30s")),
        (errors_of_ecs, ecs, ("pidMode", "tasks")),
        (errors_of_cloud_init, user_data, ("write_files", 0, "paths", "/etc")),
        (errors_of_cloud_init, user_data, ("runcmd", "reboot")),
        (errors_of_iam, policy, ("Statement", 0, "Action", "datapipeline:ReportHeartbeat")),
        (errors_of_iam, policy, ("Statement", 0, "Resource", "arn:aws:s3:::etl")),
    ],
)
def test_each_manifest_matches_its_schema(errors, manifest, wrong):
    assert list(errors(manifest())) == []
    # The schema finds a mistake if there is one.
    assert list(errors(spoiled(manifest, *wrong))) != []


def check(arguments, environment, tmp_path):
    """The settings that `taskbeat check` prints, and its whole output as `output`."""
    environment = {"HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true"} | environment
    command = [TASKBEAT, "check", *arguments]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return dict(re.findall(r"^(\S+) +(.*?)  +\S.*$", done.stdout, re.MULTILINE)) | {
        "output": done.stdout
    }


def test_taskbeat_accepts_the_settings_of_kubernetes(tmp_path):
    pod = kubernetes()[1]["spec"]["template"]["spec"]
    [sidecar] = pod["initContainers"]
    environment = {
        variable["name"]: variable.get("value", "etl-x7k2p") for variable in sidecar["env"]
    }
    assert sidecar["args"][0] == "run"
    settings = check(sidecar["args"][1:], environment, tmp_path)
    assert settings["taskrunner-id"] == "etl-x7k2p"
    assert settings["after-terminate"] == "idle"
    # The variables of a Service named taskbeat-… would be unknown settings.
    assert pod["enableServiceLinks"] is False
    [command] = [container["command"] for container in pod["containers"]]
    assert f"> {settings['pid-file']};" in command[2]


def test_taskbeat_accepts_the_settings_of_kubernetes_as_the_main_process(tmp_path):
    pod = kubernetes_main()[0]["spec"]["template"]["spec"]
    [runner] = pod["containers"]
    environment = {
        variable["name"]: variable.get("value", "etl-x7k2p") for variable in runner["env"]
    }
    assert runner["args"][0] == "run"
    settings = check(runner["args"][1:], environment, tmp_path)
    assert settings["taskrunner-id"] == "etl-x7k2p"
    assert pod["enableServiceLinks"] is False


def test_kubernetes_does_not_restart_a_runner_after_terminate():
    # Beside a sidecar the runner may exit with any status, and none may start another pod.
    job = kubernetes()[1]["spec"]
    assert job["backoffLimit"] == 0
    assert job["template"]["spec"]["restartPolicy"] == "Never"
    assert [rule["action"] for rule in job["podFailurePolicy"]["rules"]] == ["Ignore"]
    assert "onExitCodes" not in job["podFailurePolicy"]["rules"][0]
    # As the main process taskbeat exits 0, which is no failure.
    job = kubernetes_main()[0]["spec"]
    assert job["template"]["spec"]["restartPolicy"] == "OnFailure"
    assert "initContainers" not in job["template"]["spec"]


def test_taskbeat_accepts_the_settings_of_ecs(tmp_path):
    task = ecs()
    _, taskbeat, runner = task["containerDefinitions"]
    environment = {variable["name"]: variable["value"] for variable in taskbeat["environment"]}
    assert taskbeat["command"][0] == "run"
    settings = check(taskbeat["command"][1:], environment, tmp_path)
    assert settings["worker-group"] == "etl"
    assert f"> {settings['pid-file']};" in runner["command"][0]


def test_the_volume_of_ecs_belongs_to_the_user_of_the_containers(tmp_path):
    needs("root")
    volume, *users = ecs()["containerDefinitions"]
    awaited = [
        [(other["containerName"], other["condition"]) for other in user["dependsOn"]]
        for user in users
    ]
    # ECS stops containers in the reverse order, so that taskbeat outlives the runner.
    assert awaited == [[("volume", "SUCCESS")], [("taskbeat", "START")]]
    assert not volume["essential"]
    assert {user["user"] for user in users} == {"65534:65534"}
    tmp_path.chmod(0o755)
    command = [
        part.replace("/run/etl", str(tmp_path)) for part in volume["entryPoint"] + volume["command"]
    ]
    subprocess.run(command, check=True)
    # An engine gives an empty volume the owner of its path in the image. This one is not empty.
    assert [path.name for path in tmp_path.iterdir()] == ["pid"]
    for path in (tmp_path, tmp_path / "pid"):
        assert (path.stat().st_uid, path.stat().st_gid) == (65534, 65534)


class Metadata(BaseHTTPRequestHandler):
    """The metadata service of an instance."""

    def do_PUT(self):
        self.answer("token")

    def do_GET(self):
        assert self.path == "/latest/meta-data/instance-id"
        self.answer("i-0123456789abcdef0")

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("x-aws-ec2-metadata-token-ttl-seconds", "21600")
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_):
        pass


def test_taskbeat_accepts_the_settings_of_the_user_data(tmp_path):
    [file] = user_data()["write_files"]
    assert file["path"] == "/etc/taskbeat/taskbeat.toml"
    config = tmp_path / "taskbeat.toml"
    config.write_text(file["content"])
    with ThreadingHTTPServer(("127.0.0.1", 0), Metadata) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        environment = {
            "AWS_EC2_METADATA_DISABLED": "false",
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
            "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "any",
        }
        settings = check(["--online", "--config", str(config)], environment, tmp_path)
        server.shutdown()
    assert settings["worker-group"] == "etl"
    assert "i-0123456789abcdef0" in settings["output"]


def test_manifests_name_this_version_and_the_policy_of_the_readme():
    version = re.search(
        r'^version = "(.*)"$', (REPOSITORY / "Cargo.toml").read_text(), re.MULTILINE
    )[1]
    named = []
    for path in PACKAGING.iterdir():
        if path.is_file():
            named += re.findall(r"taskbeat[:-](\d+\.\d+\.\d+)", path.read_text())
    assert set(named) == {version}
    [block] = re.findall(r"```json\n(.*?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL)
    assert json.loads(block) == policy()


@pytest.mark.parametrize(
    ("section", "files"),
    [
        ("Kubernetes", ["kubernetes.yaml", "kubernetes-main.yaml"]),
        ("ECS", ["ecs-task.json"]),
        ("EC2", ["ec2-user-data.yaml"]),
    ],
)
def test_the_page_names_lines_to_edit(section, files):
    page = (REPOSITORY / "docs/containers.md").read_text()
    table = page.split(f"\n## {section}\n")[1].split("\n## ")[0]
    lines = "\n".join((PACKAGING / file).read_text() for file in files).splitlines()
    named = 0
    for cell in re.findall(r"^\| (.*?) \|", table, re.MULTILINE):
        for name in re.findall(r"`(.+?)`", cell):
            count = sum(name in line for line in lines)
            assert count == 3 if cell.startswith("three times") else count > 0, (cell, count)
            named += 1
    assert named >= 3
