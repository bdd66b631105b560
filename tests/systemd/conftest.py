"""A machine for each test, for each of the systemds that matter."""

import json
import os
import shutil

import pytest

from machine import ROOTS, TASKBEAT, Machine
from service import PORT, Service

# 252 is that of Amazon Linux 2023, too.
SUITES = {"bookworm": "252", "trixie": "257"}
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
    "AWS_REGION": "eu-west-1",
    "AWS_ENDPOINT_URL_DATA_PIPELINE": f"http://127.0.0.1:{PORT}",
    "AWS_EC2_METADATA_DISABLED": "true",
}


def missing(suite):
    """What is not there for a machine to boot."""
    if os.geteuid() != 0:
        return "root"
    if not shutil.which("systemd-nspawn"):
        return "systemd-nspawn"
    paths = (TASKBEAT, ROOTS / suite)
    return next((path for path in paths if not path.exists()), None)


@pytest.fixture(params=SUITES, ids=[f"systemd-{version}" for version in SUITES.values()])
def boot(request):
    """Boots a machine with these of our files, and ends it."""
    if lacking := missing(request.param):
        reason = f"a real systemd needs {lacking}; `CI=true bash .ci/run` installs it"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    machines = []

    def boot(binds=None):
        machines.append(Machine(request.param, binds))
        return machines[-1]

    yield boot
    for machine in machines:
        try:
            # Seen only when a test fails.
            print(machine.ask("journalctl", "--output=short-precise", "--no-pager", "--lines=200").stdout)
        finally:
            machine.end()


@pytest.fixture
def machine(boot):
    machine = boot()
    # Every service is told: who we are, and that there is no EC2 here.
    machine.systemctl("set-environment", *(f"{name}={value}" for name, value in ENVIRONMENT.items()))
    machine.run("useradd", "--system", "etl")
    return machine


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
        machine.write(f"/etc/taskbeat/{name}.toml", configuration(name, **settings))

    return configure


def configuration(name, **settings):
    settings = {"taskrunner-id": name, "hostname": "runner.example"} | settings
    # Strings, which are written alike in JSON and TOML.
    return "".join(f"{key.replace('_', '-')} = {json.dumps(value)}\n" for key, value in settings.items())
