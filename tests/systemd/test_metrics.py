"""The metrics under a real systemd: served from the sandbox, and written for node_exporter."""

FOLDER = "/var/lib/prometheus/node-exporter"
UNIT = "taskbeat-textfile@taskbeat"


def test_the_metrics_are_served_from_the_sandbox(machine, service, configure):
    configure("taskbeat", command="exec sleep 1000", metrics_listen="127.0.0.1:9464")
    machine.systemctl("start", "taskbeat")
    service.wait_for_heartbeats("taskbeat")
    request = r"printf 'GET /metrics HTTP/1.0\r\n\r\n' >&3; cat <&3"
    reply = machine.run("bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/9464; {request}")
    assert 'taskbeat_runner_up{taskrunner_id="taskbeat"} 1\n' in reply


def test_the_metrics_are_written_while_taskbeat_runs(machine, service, configure):
    configure("taskbeat", command="exec sleep 1000")
    machine.run("mkdir", "-p", FOLDER)
    for kind in ("service", "timer"):
        machine.run(
            "cp", f"/usr/share/taskbeat/prometheus/taskbeat-textfile@.{kind}", "/etc/systemd/system"
        )
    machine.systemctl("daemon-reload")
    machine.systemctl("start", "taskbeat")
    service.wait_for_heartbeats("taskbeat")
    # The unit fails if it cannot write.
    machine.systemctl("start", UNIT)
    metrics = machine.run("cat", f"{FOLDER}/taskbeat-taskbeat.prom")
    assert 'taskbeat_runner_up{taskrunner_id="taskbeat"} 1\n' in metrics
    owner = machine.run("stat", "--format=%a %U", f"{FOLDER}/taskbeat-taskbeat.prom")
    assert owner == "644 root\n"

    # taskbeat is stopped, and the file goes with it; that is no failure.
    machine.systemctl("stop", "taskbeat")
    machine.systemctl("start", UNIT)
    assert machine.run("ls", FOLDER) == ""

    machine.systemctl("enable", "--now", f"{UNIT}.timer")
    assert machine.show(f"{UNIT}.timer", "ActiveState") == "active"
