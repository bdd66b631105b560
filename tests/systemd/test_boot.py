"""A machine that boots with the units enabled, while Data Pipeline is unreachable."""

import pytest

from conftest import ENVIRONMENT, configuration
from machine import UNITS, shipped, until
from service import Service

# A user that exists on every Debian.
USER = "daemon"
RUNNER = f"""
[Service]
User={USER}
ExecStart=/bin/sleep 100000
Restart=on-failure
"""


@pytest.fixture
def boot_with(boot, tmp_path):
    """Boots a machine with these files, and with these units enabled: `{WANTING: UNIT}`."""

    def boot_with(files, enabled):
        environment = "".join(f'"{name}={value}" ' for name, value in ENVIRONMENT.items())
        manager = f"[Manager]\nDefaultEnvironment={environment}\n"
        files = files | {"/etc/systemd/system.conf.d/tests.conf": manager}
        binds = shipped()
        for index, (path, text) in enumerate(files.items()):
            source = tmp_path / str(index)
            source.write_text(text)
            binds[source] = path
        for wanting, unit in enabled.items():
            wants = tmp_path / f"{wanting}.wants"
            wants.mkdir()
            (wants / f"{unit}.service").symlink_to(f"../{unit}.service")
            binds[wants] = f"/etc/systemd/system/{wants.name}"
        return boot(binds)

    return boot_with


def test_an_outage_does_not_delay_the_boot(boot_with):
    machine = boot_with(
        {"/etc/taskbeat/taskbeat.toml": configuration("taskbeat", command="exec sleep 100000")},
        {"multi-user.target": "taskbeat"},
    )
    assert machine.show("taskbeat", "ActiveState") == "active"
    machine.wait_for("taskbeat", "StatusText", ".* failed, never acknowledged, .*")
    taskbeat = machine.main_pid("taskbeat")
    service = Service(machine.pid)
    try:
        service.wait_for_heartbeats("taskbeat")
        machine.wait_for("taskbeat", "StatusText", "acknowledged .*; runner pid .* up .*")
    finally:
        service.down()
    assert machine.main_pid("taskbeat") == taskbeat
    assert machine.restarts("taskbeat") == 0


def test_the_sidecar_starts_with_the_unit_of_the_runner_at_boot(boot_with):
    drop_ins = {"taskbeat-sidecar": "sidecar", "etl": "runner"}
    files = {
        f"/etc/systemd/system/{unit}.service.d/{name}.conf": (
            (UNITS / f"drop-ins/{name}.conf").read_text().replace("User=etl", f"User={USER}")
        )
        for unit, name in drop_ins.items()
    }
    files["/etc/systemd/system/etl.service"] = RUNNER
    files["/etc/taskbeat/sidecar.toml"] = configuration(
        "sidecar", pid_file="/run/etl/pid", interval="1s"
    )
    machine = boot_with(files, {"multi-user.target": "etl", "etl.service": "taskbeat-sidecar"})
    for unit in ("etl", "taskbeat-sidecar"):
        assert machine.show(unit, "ActiveState") == "active"
    sidecar = machine.main_pid("taskbeat-sidecar")
    service = Service(machine.pid)
    try:
        service.wait_for_heartbeats("sidecar")
        runner = machine.main_pid("etl")
        until(
            lambda: f"; runner pid {runner} up" in machine.show("taskbeat-sidecar", "StatusText"),
            "the sidecar follows the runner",
        )
    finally:
        service.down()
    assert machine.main_pid("taskbeat-sidecar") == sidecar
