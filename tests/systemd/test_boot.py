"""A machine that boots with our units enabled, and without a service that would answer."""

import pytest

from conftest import ENVIRONMENT, configuration
from machine import UNITS, shipped, until
from service import Service

# A user that every Debian has.
USER = "daemon"
RUNNER = f"""
[Service]
User={USER}
ExecStart=/bin/sleep 100000
Restart=on-failure
"""


@pytest.fixture
def boot_with(boot, tmp_path):
    """Boots a machine that has these files, and these units where `systemctl enable` links them."""

    def boot_with(files, enabled):
        environment = "".join(f'"{name}={value}" ' for name, value in ENVIRONMENT.items())
        files = files | {"/etc/systemd/system.conf.d/tests.conf": f"[Manager]\nDefaultEnvironment={environment}\n"}
        binds = shipped()
        for index, (path, text) in enumerate(files.items()):
            ours = tmp_path / str(index)
            ours.write_text(text)
            binds[ours] = path
        for wanting, unit in enabled.items():
            wants = tmp_path / f"{wanting}.wants"
            wants.mkdir()
            (wants / f"{unit}.service").symlink_to(f"../{unit}.service")
            binds[wants] = f"/etc/systemd/system/{wants.name}"
        return boot(binds)

    return boot_with


def test_an_outage_at_the_boot_holds_nothing_up(boot_with):
    machine = boot_with(
        {"/etc/taskbeat/taskbeat.toml": configuration("taskbeat", command="exec sleep 100000")},
        {"multi-user.target": "taskbeat"},
    )
    assert machine.show("taskbeat", "ActiveState") == "active"
    machine.wait_for("taskbeat", "StatusText", ".* failed, never acknowledged, .*")
    taskbeat = machine.main_pid("taskbeat")
    service = Service(machine.pid)
    try:
        service.hear("taskbeat")
        machine.wait_for("taskbeat", "StatusText", "acknowledged .*; runner pid .* up .*")
    finally:
        service.down()
    assert machine.main_pid("taskbeat") == taskbeat
    assert machine.restarts("taskbeat") == 0


def test_the_sidecar_comes_with_the_runner_s_unit_at_the_boot(boot_with):
    drop_ins = {"taskbeat-sidecar": "sidecar", "etl": "runner"}
    files = {
        f"/etc/systemd/system/{unit}.service.d/{name}.conf": (
            (UNITS / f"drop-ins/{name}.conf").read_text().replace("User=etl", f"User={USER}")
        )
        for unit, name in drop_ins.items()
    }
    files["/etc/systemd/system/etl.service"] = RUNNER
    files["/etc/taskbeat/sidecar.toml"] = configuration("sidecar", pid_file="/run/etl/pid", interval="1s")
    machine = boot_with(files, {"multi-user.target": "etl", "etl.service": "taskbeat-sidecar"})
    for unit in ("etl", "taskbeat-sidecar"):
        assert machine.show(unit, "ActiveState") == "active"
    sidecar = machine.main_pid("taskbeat-sidecar")
    service = Service(machine.pid)
    try:
        service.hear("sidecar")
        runner = machine.main_pid("etl")
        until(
            lambda: f"; runner pid {runner} up" in machine.show("taskbeat-sidecar", "StatusText"),
            "the sidecar follows the runner",
        )
    finally:
        service.down()
    assert machine.main_pid("taskbeat-sidecar") == sidecar
