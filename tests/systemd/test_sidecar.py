"""taskbeat-sidecar.service, as shipped, beside a runner that is somebody else's unit."""

import time

import pytest

from machine import UNITS, until

RUNNER = """
[Service]
User=etl
ExecStart=/bin/sh -c '{command}'
Restart={restart}
RestartSec={pause}
"""


@pytest.fixture
def runner(machine, configure):
    """Installs the unit of a runner, and the sidecar for it, by our example. Nothing of it is started."""

    def runner(command="exec sleep 100000", restart="on-failure", pause="0", **settings):
        unit = RUNNER.format(command=command, restart=restart, pause=pause)
        machine.write("/etc/systemd/system/etl.service", unit)
        machine.example("etl", "runner")
        configure("sidecar", pid_file="/run/etl/pid", interval="1s", jitter="0%", **settings)
        machine.example("taskbeat-sidecar", "sidecar")
        machine.systemctl("enable", "taskbeat-sidecar")

    return runner


def wait_until_attached(machine):
    """Waits until the sidecar beats for the process that etl.service has now, whose id it returns."""

    def attached():
        pid = machine.main_pid("etl")
        return pid and f"; runner pid {pid} up" in machine.show("taskbeat-sidecar", "StatusText") and pid

    return until(attached, "the sidecar follows the runner")


def sidecar_of(machine):
    """The id of the sidecar's process. systemd counts as restarts only those that it did by itself."""
    return machine.main_pid("taskbeat-sidecar")


@pytest.mark.parametrize("pause", ["0", "2s"])
def test_it_stays_when_the_runner_is_restarted(machine, service, runner, pause):
    runner(pause=pause)
    machine.systemctl("start", "etl")
    pid = wait_until_attached(machine)
    sidecar = sidecar_of(machine)
    for restart in (lambda: machine.kill("KILL", pid), lambda: machine.systemctl("restart", "etl")) * 2:
        service.hear("sidecar")
        restart()
        until(lambda: machine.main_pid("etl") not in (0, pid), "another runner")
        pid = wait_until_attached(machine)
        assert sidecar_of(machine) == sidecar


def test_it_starts_with_the_runner_s_unit_and_stops_after_it(machine, service, runner):
    drain = 'trap "while [ ! -e /run/drained ]; do sleep 0.1; done; exit 0" TERM; while :; do sleep 1; done'
    runner(command=drain)
    machine.systemctl("start", "etl")
    wait_until_attached(machine)
    sidecar = sidecar_of(machine)
    # While the runner drains it is alive, whether or not there is to be another one.
    for verb in ("restart", "stop"):
        machine.path("/run/drained").unlink(missing_ok=True)
        machine.systemctl(verb, "--no-block", "etl")
        machine.wait_for("etl", "ActiveState", "deactivating")
        service.hear("sidecar", more=3)
        assert machine.show("etl", "ActiveState") == "deactivating"
        assert sidecar_of(machine) == sidecar
        machine.write("/run/drained", "")
        if verb == "restart":
            # Until it has ended the old one is attached, too; and a stop during the start is another story.
            machine.wait_for("etl", "ActiveState", "active")
            wait_until_attached(machine)
            assert sidecar_of(machine) == sidecar
    for unit in ("etl", "taskbeat-sidecar"):
        machine.wait_for(unit, "ActiveState", "inactive")
        assert machine.show(unit, "Result") == "success"
    machine.systemctl("start", "etl")
    wait_until_attached(machine)


def test_without_the_runner_s_unit_it_is_not_needed(machine, service, runner):
    runner()
    machine.systemctl("start", "taskbeat-sidecar")
    machine.wait_for("taskbeat-sidecar", "ActiveState", "inactive")
    assert machine.show("taskbeat-sidecar", "Result") == "success"
    # As on a host whose runner has been there for long.
    machine.systemctl("disable", "taskbeat-sidecar")
    machine.systemctl("start", "etl")
    machine.systemctl("enable", "--now", "taskbeat-sidecar")
    wait_until_attached(machine)
    # A runner that is not to be restarted.
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
    # From outside of its sandbox.
    assert f"pid {pid}," in machine.run("taskbeat", "status", "--taskrunner-id", "sidecar")
    machine.systemctl("restart", "taskbeat-sidecar")
    assert wait_until_attached(machine) == pid
    machine.systemctl("stop", "taskbeat-sidecar")
    assert machine.show("taskbeat-sidecar", "ActiveState") == "inactive"
    assert machine.main_pid("etl") == pid


def test_the_runner_starts_even_if_the_sidecar_cannot(machine, runner):
    runner(grace="for ever")
    machine.systemctl("start", "etl")
    machine.wait_for("taskbeat-sidecar", "ActiveState", "failed")
    assert machine.show("taskbeat-sidecar", "ExecMainStatus") == "78"
    assert machine.show("etl", "ActiveState") == "active"


def test_terminate_stops_a_runner_of_the_same_user(machine, service, runner):
    runner(restart="no")
    terminate(machine, service)
    assert machine.show("etl", "Result") == "success"


def test_terminate_stops_a_runner_of_any_user_where_that_is_allowed(machine, service, runner):
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


def test_another_user_may_not_signal_the_runner_and_says_so(machine, service, runner):
    runner()
    machine.path("/etc/systemd/system/taskbeat-sidecar.service.d/sidecar.conf").unlink()
    machine.systemctl("daemon-reload")
    machine.systemctl("start", "etl")
    machine.ask("systemctl", "start", "taskbeat-sidecar")
    machine.wait_for("taskbeat-sidecar", "ActiveState", "failed")
    assert machine.show("taskbeat-sidecar", "ExecMainStatus") == "78"
    assert machine.show("etl", "ActiveState") == "active"


def test_terminate_stops_a_unit_that_always_restarts_whom_sigterm_ends(machine, service, runner):
    runner(restart="always")
    machine.example("etl", "runner", whole=True)
    terminate(machine, service)


@pytest.fixture
def kept_runner(machine, runner):
    """The runner of a unit that would start another one, if it was not stopped itself."""

    def kept_runner(command, restart):
        runner(command, restart, on_terminate="systemctl stop etl.service", grace="1h")
        machine.write("/etc/polkit-1/rules.d/50-etl.rules", (UNITS / "drop-ins/sidecar.rules").read_text())

    return kept_runner


@pytest.mark.parametrize(("status", "restart"), [(7, "on-failure"), (0, "always")])
def test_terminate_stops_a_unit_whatever_its_runner_ends_with(machine, service, kept_runner, status, restart):
    kept_runner(f'trap "exit {status}" TERM; while :; do sleep 0.1; done', restart)
    terminate(machine, service)
    assert machine.show("etl", "ExecMainStatus") == str(status)


def test_terminate_stops_a_stubborn_runner_by_its_unit(machine, service, kept_runner):
    kept_runner('trap "" TERM; while :; do sleep 100000; done', "always")
    # That unit kills it after a second, and would start it again if the sidecar did.
    machine.drop_in("etl", "impatient", "[Service]\nTimeoutStopSec=1s\n")
    terminate(machine, service)
    assert not [entry for entry in machine.journal("taskbeat-sidecar") if "SIGKILL" in entry["MESSAGE"]]


def terminate(machine, service):
    machine.systemctl("start", "etl")
    runner = wait_until_attached(machine)
    service.terminated.add("sidecar")
    machine.wait_for_end([runner])
    for unit in ("taskbeat-sidecar", "etl"):
        # One that is to be restarted is neither.
        machine.wait_for(unit, "SubState", "dead|failed")
    beats = service.count("sidecar")
    # It was to be restarted at once, or never.
    time.sleep(2)
    for unit in ("taskbeat-sidecar", "etl"):
        assert machine.show(unit, "SubState") in ("dead", "failed")
        assert machine.restarts(unit) == 0
    assert service.count("sidecar") == beats
    assert machine.show("taskbeat-sidecar", "Result") == "success"
