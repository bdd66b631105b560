"""A machine with a real systemd for each test, once for each supported version."""

import json
import os
import shutil

import pytest

from machine import ROOTS, TASKBEAT, Machine
from service import PORT, Service

# Amazon Linux 2023 has 252, too.
SUITES = {"bookworm": "252", "trixie": "257"}
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
    "AWS_REGION": "eu-west-1",
    "AWS_ENDPOINT_URL_DATA_PIPELINE": f"http://127.0.0.1:{PORT}",
    "AWS_EC2_METADATA_DISABLED": "true",
}


def missing(suite):
    """The first thing that a machine needs and this host lacks, or None."""
    if os.geteuid() != 0:
        return "root"
    if not shutil.which("systemd-nspawn"):
        return "systemd-nspawn"
    paths = (TASKBEAT, ROOTS / suite)
    return next((path for path in paths if not path.exists()), None)


@pytest.fixture(params=SUITES, ids=[f"systemd-{version}" for version in SUITES.values()])
def boot(request):
    """Boots machines with the given files, and ends them after the test."""
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
            # pytest shows this only if the test fails.
            print(
                machine.attempt(
                    "journalctl", "--output=short-precise", "--no-pager", "--lines=200"
                ).stdout
            )
        finally:
            machine.end()


@pytest.fixture
def machine(boot):
    machine = boot()
    # For all services: credentials, the endpoint, and no EC2 metadata.
    machine.systemctl(
        "set-environment", *(f"{name}={value}" for name, value in ENVIRONMENT.items())
    )
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
    """Writes the configuration file NAME, with the taskrunner-id NAME."""

    def configure(name, **settings):
        machine.write(f"/etc/taskbeat/{name}.toml", configuration(name, **settings))

    return configure


def configuration(name, **settings):
    settings = {"taskrunner-id": name, "hostname": "runner.example"} | settings
    # All values are strings, which JSON and TOML write alike.
    return "".join(
        f"{key.replace('_', '-')} = {json.dumps(value)}\n" for key, value in settings.items()
    )
