"""taskbeat.service and taskbeat@.service, as shipped, under a real systemd."""

import os
import platform
import re
import time

from machine import UNITS, until

# It ends at once when it is told to.
PLAIN = "exec sleep 100000"
# mmap(2), by its number.
MMAP = {"x86_64": 9, "aarch64": 222}[platform.machine()]
# It has a worker, and drains until there is /run/drained.
SLOW = (
    "trap 'echo draining; while [ ! -e /run/drained ]; do sleep 0.1; done; exit 0' TERM; "
    "while :; do sleep 100000 & wait $!; done"
)


def runner_of(machine, unit):
    """The id of the runner's process, the only child of taskbeat."""
    (runner,) = machine.run("pgrep", "--parent", str(machine.main_pid(unit))).split()
    return int(runner)


def test_enabled_and_started_it_beats_and_says_so(machine, service, configure):
    configure("taskbeat", command=PLAIN)
    machine.systemctl("enable", "--now", "taskbeat")
    runner = runner_of(machine, "taskbeat")
    machine.wait_for(
        "taskbeat",
        "StatusText",
        f"acknowledged less than 1 min ago, next in 1[345] min; runner pid {runner} up less than 1 min",
    )
    assert machine.user_of(runner) == machine.user_of(machine.main_pid("taskbeat")) != 0
    assert machine.show("taskbeat", "WatchdogUSec") == "2min"
    # From outside of its sandbox.
    status = machine.run("taskbeat", "status", "--taskrunner-id", "taskbeat")
    assert re.search(rf"^runner +pid {runner},", status, re.MULTILINE)
    # Being stopped by SIGTERM is what was wanted.
    machine.systemctl("stop", "taskbeat")
    assert machine.show("taskbeat", "ActiveState") == "inactive"
    assert machine.show("taskbeat", "Result") == "success"
    machine.wait_for_end([runner])


def test_the_values_that_systemd_took_are_those_of_the_unit(machine):
    # A line that this systemd does not know would be left out, with nothing but a warning.
    expected = {
        "Type": "notify",
        "KillMode": "mixed",
        "Restart": "on-failure",
        "RestartUSec": "10s",
        "StartLimitIntervalUSec": "0",
        "RestartPreventExitStatus": "64 78",
        "SuccessExitStatus": "143",
        "OOMPolicy": "continue",
    }
    for unit in ("taskbeat", "taskbeat@any", "taskbeat-sidecar"):
        assert {name: machine.show(unit, name) for name in expected} == expected
    assert "/usr/lib/systemd/system/taskbeat" not in machine.run("journalctl", "--identifier=systemd")


def probe(machine, configure, *commands):
    """What commands print, when they are a runner in the sandbox."""
    configure("taskbeat", command=f"({'; '.join(commands)}) 2>/dev/null >report; mv report done; {PLAIN}")
    machine.systemctl("start", "taskbeat")
    return machine.wait_for_file("/var/lib/taskbeat/done").splitlines()


def test_a_runner_finds_its_directory_and_little_else(machine, service, configure):
    said = probe(
        machine,
        configure,
        "pwd",
        "touch here && chown $(id -u) here && echo a directory of its own",
        "touch /etc/there || touch /usr/there || touch /srv/there || echo no other directory",
        "ls /home >/dev/null || echo no homes",
        "ls /dev/sda /dev/vda || echo no disks",
        "unshare --map-root-user true || echo no namespace",
        "nice true && echo a priority",
        "cat /proc/meminfo >/dev/null && echo what memory there is",
        # As Java does. The 7 is for reading, writing and executing, the 34 for memory of its own.
        f"perl -e 'exit syscall({MMAP}, 0, 4096, 7, 34, -1, 0) == -1' && echo code that it writes itself",
    )
    assert said == [
        "/var/lib/private/taskbeat",
        "a directory of its own",
        "no other directory",
        "no homes",
        "no disks",
        "no namespace",
        "a priority",
        "what memory there is",
        "code that it writes itself",
    ]


def test_a_runner_that_needs_more_gets_it(machine, service, configure):
    machine.run("install", "--directory", "--owner=etl", "/srv/etl")
    machine.example("taskbeat", "user")
    machine.example("taskbeat", "freedom", whole=True)
    said = probe(
        machine,
        configure,
        "touch /srv/etl/there && echo another directory",
        "ls /home >/dev/null && echo homes",
        "touch /tmp/there && echo a temporary file",
        "unshare --map-root-user --mount mount -t tmpfs none /mnt && echo a mount",
    )
    assert said == ["another directory", "homes", "a temporary file", "a mount"]
    assert machine.path("/tmp/there").exists()


def test_a_user_of_its_own(machine, service, configure):
    configure("taskbeat", command=PLAIN)
    machine.example("taskbeat", "user")
    machine.systemctl("start", "taskbeat")
    assert machine.user_of(runner_of(machine, "taskbeat")) == int(machine.run("id", "-u", "etl"))


def test_a_stop_takes_as_long_as_the_runner_and_it_is_no_dead_one_meanwhile(machine, service, configure):
    configure("taskbeat", command=SLOW, interval="1s", jitter="0%", grace="1h")
    machine.drop_in("taskbeat", "impatient", "[Service]\nTimeoutStopSec=3s\n")
    machine.systemctl("start", "taskbeat")
    service.hear("taskbeat")
    machine.systemctl("stop", "--no-block", "taskbeat")
    machine.wait_for_log("taskbeat", "^draining$")
    # That is twice as long as systemd would have waited.
    service.hear("taskbeat", more=7)
    assert machine.show("taskbeat", "ActiveState") == "deactivating"
    assert machine.show("taskbeat", "StatusText").startswith("stopping the runner: ")
    machine.write("/run/drained", "")
    machine.wait_for("taskbeat", "ActiveState", "inactive")
    assert machine.show("taskbeat", "Result") == "success"


def test_a_reload_good_or_bad_leaves_the_runner_alone(machine, service, configure):
    configure("taskbeat", command=PLAIN)
    machine.systemctl("start", "taskbeat")
    runner = runner_of(machine, "taskbeat")
    for settings, said in [
        ({"interval": "1s"}, "^settings reloaded$"),
        ({"interval": "soon"}, "^reload refused, nothing changed: .*interval.*soon"),
        ({"interval": "1s", "worker_group": "other"}, "^reload refused, nothing changed: .* needs a restart$"),
    ]:
        configure("taskbeat", command=PLAIN, **settings)
        machine.systemctl("reload", "taskbeat")
        machine.wait_for_log("taskbeat", said)
        assert machine.show("taskbeat", "ActiveState") == "active"
        assert runner_of(machine, "taskbeat") == runner
    # The one that was taken is still in force.
    service.hear("taskbeat", more=3)


def test_a_runner_that_crashes_is_restarted_for_ever(machine, service, configure):
    configure("taskbeat", command="echo crashing; exit 3")
    # So that not all of ten seconds are waited for; the rest is as shipped.
    machine.drop_in("taskbeat", "hurry", "[Service]\nRestartSec=50ms\n")
    machine.systemctl("start", "taskbeat")
    # systemd's own limit is five starts within ten seconds.
    machine.wait_for_log("taskbeat", "^crashing$", count=8)
    assert machine.show("taskbeat", "ActiveState") != "failed"
    assert machine.show("taskbeat", "ExecMainStatus") in ("0", "3")


def test_a_wrong_configuration_is_not_tried_again(machine, configure):
    configure("taskbeat", command=PLAIN, interval="3h")
    machine.drop_in("taskbeat", "hurry", "[Service]\nRestartSec=0\n")
    assert machine.ask("systemctl", "start", "taskbeat").returncode != 0
    machine.wait_for("taskbeat", "ActiveState", "failed")
    assert machine.show("taskbeat", "ExecMainStatus") == "78"
    assert machine.restarts("taskbeat") == 0


def test_when_taskbeat_is_killed_nothing_of_the_runner_is_left_and_all_is_restarted(machine, service, configure):
    configure("taskbeat", command="setsid sleep 100000 & exec sleep 100000")
    machine.drop_in("taskbeat", "hurry", "[Service]\nRestartSec=0\n")
    machine.systemctl("start", "taskbeat")
    service.hear("taskbeat")
    taskbeat = machine.main_pid("taskbeat")
    until(lambda: len(machine.processes("taskbeat")) == 3, "the runner's worker")
    old = machine.processes("taskbeat")
    machine.kill("KILL", taskbeat)
    service.hear("taskbeat")
    machine.wait_for_end(old)
    machine.wait_for("taskbeat", "ActiveState", "active")
    assert machine.restarts("taskbeat") == 1


def test_a_worker_that_is_killed_is_the_runner_s_business(machine, service, configure):
    # As the kernel kills who has no memory left.
    configure("taskbeat", command="sh -c 'exec sleep 200000'; echo the worker ended: $?; exec sleep 100000")
    machine.systemctl("start", "taskbeat")
    worker = until(lambda: machine.ask("pgrep", "--full", "^sleep 200000$").stdout, "the worker")
    machine.kill("KILL", int(worker))
    machine.wait_for_log("taskbeat", "^the worker ended: 137$")
    assert machine.show("taskbeat", "ActiveState") == "active"
    assert machine.restarts("taskbeat") == 0


def test_terminate_is_for_good(machine, service, configure):
    configure("taskbeat", command=PLAIN, interval="1s")
    machine.drop_in("taskbeat", "hurry", "[Service]\nRestartSec=0\n")
    machine.systemctl("start", "taskbeat")
    runner = runner_of(machine, "taskbeat")
    service.terminated.add("taskbeat")
    # One that is to be restarted is `activating`, never `inactive`.
    machine.wait_for("taskbeat", "ActiveState", "inactive")
    assert machine.show("taskbeat", "Result") == "success"
    assert machine.restarts("taskbeat") == 0
    machine.wait_for_end([runner])
    machine.wait_for_log("taskbeat", "^heartbeat acknowledged: terminate")
    machine.wait_for_log("taskbeat", "^exit status=0$")


def test_one_that_idles_after_terminate_stays_until_it_is_stopped(machine, service, configure):
    # The drain takes twice as long as a stop may, and so does what is waited for after it.
    drain = "trap 'sleep 4; exit 0' TERM; while :; do sleep 0.1; done"
    configure("taskbeat", command=drain, interval="1s", after_terminate="idle")
    machine.drop_in("taskbeat", "hurry", "[Service]\nTimeoutStopSec=2s\nRestartSec=0\n")
    machine.systemctl("start", "taskbeat")
    taskbeat, runner = machine.main_pid("taskbeat"), runner_of(machine, "taskbeat")
    service.hear("taskbeat")
    service.terminated.add("taskbeat")
    machine.wait_for_end([runner])
    machine.wait_for("taskbeat", "StatusText", "terminated, idle.*")
    enough = time.monotonic() + 4
    while time.monotonic() < enough:
        assert machine.show("taskbeat", "ActiveState") == "active"
    assert machine.main_pid("taskbeat") == taskbeat
    machine.systemctl("stop", "taskbeat")
    assert machine.show("taskbeat", "ActiveState") == "inactive"
    assert machine.show("taskbeat", "Result") == "success"


def test_terminate_may_take_as_long_as_the_on_terminate_command_and_the_runner(machine, service, configure):
    configure("taskbeat", command=SLOW, interval="1s", grace="1h", on_terminate="sleep 4")
    machine.drop_in("taskbeat", "impatient", "[Service]\nTimeoutStopSec=2s\nRestartSec=0\n")
    machine.systemctl("start", "taskbeat")
    runner = runner_of(machine, "taskbeat")
    service.terminated.add("taskbeat")
    machine.wait_for("taskbeat", "StatusText", "the on-terminate command runs.*")
    assert machine.show("taskbeat", "ActiveState") == "deactivating"
    machine.wait_for_log("taskbeat", "^draining$")
    # Once more as long as systemd would have waited.
    time.sleep(4)
    assert runner_of(machine, "taskbeat") == runner
    machine.write("/run/drained", "")
    machine.wait_for("taskbeat", "ActiveState", "inactive")
    assert machine.show("taskbeat", "Result") == "success"
    assert machine.restarts("taskbeat") == 0


WATCHDOG = 4


def watched(machine, configure):
    """Starts it with a watchdog that is not as patient as ours, and returns its processes."""
    configure("taskbeat", command=PLAIN)
    machine.drop_in("taskbeat", "hurry", f"[Service]\nWatchdogSec={WATCHDOG}\nRestartSec=0\n")
    machine.systemctl("start", "taskbeat")
    return machine.processes("taskbeat")


def test_a_taskbeat_that_is_stopped_is_replaced(machine, service, configure):
    old = watched(machine, configure)
    machine.kill("STOP", machine.main_pid("taskbeat"))
    machine.wait_for_end(old)
    machine.wait_for("taskbeat", "ActiveState", "active")
    assert "watchdog" in machine.run("journalctl", "--identifier=systemd", "--unit=taskbeat")


def test_a_loop_that_hangs_is_replaced(machine, service, configure):
    old = watched(machine, configure)
    # The loop reads the configuration at a reload, and from this one there is nothing to be read as long as we have it.
    file = machine.path("/etc/taskbeat/taskbeat.toml")
    file.unlink()
    os.mkfifo(file)
    machine.systemctl("reload", "taskbeat")

    def held():
        try:
            return os.open(file, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            # Nobody reads it yet.
            return None

    held = until(held, "taskbeat reads its configuration")
    # The next one is to find a good one.
    file.unlink()
    configure("taskbeat", command=PLAIN)
    machine.wait_for_end(old)
    os.close(held)
    machine.wait_for("taskbeat", "ActiveState", "active")
    assert "watchdog" in machine.run("journalctl", "--identifier=systemd", "--unit=taskbeat")


def test_a_long_wait_for_the_service_is_no_reason_for_the_watchdog(machine, service, configure):
    service.refused["taskbeat"] = "ThrottlingException"
    watched(machine, configure)
    # More than a hundred seconds, in which nothing else is to be done.
    machine.wait_for_log("taskbeat", "^heartbeat failed, next in [0-9]+m")

    def kept_alive():
        return int(machine.show("taskbeat", "WatchdogTimestampMonotonic"))

    enough = kept_alive() + 2 * WATCHDOG * 1_000_000
    until(lambda: kept_alive() > enough, "twice its time without a restart")
    assert machine.restarts("taskbeat") == 0


def test_the_journal_knows_what_is_serious(machine, service, configure):
    service.refused["taskbeat"] = "AccessDeniedException"
    configure("taskbeat", command="echo hello; " + PLAIN)
    machine.systemctl("start", "taskbeat")
    machine.wait_for_log("taskbeat", "^heartbeat failed")
    machine.write("/etc/taskbeat/taskbeat.toml", "interval = 'soon'\n")
    machine.systemctl("reload", "taskbeat")
    machine.wait_for_log("taskbeat", "^reload refused")
    serious = machine.journal("taskbeat", "--priority=warning")
    assert [entry["PRIORITY"] for entry in serious] == ["4", "3"]
    assert serious[0]["MESSAGE"].startswith("heartbeat failed, next in ")
    assert serious[1]["MESSAGE"].startswith("reload refused, ")
    messages = [entry["MESSAGE"] for entry in machine.journal("taskbeat")]
    # The runner's output is its own, and does not wait for our log, which has a thread of its own.
    messages.remove("hello")
    # The journal has a time and a priority for each.
    assert messages[0].startswith("taskbeat starts version=")


def test_instances_are_side_by_side(machine, service, configure):
    for name in ("etl-1", "etl-2"):
        configure(name, command=PLAIN, interval="1s")
    machine.systemctl("enable", "--now", "taskbeat@etl-1", "taskbeat@etl-2")
    service.hear("etl-1")
    service.hear("etl-2")
    users = {machine.user_of(machine.main_pid(f"taskbeat@{name}")) for name in ("etl-1", "etl-2")}
    assert len(users) == 2 and 0 not in users
    service.terminated.add("etl-1")
    machine.wait_for("taskbeat@etl-1", "ActiveState", "inactive")
    service.hear("etl-2", more=2)
    assert machine.show("taskbeat@etl-2", "ActiveState") == "active"
    assert machine.path("/var/lib/private/taskbeat-etl-2").is_dir()


def test_credentials_that_only_root_can_read(machine, service, configure):
    def write(key):
        text = f"[default]\naws_access_key_id = {key}\naws_secret_access_key = any\n"
        machine.write("/etc/taskbeat/credentials", text)
        machine.path("/etc/taskbeat/credentials").chmod(0o600)

    machine.systemctl("unset-environment", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    write("AKIDFROMFILE")
    configure("taskbeat", command=PLAIN, interval="1s")
    machine.example("taskbeat", "credentials")
    machine.systemctl("start", "taskbeat")
    service.hear("taskbeat")
    # systemd copied the file, so a reload reads the old one again.
    write("AKIDROTATED")
    machine.systemctl("reload", "taskbeat")
    machine.wait_for_log("taskbeat", "^settings reloaded$")
    service.hear("taskbeat", more=2)
    assert {heartbeat.key for heartbeat in service.heartbeats} == {"AKIDFROMFILE"}
    machine.systemctl("restart", "taskbeat")
    service.hear("taskbeat")
    assert service.heartbeats[-1].key == "AKIDROTATED"


def test_an_outage_at_the_start_is_no_failure(machine, service, configure):
    service.down()
    configure("taskbeat", command=PLAIN)
    machine.systemctl("start", "taskbeat")
    runner = runner_of(machine, "taskbeat")
    machine.wait_for("taskbeat", "StatusText", ".* failed, never acknowledged, .*")
    service.up()
    machine.wait_for("taskbeat", "StatusText", f"acknowledged .*; runner pid {runner} up .*")
    assert machine.restarts("taskbeat") == 0


def test_metadata_that_are_not_there_yet_are_no_failure(machine, service, configure):
    machine.systemctl("set-environment", "AWS_EC2_METADATA_DISABLED=false")
    machine.systemctl("set-environment", "AWS_EC2_METADATA_SERVICE_ENDPOINT=http://127.0.0.1:9")
    configure("taskbeat", command=PLAIN, hostname="{public-hostname}")
    machine.systemctl("start", "taskbeat")
    runner_of(machine, "taskbeat")
    machine.wait_for("taskbeat", "StatusText", ".* failed, never acknowledged, .*public-hostname.*")
    assert service.heartbeats == []


def test_the_exposure_is_as_low_by_this_systemd_s_measure(machine):
    for unit, limit in [("taskbeat", 15), ("taskbeat@any", 15), ("taskbeat-sidecar", 12)]:
        machine.run("systemd-analyze", "security", "--offline=true", f"--threshold={limit}", f"{unit}.service")


def test_the_examples_are_understood(machine):
    # What taskbeat-sidecar.service is to be bound to.
    machine.write("/etc/systemd/system/etl.service", "[Service]\nExecStart=/bin/true\n")
    for example in UNITS.glob("drop-ins/*.conf"):
        name = example.stem.split("-")[0]
        unit = {"sidecar": "taskbeat-sidecar", "runner": "etl"}.get(name, "taskbeat")
        machine.example(unit, example.stem, whole=True)
        done = machine.ask("systemd-analyze", "verify", "--man=no", f"{unit}.service")
        assert (done.returncode, done.stderr) == (0, ""), example
        machine.path(f"/etc/systemd/system/{unit}.service.d/{example.name}").unlink()
