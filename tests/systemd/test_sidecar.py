"""taskbeat-sidecar.service, as shipped, beside a runner of another unit."""

import re
import time

import pytest

from machine import ROOT, UNITS, until

RUNNER = """
[Service]
User=etl
ExecStart=/bin/sh -c '{command}'
Restart={restart}
RestartSec={pause}
"""


@pytest.fixture
def runner(machine, configure):
    """Installs the unit of a runner and its sidecar, with the drop-ins, and starts neither."""

    def runner(command="exec sleep 100000", restart="on-failure", pause="0", **settings):
        unit = RUNNER.format(command=command, restart=restart, pause=pause)
        machine.write("/etc/systemd/system/etl.service", unit)
        machine.example("etl", "runner")
        configure("sidecar", pid_file="/run/etl/pid", interval="1s", jitter="0%", **settings)
        machine.example("taskbeat-sidecar", "sidecar")
        machine.systemctl("enable", "taskbeat-sidecar")

    return runner


def wait_until_attached(machine):
    """Waits until the sidecar follows the main process of etl.service, and returns its id."""

    def attached():
        pid = machine.main_pid("etl")
        return (
            pid
            and f"; runner pid {pid} up" in machine.show("taskbeat-sidecar", "StatusText")
            and pid
        )

    return until(attached, "the sidecar follows the runner")


def sidecar_of(machine):
    """The id of the sidecar's process. NRestarts would count only automatic restarts."""
    return machine.main_pid("taskbeat-sidecar")


@pytest.mark.parametrize("pause", ["0", "2s"])
def test_a_restart_of_the_runner_does_not_restart_the_sidecar(machine, service, runner, pause):
    runner(pause=pause)
    machine.systemctl("start", "etl")
    pid = wait_until_attached(machine)
    sidecar = sidecar_of(machine)
    for restart in (
        lambda: machine.kill("KILL", pid),
        lambda: machine.systemctl("restart", "etl"),
    ) * 2:
        service.wait_for_heartbeats("sidecar", service.count("sidecar") + 1)
        restart()
        until(lambda: machine.main_pid("etl") not in (0, pid), "another runner")
        pid = wait_until_attached(machine)
        assert sidecar_of(machine) == sidecar


def test_it_starts_with_the_unit_of_the_runner_and_stops_after_it(machine, service, runner):
    drain = "while [ ! -e /run/drained ]; do sleep 0.1; done; exit 0"
    runner(command=f'trap "{drain}" TERM; while :; do sleep 1; done')
    machine.systemctl("start", "etl")
    wait_until_attached(machine)
    sidecar = sidecar_of(machine)
    # While the runner drains, heartbeats go on, whether or not another runner follows.
    for verb in ("restart", "stop"):
        machine.path("/run/drained").unlink(missing_ok=True)
        machine.systemctl(verb, "--no-block", "etl")
        machine.wait_for("etl", "ActiveState", "deactivating")
        service.wait_for_heartbeats("sidecar", service.count("sidecar") + 3)
        assert machine.show("etl", "ActiveState") == "deactivating"
        assert sidecar_of(machine) == sidecar
        machine.write("/run/drained", "")
        if verb == "restart":
            # The sidecar follows the old runner until its end, so wait for the new one.
            machine.wait_for("etl", "ActiveState", "active")
            wait_until_attached(machine)
            assert sidecar_of(machine) == sidecar
    for unit in ("etl", "taskbeat-sidecar"):
        machine.wait_for(unit, "ActiveState", "inactive")
        assert machine.show(unit, "Result") == "success"
    machine.systemctl("start", "etl")
    wait_until_attached(machine)


def test_it_stops_without_the_unit_of_the_runner(machine, service, runner):
    runner()
    machine.systemctl("start", "taskbeat-sidecar")
    machine.wait_for("taskbeat-sidecar", "ActiveState", "inactive")
    assert machine.show("taskbeat-sidecar", "Result") == "success"
    # Enabled while the runner runs, which has written no pid file.
    machine.systemctl("disable", "taskbeat-sidecar")
    machine.path("/etc/systemd/system/etl.service.d/runner.conf").unlink()
    machine.systemctl("daemon-reload")
    machine.systemctl("start", "etl")
    machine.example("etl", "runner")
    page = (ROOT / "docs/sidecar.md").read_text()
    commands = re.findall(r"^.*/run/etl(?:/pid)?$", page, re.MULTILINE)
    assert len(commands) == 2
    machine.run("sh", "-ec", "\n".join(commands).replace("sudo ", ""))
    machine.systemctl("enable", "--now", "taskbeat-sidecar")
    assert wait_until_attached(machine) == machine.main_pid("etl")
    # A runner without a restart.
    machine.drop_in("etl", "once", "[Service]\nRestart=no\n")
    machine.kill("KILL", machine.main_pid("etl"))
    machine.wait_for("etl", "ActiveState", "failed")
    machine.wait_for("taskbeat-sidecar", "ActiveState", "inactive")
    assert machine.show("taskbeat-sidecar", "Result") == "success"


def test_the_runner_goes_on_without_it(machine, service, runner):
    runner()
    machine.systemctl("start", "etl")
    pid = wait_until_attached(machine)
    machine.systemctl("reload", "taskbeat-sidecar")
    machine.wait_for_log("taskbeat-sidecar", "^settings reloaded$")
    # From outside of the sandbox.
    assert f"pid {pid}," in machine.run("taskbeat", "status", "--taskrunner-id", "sidecar")
    machine.systemctl("restart", "taskbeat-sidecar")
    assert wait_until_attached(machine) == pid
    machine.systemctl("stop", "taskbeat-sidecar")
    assert machine.show("taskbeat-sidecar", "ActiveState") == "inactive"
    assert machine.main_pid("etl") == pid


def test_the_runner_starts_even_if_the_sidecar_fails(machine, runner):
    runner(grace="never")
    machine.systemctl("start", "etl")
    machine.wait_for("taskbeat-sidecar", "ActiveState", "failed")
    assert machine.show("taskbeat-sidecar", "ExecMainStatus") == "78"
    assert machine.show("etl", "ActiveState") == "active"


def test_terminate_stops_a_runner_of_the_same_user(machine, service, runner):
    runner(restart="no")
    terminate(machine, service)
    assert machine.show("etl", "Result") == "success"


def test_terminate_stops_a_runner_of_another_user_with_the_capability(machine, service, runner):
    runner()
    machine.path("/etc/systemd/system/taskbeat-sidecar.service.d/sidecar.conf").unlink()
    machine.example("taskbeat-sidecar", "sidecar-any-user")
    machine.systemctl("start", "etl", "taskbeat-sidecar")
    wait_until_attached(machine)
    users = {machine.user_of(machine.main_pid(unit)) for unit in ("etl", "taskbeat-sidecar")}
    assert len(users) == 2 and 0 not in users
    service.terminated.add("sidecar")
    for unit in ("etl", "taskbeat-sidecar"):
        machine.wait_for(unit, "ActiveState", "inactive")


def test_a_sidecar_that_may_not_signal_the_runner_waits_and_says_why(machine, service, runner):
    runner()
    machine.path("/etc/systemd/system/taskbeat-sidecar.service.d/sidecar.conf").unlink()
    machine.systemctl("daemon-reload")
    machine.systemctl("start", "etl")
    machine.systemctl("start", "taskbeat-sidecar")
    machine.wait_for_log("taskbeat-sidecar", "of another user, which taskbeat may not signal$")
    assert machine.show("taskbeat-sidecar", "ActiveState") == "active"
    assert machine.show("taskbeat-sidecar", "StatusText") == "waiting for the runner"
    assert service.count("sidecar") == 0
    assert machine.show("etl", "ActiveState") == "active"


def test_terminate_stops_a_unit_that_always_restarts(machine, service, runner):
    runner(restart="always")
    machine.example("etl", "runner", whole=True)
    terminate(machine, service)


@pytest.fixture
def kept_runner(machine, runner):
    """A runner whose unit restarts it, unless the unit itself is stopped."""

    def kept_runner(command, restart):
        runner(command, restart, on_terminate="systemctl stop etl.service", grace="1h")
        machine.write(
            "/etc/polkit-1/rules.d/50-etl.rules", (UNITS / "drop-ins/sidecar.rules").read_text()
        )

    return kept_runner


@pytest.mark.parametrize(("status", "restart"), [(7, "on-failure"), (0, "always")])
def test_terminate_stops_a_unit_whatever_the_status_of_its_runner(
    machine, service, kept_runner, status, restart
):
    kept_runner(f'trap "exit {status}" TERM; while :; do sleep 0.1; done', restart)
    terminate(machine, service)
    assert machine.show("etl", "ExecMainStatus") == str(status)


def test_terminate_leaves_the_sigkill_to_the_unit_of_the_runner(machine, service, kept_runner):
    kept_runner('trap "" TERM; while :; do sleep 100000; done', "always")
    # The unit kills the runner after a second. If the sidecar killed it, the unit would restart it.
    machine.drop_in("etl", "impatient", "[Service]\nTimeoutStopSec=1s\n")
    terminate(machine, service)
    messages = [entry["MESSAGE"] for entry in machine.journal("taskbeat-sidecar")]
    assert not [message for message in messages if message.startswith("SIGKILL to ")]


def terminate(machine, service):
    machine.systemctl("start", "etl")
    runner = wait_until_attached(machine)
    service.terminated.add("sidecar")
    machine.wait_for_end([runner])
    for unit in ("taskbeat-sidecar", "etl"):
        # A unit that awaits its restart is neither.
        machine.wait_for(unit, "SubState", "dead|failed")
    heartbeats = service.count("sidecar")
    # A restart would come at once, so two seconds without it are enough.
    time.sleep(2)
    for unit in ("taskbeat-sidecar", "etl"):
        assert machine.show(unit, "SubState") in ("dead", "failed")
        assert machine.restarts(unit) == 0
    assert service.count("sidecar") == heartbeats
    assert machine.show("taskbeat-sidecar", "Result") == "success"
