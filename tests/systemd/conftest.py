"""A machine for each test, for each of the systemds that matter."""

import json
import os
import shutil

import pytest

from machine import ROOTS, TASKBEAT, Machine
from service import PORT, Service

# 252 is that of Amazon Linux 2023, too.
SUITES = {"bookworm": "252", "trixie": "257"}


def missing(suite):
    """What is not there for a machine to boot."""
    if os.geteuid() != 0:
        return "root"
    if not shutil.which("systemd-nspawn"):
        return "systemd-nspawn"
    paths = (TASKBEAT, ROOTS / suite)
    return next((path for path in paths if not path.exists()), None)


@pytest.fixture(params=SUITES, ids=[f"systemd-{version}" for version in SUITES.values()])
def machine(request):
    if lacking := missing(request.param):
        reason = f"a real systemd needs {lacking}; `CI=true bash .ci/run` installs it"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    machine = Machine(request.param)
    try:
        # Every service is told: who we are, and that there is no EC2 here.
        machine.systemctl(
            "set-environment",
            "AWS_ACCESS_KEY_ID=AKIDEXAMPLE",
            "AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
            "AWS_REGION=eu-west-1",
            f"AWS_ENDPOINT_URL_DATA_PIPELINE=http://127.0.0.1:{PORT}",
            "AWS_EC2_METADATA_DISABLED=true",
        )
        machine.run("useradd", "--system", "etl")
        yield machine
    finally:
        # Seen only when a test fails.
        print(machine.ask("journalctl", "--output=short-precise", "--no-pager", "--lines=200").stdout)
        machine.end()


@pytest.fixture
def service(machine):
    service = Service(machine.pid)
    yield service
    if service.server:
        service.down()


@pytest.fixture
def configure(machine):
    """Writes the configuration NAME, of the task runner NAME."""

    def configure(name, **settings):
        settings = {"taskrunner-id": name, "hostname": "runner.example"} | settings
        # Strings, which are written alike in JSON and TOML.
        lines = [f"{key.replace('_', '-')} = {json.dumps(value)}\n" for key, value in settings.items()]
        machine.write(f"/etc/taskbeat/{name}.toml", "".join(lines))

    return configure
