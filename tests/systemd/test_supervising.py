"""taskbeat.service and taskbeat@.service, as shipped, under a real systemd."""

import json
import os
import platform
import re
import time

import pytest

from machine import ROOT, UNITS, Machine, until

# Ends at SIGTERM.
PLAIN = "exec sleep 100000"
# The number of mmap(2).
MMAP = {"x86_64": 9, "aarch64": 222}[platform.machine()]
# Has a worker, and drains until /run/drained exists.
SLOW = (
    "trap 'echo draining; while [ ! -e /run/drained ]; do sleep 0.1; done; exit 0' TERM; "
    "while :; do sleep 100000 & wait $!; done"
)


def runner_of(machine, unit):
    """The id of the runner, which is taskbeat's only child."""
    (runner,) = machine.run("pgrep", "--parent", str(machine.main_pid(unit))).split()
    return int(runner)


def test_enabled_and_started_it_sends_heartbeats(machine, service, configure):
    configure("taskbeat", command=PLAIN)
    machine.systemctl("enable", "--now", "taskbeat")
    runner = runner_of(machine, "taskbeat")
    machine.wait_for(
        "taskbeat",
        "StatusText",
        "acknowledged less than 1 min ago, next in 1[345] min; "
        f"runner pid {runner} up less than 1 min",
    )
    assert machine.user_of(runner) == machine.user_of(machine.main_pid("taskbeat")) != 0
    assert machine.show("taskbeat", "WatchdogUSec") == "2min"
    # From outside of the sandbox.
    status = machine.run("taskbeat", "status", "--taskrunner-id", "taskbeat")
    assert re.search(rf"^runner +pid {runner},", status, re.MULTILINE)
    # The SIGTERM of a stop is no failure.
    machine.systemctl("stop", "taskbeat")
    assert machine.show("taskbeat", "ActiveState") == "inactive"
    assert machine.show("taskbeat", "Result") == "success"
    machine.wait_for_end([runner])


def test_systemd_takes_all_values_of_the_units(machine):
    # systemd ignores a line that it does not know, with only a warning.
    expected = {
        "Type": "notify",
        "KillMode": "mixed",
        "Restart": "on-failure",
        "RestartUSec": "10s",
        "StartLimitIntervalUSec": "0",
        "RestartPreventExitStatus": "64 78",
        "SuccessExitStatus": "143",
        "RestartForceExitStatus": "143",
        "OOMPolicy": "continue",
    }
    for unit in ("taskbeat", "taskbeat@any", "taskbeat-sidecar"):
        assert {name: machine.show(unit, name) for name in expected} == expected
    assert "/usr/lib/systemd/system/taskbeat" not in machine.run(
        "journalctl", "--identifier=systemd"
    )


def probe(machine, configure, *commands):
    """The output of commands that run as the runner, in the sandbox."""
    configure(
        "taskbeat", command=f"({'; '.join(commands)}) 2>/dev/null >report; mv report done; {PLAIN}"
    )
    machine.systemctl("start", "taskbeat")
    return machine.wait_for_file("/var/lib/taskbeat/done").splitlines()


def test_the_sandbox_has_the_directory_of_the_runner_and_little_else(machine, service, configure):
    output = probe(
        machine,
        configure,
        "pwd",
        "touch here && chown $(id -u) here && echo a directory of its own",
        "touch /etc/there || touch /usr/there || touch /srv/there || echo no other directory",
        "ls /home >/dev/null || echo no homes",
        "ls /dev/sda /dev/vda || echo no disks",
        "unshare --map-root-user true || echo no namespace",
        "nice true && echo a priority",
        "cat /proc/meminfo >/dev/null && echo the size of memory",
        # As Java does. 7 is PROT_READ|PROT_WRITE|PROT_EXEC, 34 is MAP_PRIVATE|MAP_ANONYMOUS.
        f"perl -e 'exit syscall({MMAP}, 0, 4096, 7, 34, -1, 0) == -1' && echo run-time code",
    )
    assert output == [
        "/var/lib/private/taskbeat",
        "a directory of its own",
        "no other directory",
        "no homes",
        "no disks",
        "no namespace",
        "a priority",
        "the size of memory",
        "run-time code",
    ]


def test_drop_ins_lift_the_restrictions(machine, service, configure):
    machine.run("install", "--directory", "--owner=etl", "/srv/etl")
    machine.example("taskbeat", "user")
    machine.example("taskbeat", "freedom", whole=True)
    output = probe(
        machine,
        configure,
        "touch /srv/etl/there && echo another directory",
        "ls /home >/dev/null && echo homes",
        "touch /tmp/there && echo a temporary file",
        "unshare --map-root-user --mount mount -t tmpfs none /mnt && echo a mount",
    )
    assert output == ["another directory", "homes", "a temporary file", "a mount"]
    assert machine.path("/tmp/there").exists()


def test_the_runner_has_the_user_of_the_drop_in(machine, service, configure):
    configure("taskbeat", command=PLAIN)
    machine.example("taskbeat", "user")
    machine.systemctl("start", "taskbeat")
    assert machine.user_of(runner_of(machine, "taskbeat")) == int(machine.run("id", "-u", "etl"))


def test_the_alert_of_the_docs_names_failed_runs_and_no_others(machine, service, configure):
    # Fails once, and then runs.
    configure("taskbeat", command=f"[ -e failed ] || {{ touch failed; exit 3; }}; {PLAIN}")
    machine.drop_in("taskbeat", "soon", "[Service]\nRestartSec=100ms\n")
    page = (ROOT / "docs/operations.md").read_text()
    (commands,) = (
        block
        for block in re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
        if "ExecStopPost=" in block
    )
    machine.run("sh", "-ec", commands.replace("sudo ", ""))
    machine.attempt("systemctl", "start", "taskbeat")
    service.wait_for_heartbeats("taskbeat")
    machine.systemctl("stop", "taskbeat")
    machine.run("journalctl", "--sync")
    alerts = machine.journal("taskbeat", "--priority=alert")
    assert [alert["MESSAGE"] for alert in alerts] == ["taskbeat.service failed: exited 3"]


def test_a_stop_takes_as_long_as_the_runner_and_heartbeats_go_on(machine, service, configure):
    configure("taskbeat", command=SLOW, interval="1s", jitter="0%", grace="1h")
    machine.drop_in("taskbeat", "impatient", "[Service]\nTimeoutStopSec=3s\n")
    machine.systemctl("start", "taskbeat")
    service.wait_for_heartbeats("taskbeat")
    machine.systemctl("stop", "--no-block", "taskbeat")
    machine.wait_for_log("taskbeat", "^draining$")
    # Twice TimeoutStopSec.
    service.wait_for_heartbeats("taskbeat", service.count("taskbeat") + 7)
    assert machine.show("taskbeat", "ActiveState") == "deactivating"
    assert machine.show("taskbeat", "StatusText").startswith("stopping the runner: ")
    machine.write("/run/drained", "")
    machine.wait_for("taskbeat", "ActiveState", "inactive")
    assert machine.show("taskbeat", "Result") == "success"


def test_a_reload_does_not_touch_the_runner(machine, service, configure):
    configure("taskbeat", command=PLAIN)
    machine.systemctl("start", "taskbeat")
    runner = runner_of(machine, "taskbeat")
    for settings, line in [
        ({"interval": "1s"}, "^settings reloaded$"),
        (
            {"interval": "1s", "worker_group": "other"},
            "^reload refused, nothing changed: .* needs a restart$",
        ),
    ]:
        configure("taskbeat", command=PLAIN, **settings)
        machine.systemctl("reload", "taskbeat")
        machine.wait_for_log("taskbeat", line)
        assert machine.show("taskbeat", "ActiveState") == "active"
        assert runner_of(machine, "taskbeat") == runner
    # The settings of the valid reload are still in force.
    service.wait_for_heartbeats("taskbeat", service.count("taskbeat") + 3)


def test_a_reload_of_a_broken_file_fails_and_says_why(machine, service, configure):
    configure("taskbeat", command=PLAIN, interval="1s")
    machine.systemctl("start", "taskbeat")
    runner = runner_of(machine, "taskbeat")
    configure("taskbeat", command=PLAIN, interval="soon", grace="later")
    reload = machine.attempt("systemctl", "reload", "taskbeat")
    assert reload.returncode != 0
    expected = [
        'interval = "soon" (file /etc/taskbeat/taskbeat.toml:4): '
        "must be 10ms to 15m, such as 15m, 90s or 250ms",
        'grace = "later" (file /etc/taskbeat/taskbeat.toml:5): '
        "must be 0s to 24h, such as 2m, 30s or 500ms",
    ]
    # The journal has them as errors, and `systemctl status` shows them.
    machine.wait_for_log("taskbeat", '^grace = "later"')
    errors = machine.journal("taskbeat", "--priority=err")
    assert [entry["MESSAGE"] for entry in errors] == expected
    status = machine.attempt("systemctl", "status", "--full", "--no-pager", "taskbeat").stdout
    assert all(line in status for line in expected), status
    # The runner and the old settings are as before.
    assert machine.show("taskbeat", "ActiveState") == "active"
    assert runner_of(machine, "taskbeat") == runner
    service.wait_for_heartbeats("taskbeat", service.count("taskbeat") + 3)
    # A repaired file is taken again, without a word of the check.
    configure("taskbeat", command=PLAIN, interval="2s")
    machine.systemctl("reload", "taskbeat")
    machine.wait_for_log("taskbeat", "^settings reloaded$")
    assert len(machine.journal("taskbeat", "--priority=err")) == 2
    messages = [entry["MESSAGE"] for entry in machine.journal("taskbeat")]
    assert not [message for message in messages if message.startswith("taskrunner-id ")]


def test_a_runner_that_crashes_is_restarted_without_limit(machine, service, configure):
    configure("taskbeat", command="echo crashing; exit 3")
    # Ten seconds are too long for a test. All else is as shipped.
    machine.drop_in("taskbeat", "hurry", "[Service]\nRestartSec=50ms\n")
    machine.systemctl("start", "taskbeat")
    # The default limit of systemd is five starts in ten seconds.
    machine.wait_for_log("taskbeat", "^crashing$", count=8)
    assert machine.show("taskbeat", "ActiveState") != "failed"
    assert machine.show("taskbeat", "ExecMainStatus") in ("0", "3")


def test_restarts_slow_down_to_one_an_interval(machine, service, configure):
    if machine.systemd_version() < 254:
        pytest.skip("RestartSteps= is new in systemd 254")
    configure("taskbeat", command="exit 3")
    machine.example("taskbeat", "restarts")
    # With the shipped 10 s the second restart would take 95 s.
    machine.drop_in("taskbeat", "zz-hurry", "[Service]\nRestartSec=1ms\n")
    machine.systemctl("start", "taskbeat")
    machine.wait_for("taskbeat", "RestartUSecNext", "15min")
    assert machine.restarts("taskbeat") == 2


def test_only_systemctl_stop_makes_sigterm_the_end(machine, service, configure):
    configure("taskbeat", command=PLAIN)
    machine.drop_in("taskbeat", "hurry", "[Service]\nRestartSec=0\n")
    machine.systemctl("start", "taskbeat")
    for restarts, process in enumerate((runner_of, Machine.main_pid), start=1):
        taskbeat = machine.main_pid("taskbeat")
        machine.kill("TERM", process(machine, "taskbeat"))
        until(lambda: machine.main_pid("taskbeat") not in (0, taskbeat), "another taskbeat")
        machine.wait_for("taskbeat", "ActiveState", "active")
        machine.wait_for_log("taskbeat", "^exit status=143$", count=restarts)
        assert machine.restarts("taskbeat") == restarts
    machine.systemctl("stop", "taskbeat")
    machine.wait_for_log("taskbeat", "^exit status=143$", count=3)
    # A unit that awaits its restart is `activating`.
    assert machine.show("taskbeat", "ActiveState") == "inactive"
    assert machine.show("taskbeat", "Result") == "success"


@pytest.mark.parametrize("status", [64, 78])
def test_a_runner_with_the_status_of_a_usage_error_is_not_restarted(
    machine, service, configure, status
):
    configure("taskbeat", command=f"exit {status}")
    machine.drop_in("taskbeat", "hurry", "[Service]\nRestartSec=0\n")
    machine.systemctl("start", "taskbeat")
    machine.wait_for("taskbeat", "ActiveState", "failed")
    assert machine.show("taskbeat", "ExecMainStatus") == str(status)
    assert machine.restarts("taskbeat") == 0


def test_an_invalid_configuration_is_not_restarted(machine, configure):
    configure("taskbeat", command=PLAIN, interval="3h")
    machine.drop_in("taskbeat", "hurry", "[Service]\nRestartSec=0\n")
    assert machine.attempt("systemctl", "start", "taskbeat").returncode != 0
    machine.wait_for("taskbeat", "ActiveState", "failed")
    assert machine.show("taskbeat", "ExecMainStatus") == "78"
    assert machine.restarts("taskbeat") == 0


def test_when_taskbeat_is_killed_all_of_the_runner_ends_and_is_restarted(
    machine, service, configure
):
    configure("taskbeat", command="setsid sleep 100000 & exec sleep 100000")
    machine.drop_in("taskbeat", "hurry", "[Service]\nRestartSec=0\n")
    machine.systemctl("start", "taskbeat")
    service.wait_for_heartbeats("taskbeat")
    taskbeat = machine.main_pid("taskbeat")
    until(lambda: len(machine.processes("taskbeat")) == 3, "the runner's worker")
    old = machine.processes("taskbeat")
    before = service.count("taskbeat")
    machine.kill("KILL", taskbeat)
    service.wait_for_heartbeats("taskbeat", before + 1)
    machine.wait_for_end(old)
    machine.wait_for("taskbeat", "ActiveState", "active")
    assert machine.restarts("taskbeat") == 1


def test_a_killed_worker_ends_neither_the_runner_nor_the_unit(machine, service, configure):
    # SIGKILL, as when the kernel is out of memory.
    configure(
        "taskbeat",
        command="sh -c 'exec sleep 200000'; echo the worker ended: $?; exec sleep 100000",
    )
    machine.systemctl("start", "taskbeat")
    worker = until(
        lambda: machine.attempt("pgrep", "--full", "^sleep 200000$").stdout, "the worker"
    )
    machine.kill("KILL", int(worker))
    machine.wait_for_log("taskbeat", "^the worker ended: 137$")
    assert machine.show("taskbeat", "ActiveState") == "active"
    assert machine.restarts("taskbeat") == 0


def test_after_terminate_nothing_is_restarted(machine, service, configure):
    configure("taskbeat", command=PLAIN, interval="1s")
    machine.drop_in("taskbeat", "hurry", "[Service]\nRestartSec=0\n")
    machine.systemctl("start", "taskbeat")
    runner = runner_of(machine, "taskbeat")
    service.terminated.add("taskbeat")
    # A unit that awaits its restart is `activating`, never `inactive`.
    machine.wait_for("taskbeat", "ActiveState", "inactive")
    assert machine.show("taskbeat", "Result") == "success"
    assert machine.restarts("taskbeat") == 0
    machine.wait_for_end([runner])
    machine.wait_for_log("taskbeat", "^heartbeat acknowledged: terminate")
    machine.wait_for_log("taskbeat", "^exit status=0$")


def test_an_idle_taskbeat_stays_until_it_is_stopped(machine, service, configure):
    # The drain takes twice TimeoutStopSec, and the wait after it does, too.
    drain = "trap 'sleep 4; exit 0' TERM; while :; do sleep 0.1; done"
    configure("taskbeat", command=drain, interval="1s", after_terminate="idle")
    machine.drop_in("taskbeat", "hurry", "[Service]\nTimeoutStopSec=2s\nRestartSec=0\n")
    machine.systemctl("start", "taskbeat")
    taskbeat, runner = machine.main_pid("taskbeat"), runner_of(machine, "taskbeat")
    service.wait_for_heartbeats("taskbeat")
    service.terminated.add("taskbeat")
    machine.wait_for_end([runner])
    machine.wait_for("taskbeat", "StatusText", "idle after terminate; .*")
    enough = time.monotonic() + 4
    while time.monotonic() < enough:
        assert machine.show("taskbeat", "ActiveState") == "active"
    assert machine.main_pid("taskbeat") == taskbeat
    machine.systemctl("stop", "taskbeat")
    assert machine.show("taskbeat", "ActiveState") == "inactive"
    assert machine.show("taskbeat", "Result") == "success"


def test_terminate_may_take_longer_than_the_stop_timeout(machine, service, configure):
    configure("taskbeat", command=SLOW, interval="1s", grace="1h", on_terminate="sleep 4")
    machine.drop_in("taskbeat", "impatient", "[Service]\nTimeoutStopSec=2s\nRestartSec=0\n")
    machine.systemctl("start", "taskbeat")
    runner = runner_of(machine, "taskbeat")
    service.terminated.add("taskbeat")
    machine.wait_for_log("taskbeat", "^on-terminate started")
    assert machine.show("taskbeat", "ActiveState") == "deactivating"
    machine.wait_for_log("taskbeat", "^draining$")
    # Twice TimeoutStopSec once more.
    time.sleep(4)
    assert runner_of(machine, "taskbeat") == runner
    machine.write("/run/drained", "")
    machine.wait_for("taskbeat", "ActiveState", "inactive")
    assert machine.show("taskbeat", "Result") == "success"
    assert machine.restarts("taskbeat") == 0


WATCHDOG = 4


def watched(machine, configure):
    """Starts the unit with a shorter WatchdogSec, and returns its processes."""
    configure("taskbeat", command=PLAIN)
    machine.drop_in("taskbeat", "hurry", f"[Service]\nWatchdogSec={WATCHDOG}\nRestartSec=0\n")
    machine.systemctl("start", "taskbeat")
    return machine.processes("taskbeat")


def wait_for_keep_alives(machine):
    """Waits until the keep-alives have gone on for twice WatchdogSec."""

    def kept_alive():
        return int(machine.show("taskbeat", "WatchdogTimestampMonotonic"))

    enough = kept_alive() + 2 * WATCHDOG * 1_000_000
    until(lambda: kept_alive() > enough, "twice WatchdogSec without a restart")


def test_a_stopped_taskbeat_is_replaced(machine, service, configure):
    old = watched(machine, configure)
    machine.kill("STOP", machine.main_pid("taskbeat"))
    machine.wait_for_end(old)
    machine.wait_for("taskbeat", "ActiveState", "active")
    assert "watchdog" in machine.run("journalctl", "--identifier=systemd", "--unit=taskbeat")


def test_a_configuration_that_is_a_fifo_blocks_nothing(machine, service, configure):
    watched(machine, configure)
    taskbeat = machine.main_pid("taskbeat")
    file = machine.path("/etc/taskbeat/taskbeat.toml")
    file.unlink()
    os.mkfifo(file)
    # systemctl's own check refuses it. SIGHUP alone leaves it to taskbeat.
    assert machine.attempt("systemctl", "reload", "taskbeat").returncode != 0
    machine.wait_for_log("taskbeat", "^config = .*: it is a FIFO$")
    machine.kill("HUP", taskbeat)
    machine.wait_for_log("taskbeat", "^reload refused, nothing changed: .*/taskbeat.toml")
    wait_for_keep_alives(machine)
    assert machine.main_pid("taskbeat") == taskbeat


def test_a_long_backoff_does_not_trigger_the_watchdog(machine, service, configure):
    service.refused["taskbeat"] = "ThrottlingException"
    watched(machine, configure)
    # A wait of minutes, without any other event.
    machine.wait_for_log("taskbeat", "^heartbeat failed, next in [0-9]+m")
    wait_for_keep_alives(machine)
    assert machine.restarts("taskbeat") == 0


def test_warnings_and_errors_have_their_priority_in_the_journal(machine, service, configure):
    service.refused["taskbeat"] = "AccessDeniedException"
    configure("taskbeat", command="echo hello; " + PLAIN)
    machine.systemctl("start", "taskbeat")
    machine.wait_for_log("taskbeat", "^heartbeat failed")
    configure("taskbeat", command=PLAIN, worker_group="other")
    machine.systemctl("reload", "taskbeat")
    machine.wait_for_log("taskbeat", "^reload refused")
    serious = machine.journal("taskbeat", "--priority=warning")
    assert [entry["PRIORITY"] for entry in serious] == ["4", "3"]
    assert serious[0]["MESSAGE"].startswith("heartbeat failed, next in ")
    assert serious[1]["MESSAGE"].startswith("reload refused, ")
    messages = [entry["MESSAGE"] for entry in machine.journal("taskbeat")]
    # The runner's output does not wait for the log, which has a thread of its own.
    messages.remove("hello")
    # Without time and level, which the journal has as fields.
    assert messages[0].startswith("taskbeat starts version=")


def test_lines_of_the_json_format_have_their_priority_in_the_journal(machine, service, configure):
    service.refused["taskbeat"] = "AccessDeniedException"
    configure("taskbeat", command=PLAIN, log_format="json")
    machine.systemctl("start", "taskbeat")
    machine.wait_for_log("taskbeat", '"message":"heartbeat failed')
    entries = machine.journal("taskbeat")
    lines = [json.loads(entry["MESSAGE"]) for entry in entries]
    priorities = {"INFO": "6", "WARN": "4"}
    assert [priorities[line["level"]] for line in lines] == [
        entry["PRIORITY"] for entry in entries
    ]
    assert {line["level"] for line in lines} == set(priorities)


def test_a_runner_that_cannot_be_executed_fails_the_start(machine, service, configure):
    configure("taskbeat", command="exec /opt/etl/no-such-runner")
    start = machine.attempt("systemctl", "enable", "--now", "taskbeat")
    assert start.returncode != 0, start
    messages = [entry["MESSAGE"] for entry in machine.journal("taskbeat")]
    assert any("no-such-runner: not found" in message for message in messages), messages


def test_instances_are_independent(machine, service, configure):
    for name in ("etl-1", "etl-2"):
        configure(name, command=PLAIN, interval="1s")
    machine.systemctl("enable", "--now", "taskbeat@etl-1", "taskbeat@etl-2")
    service.wait_for_heartbeats("etl-1")
    service.wait_for_heartbeats("etl-2")
    users = {machine.user_of(machine.main_pid(f"taskbeat@{name}")) for name in ("etl-1", "etl-2")}
    assert len(users) == 2 and 0 not in users
    service.terminated.add("etl-1")
    machine.wait_for("taskbeat@etl-1", "ActiveState", "inactive")
    service.wait_for_heartbeats("etl-2", service.count("etl-2") + 2)
    assert machine.show("taskbeat@etl-2", "ActiveState") == "active"
    assert machine.path("/var/lib/private/taskbeat-etl-2").is_dir()


@pytest.mark.parametrize("name", ["etl.4", "n" * 23])
def test_an_instance_whose_name_is_no_part_of_a_user_name_is_refused(machine, configure, name):
    configure(name, command=PLAIN)
    done = machine.attempt("systemctl", "start", f"taskbeat@{name}")
    assert (done.returncode, "dependency job" in done.stderr) == (1, True), done
    entries = machine.run("journalctl", "--output=cat", f"UNIT=taskbeat-name@{name}.service")
    assert f"the name {name}: at most 22 letters, digits, _ and -" in entries
    # systemd does not try again.
    assert machine.show(f"taskbeat@{name}", "SubState") == "dead"


def test_an_instance_may_have_22_letters_digits_and_dashes(machine, service, configure):
    name = "An_instance-with-22-ch"
    configure(name, command=PLAIN)
    machine.systemctl("start", f"taskbeat@{name}")
    service.wait_for_heartbeats(name)


def test_a_credentials_file_that_only_root_can_read(machine, service, configure):
    def write(key):
        text = f"[default]\naws_access_key_id = {key}\naws_secret_access_key = any\n"
        machine.write("/etc/taskbeat/credentials", text)
        machine.path("/etc/taskbeat/credentials").chmod(0o600)

    machine.systemctl("unset-environment", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    write("AKIDFROMFILE")
    configure("taskbeat", command=PLAIN, interval="1s")
    machine.example("taskbeat", "credentials")
    machine.systemctl("start", "taskbeat")
    service.wait_for_heartbeats("taskbeat")
    assert {heartbeat.key for heartbeat in service.heartbeats} == {"AKIDFROMFILE"}
    # systemd copies the file at each start. At a reload, 252 does, too, but 257 does not.
    write("AKIDROTATED")
    machine.systemctl("restart", "taskbeat")
    until(lambda: service.heartbeats[-1].key == "AKIDROTATED", "a heartbeat with the new key")


def test_an_outage_does_not_delay_the_start(machine, service, configure):
    service.down()
    configure("taskbeat", command=PLAIN)
    machine.systemctl("start", "taskbeat")
    runner = runner_of(machine, "taskbeat")
    machine.wait_for("taskbeat", "StatusText", ".* failed, never acknowledged, .*")
    service.up()
    machine.wait_for("taskbeat", "StatusText", f"acknowledged .*; runner pid {runner} up .*")
    assert machine.restarts("taskbeat") == 0


def test_missing_metadata_do_not_delay_the_start(machine, service, configure):
    machine.systemctl("set-environment", "AWS_EC2_METADATA_DISABLED=false")
    machine.systemctl("set-environment", "AWS_EC2_METADATA_SERVICE_ENDPOINT=http://127.0.0.1:9")
    configure("taskbeat", command=PLAIN, hostname="{public-hostname}")
    machine.systemctl("start", "taskbeat")
    runner_of(machine, "taskbeat")
    machine.wait_for("taskbeat", "StatusText", ".* failed, never acknowledged, .*public-hostname.*")
    assert service.heartbeats == []


def test_the_exposure_is_low(machine):
    for unit, limit in [("taskbeat", 15), ("taskbeat@any", 15), ("taskbeat-sidecar", 12)]:
        machine.run(
            "systemd-analyze",
            "security",
            "--offline=true",
            f"--threshold={limit}",
            f"{unit}.service",
        )


def test_the_examples_are_understood(machine):
    # The drop-ins of the sidecar name this unit.
    machine.write("/etc/systemd/system/etl.service", "[Service]\nExecStart=/bin/true\n")
    examples = set(UNITS.glob("drop-ins/*.conf"))
    if machine.systemd_version() < 254:
        # Its comment says that it needs 254.
        examples.remove(UNITS / "drop-ins/restarts.conf")
    for example in examples:
        name = example.stem.split("-")[0]
        unit = {"sidecar": "taskbeat-sidecar", "runner": "etl"}.get(name, "taskbeat")
        machine.example(unit, example.stem, whole=True)
        done = machine.attempt("systemd-analyze", "verify", "--man=no", f"{unit}.service")
        assert (done.returncode, done.stderr) == (0, ""), example
        machine.path(f"/etc/systemd/system/{unit}.service.d/{example.name}").unlink()
