"""`taskbeat status --json` in each state, compared with docs/status.schema.json."""

import json
import os
import signal

import pytest
from jsonschema import Draft202012Validator

from conftest import ROOT

SCHEMA = json.loads((ROOT / "docs/status.schema.json").read_text())
VALIDATOR = Draft202012Validator(SCHEMA, format_checker=Draft202012Validator.FORMAT_CHECKER)
FULL = SCHEMA["$defs"]["full"]

IGNORES_STOP = ["sh", "-c", "trap '' TERM; echo ready >&2; while :; do sleep 1000; done"]


@pytest.fixture
def run(start, endpoint):
    """Starts a daemon whose endpoint plays the script."""

    def run(script, *arguments):
        return start(
            "run", "--taskrunner-id", "s", "--endpoint-url", endpoint(script), *arguments
        )

    return run


@pytest.fixture
def status(taskbeat):
    """The status, which must match the schema."""

    def status():
        printed = taskbeat("status", "--taskrunner-id", "s", "--json").stdout
        status = json.loads(printed)
        VALIDATOR.validate(status)
        return status

    return status


def test_the_schema_is_valid_and_strict():
    Draft202012Validator.check_schema(SCHEMA)
    assert set(FULL["required"]) == set(FULL["properties"])
    assert VALIDATOR.is_valid({"in_contact": True})
    for wrong in ({}, {"in_contact": 1}, {"in_contact": True, "pid": 1}):
        assert not VALIDATOR.is_valid(wrong)


def test_none(status):
    seen = status()
    assert (seen["running"], seen["in_contact"]) == (False, False)


def test_in_contact(run, status):
    run("ok*9", "--worker-group", "etl", "--", "sleep", "1000").wait_for("acknowledged")
    seen = status()
    assert (seen["state"], seen["in_contact"], seen["worker_group"]) == ("running", True, "etl")
    for wrong in (
        {"state": "sleeping"},
        {"started_at": "yesterday"},
        {"acknowledged_at": 5},
        {"failures": -1},
        {"further": 1},
    ):
        assert not VALIDATOR.is_valid(seen | wrong), wrong


def test_contact_is_lost(run, status):
    run("ok,reject*9999", "--interval", "100ms").wait_for("contact lost")
    seen = status()
    assert (seen["in_contact"], seen["contact_began_at"]) == (False, None)
    assert seen["contact_lost_at"] > seen["acknowledged_at"]


def test_failing_without_a_runner(run, status):
    run("throttle,ok").wait_for("heartbeat failed")
    seen = status()
    assert (seen["in_contact"], seen["failures"], seen["runner_up"]) == (False, 1, None)
    assert seen["acknowledged_at"] is None
    assert seen["heartbeats"]["throttled"] == 1


def test_unhealthy(run, status):
    run("ok*9", "--health-check", "echo no queue; exit 3", "--", "sleep", "1000").wait_for(
        "unhealthy"
    )
    seen = status()
    assert seen["heartbeats"]["unhealthy"] >= 1 and seen["unhealthy_since"] is not None
    assert "no queue" in seen["unhealthy"]


def test_waiting_for_a_runner(run, status, tmp_path):
    run("ok*9", "--pid-file", str(tmp_path / "pid")).wait_for("waiting for the runner")
    seen = status()
    assert (seen["state"], seen["runner_up"], seen["next_heartbeat_at"]) == ("waiting", False, None)


def test_stopping(run, status):
    daemon = run("ok*9", "--", *IGNORES_STOP)
    daemon.wait_for("ready")
    os.kill(daemon.process.pid, signal.SIGTERM)
    daemon.wait_for("stop signal to")
    seen = status()
    assert (seen["state"], seen["stop_cause"]) == ("stopping", "operator")
    assert seen["stops"]["operator"] == 1


def test_idle(run, status):
    daemon = run("ok,terminate", "--interval", "10ms", "--after-terminate", "idle")
    daemon.wait_for("heartbeat acknowledged: terminate")
    seen = status()
    assert (seen["state"], seen["in_contact"]) == ("idle", True)
