"""Real Prometheus and node_exporter read the metrics; the alerts and the dashboard use them."""

import itertools
import json
import os
import re
import signal
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

import pytest
import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from conftest import HANG, PACKAGED, ROOT, TASKBEAT, free_port

RULES = yaml.safe_load((PACKAGED / "alerts.yml").read_text())["groups"][0]["rules"]
DASHBOARD = json.loads((PACKAGED / "dashboard.json").read_text())
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]

IGNORES_STOP = """trap '' TERM; touch "$0"; while :; do sleep 1000; done"""


def get(url):
    with urllib.request.urlopen(url, timeout=HANG) as response:
        return response.read().decode()


def wait_until(condition):
    """Waits for a result that is true, and returns it."""
    limit = time.monotonic() + HANG
    while time.monotonic() < limit:
        try:
            if result := condition():
                return result
        except (urllib.error.URLError, ConnectionError):
            pass
        time.sleep(0.1)
    raise AssertionError("timed out")


@pytest.fixture
def run(start, endpoint):
    """Starts a daemon whose endpoint plays the script; returns it and the URL of its metrics."""

    def run(script, *arguments, id="etl-1"):
        daemon = start(
            *("run", "--taskrunner-id", id, "--endpoint-url", endpoint(script)),
            *("--metrics-listen", "127.0.0.1:0", *arguments),
        )
        return daemon, daemon.wait_for(r"metrics at (http://127\.0\.0\.1:\d+/metrics)")[1]

    return run


def families(text):
    return {family.name: family for family in text_string_to_metric_families(text)}


def check(promtool, text):
    """Checks the text by both parsers, and the names by promtool, which reads the older format."""
    parsed = families(text)
    for name, family in parsed.items():
        if family.type == "counter":
            text = re.sub(rf"^(# \w+) {name} ", rf"\1 {name}_total ", text, flags=re.MULTILINE)
    promtool("check", "metrics", input=text)
    return parsed


def test_the_metrics_of_each_state_are_valid(run, promtool, tmp_path):
    ready = tmp_path / "ready"
    daemon, url = run("ok*9", "--", "sh", "-c", IGNORES_STOP, str(ready))
    wait_until(ready.exists)
    wait_until(lambda: 'taskbeat_in_contact{taskrunner_id="etl-1"} 1' in get(url))
    whole = check(promtool, get(url))
    os.kill(daemon.process.pid, signal.SIGTERM)
    daemon.wait_for("stop signal to")
    stops = check(promtool, get(url))["taskbeat_stops"].samples
    assert [stop.labels["cause"] for stop in stops if stop.value] == ["operator"]

    daemon, url = run("throttle,ok", id="throttled")
    daemon.wait_for("heartbeat failed")
    failing = check(promtool, get(url))
    assert failing["taskbeat_in_contact"].samples[0].value == 0
    # Never acknowledged, and without a runner.
    assert whole.keys() - failing.keys() == {
        "taskbeat_last_acknowledged_timestamp_seconds",
        "taskbeat_runner_up",
        "taskbeat_runner_start_timestamp_seconds",
    }

    # Characters that the format escapes.
    id = 'a "quoted" \\ {{é}}'
    daemon, url = run("ok*9", "--pid-file", str(tmp_path / "pid"), id=id)
    daemon.wait_for("waiting for the runner")
    waiting = check(promtool, get(url))
    assert waiting["taskbeat_runner_up"].samples[0].value == 0
    assert waiting["taskbeat_in_contact"].samples[0].labels["taskrunner_id"] == id


def test_the_alerts_fire_when_they_should(promtool):
    promtool("check", "rules", PACKAGED / "alerts.yml")
    promtool("test", "rules", PACKAGED / "alerts_test.yml")
    tests = yaml.safe_load((PACKAGED / "alerts_test.yml").read_text())["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    fired = {case["alertname"] for case in cases if case.get("exp_alerts")}
    silent = {case["alertname"] for case in cases if not case.get("exp_alerts")}
    assert fired == silent == {rule["alert"] for rule in RULES}


def test_each_metric_has_a_use(run):
    daemon, url = run("ok*9", "--", "sleep", "1000")
    daemon.wait_for("heartbeat acknowledged")
    used = " ".join([*QUERIES, *(rule["expr"] for rule in RULES)])
    names = {sample.name for family in families(get(url)).values() for sample in family.samples}
    assert set(re.findall(r"taskbeat_\w+", used)) == names
    page = (ROOT / "docs/metrics.md").read_text()
    rows = re.findall(r"^\| `(taskbeat_\w+)`", page, re.MULTILINE)
    assert sorted(rows) == sorted(names)
    alerts = [rule["alert"] for rule in RULES]
    assert re.findall(r"^\| `(Taskbeat\w+)`", page, re.MULTILINE) == alerts


def test_prometheus_scrapes_taskbeat_and_answers_each_query(run, background, tmp_path):
    daemon, url = run("ok*9999", "--interval", "1s", "--", "sleep", "1000")
    target = urllib.parse.urlparse(url).netloc
    scrape = {"job_name": "taskbeat", "static_configs": [{"targets": [target]}]}
    config = {
        "global": {"scrape_interval": "500ms", "evaluation_interval": "500ms"},
        "rule_files": [str(PACKAGED / "alerts.yml")],
        "scrape_configs": [scrape],
    }
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    background(
        "prometheus",
        *("--config.file=prometheus.yml", "--storage.tsdb.path=data"),
        f"--web.listen-address=127.0.0.1:{port}",
    )

    def api(path, **parameters):
        query = urllib.parse.urlencode(parameters)
        return json.loads(get(f"http://127.0.0.1:{port}/api/v1/{path}?{query}"))["data"]

    def value(query):
        return api("query", query=query)["result"]

    # Two heartbeats, so that rates have a value.
    wait_until(lambda: value('taskbeat_heartbeats_total{result="acknowledged"} > 2'))
    [target] = api("targets")["activeTargets"]
    assert (target["health"], target["lastError"]) == ("up", "")
    # Prometheus has read OpenMetrics, where counters have no `_total`.
    [metadata] = api("metadata", metric="taskbeat_heartbeats")["taskbeat_heartbeats"]
    assert metadata["type"] == "counter"
    for query in QUERIES:
        query = query.replace("$id", ".+")
        wait_until(lambda: value(query)), query
    [group] = api("rules")["groups"]
    assert {rule["name"]: rule["health"] for rule in group["rules"]} == {
        rule["alert"]: "ok" for rule in RULES
    }
    assert api("alerts")["alerts"] == []

    daemon.end()
    [alert] = wait_until(lambda: api("alerts")["alerts"])
    assert (alert["labels"]["alertname"], alert["state"]) == ("TaskbeatGone", "pending")


def test_node_exporter_reads_the_files_of_the_script(run, background, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{os.path.dirname(TASKBEAT)}:{os.environ['PATH']}")
    unit = (PACKAGED / "taskbeat-textfile@.service").read_text().replace("\\\n", "")
    script, config, file = re.search(r"^ExecStart=(.*)$", unit, re.MULTILINE)[1].split()
    script = PACKAGED / os.path.basename(script)
    folder = tmp_path / "textfiles"
    folder.mkdir()

    def write(id):
        (tmp_path / f"{id}.toml").write_text(f"taskrunner-id = '{id}'")
        path = folder / os.path.basename(file).replace("%i", id)
        done = subprocess.run(
            [script, tmp_path / os.path.basename(config).replace("%i", id), path],
            timeout=HANG,
            check=False,
        )
        return done.returncode, path

    good, url = run("ok*9", "--", "sleep", "1000", id="good")
    good.wait_for("heartbeat acknowledged")
    status, path = write("good")
    assert (status, path.read_text()) == (0, get(url))
    failing, _ = run("throttle,ok", id="failing")
    failing.wait_for("heartbeat failed")
    # Out of contact, which is no failure of the unit.
    assert write("failing")[0] == 0
    port = free_port()
    background(
        "prometheus-node-exporter",
        *("--collector.disable-defaults", "--collector.textfile"),
        *(f"--collector.textfile.directory={folder}", f"--web.listen-address=127.0.0.1:{port}"),
    )
    text = wait_until(lambda: get(f"http://127.0.0.1:{port}/metrics"))
    assert "node_textfile_scrape_error 0\n" in text
    for sample in (
        'taskbeat_in_contact{taskrunner_id="good"} 1',
        'taskbeat_in_contact{taskrunner_id="failing"} 0',
        'taskbeat_heartbeats_total{result="throttled",taskrunner_id="failing"} 1',
    ):
        assert f"{sample}\n" in text

    good.end()
    status, path = write("good")
    assert status == 69 and f"SuccessExitStatus={status}\n" in unit
    assert [file.name for file in folder.iterdir()] == ["taskbeat-failing.prom"]


def test_the_panels_of_the_dashboard_do_not_overlap():
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    cells = [
        (place["x"] + x, place["y"] + y)
        for place in places
        for x, y in itertools.product(range(place["w"]), range(place["h"]))
    ]
    assert len(cells) == len(set(cells)) and max(x for x, _ in cells) < 24
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
