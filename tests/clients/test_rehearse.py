"""The reports of rehearsals, checked against their schema."""

import json
import subprocess

import pytest
from jsonschema import Draft202012Validator

from conftest import HANG, ROOT, TASKBEAT

SCHEMA = json.loads((ROOT / "docs/rehearse.schema.json").read_text())

SLEEP = ("--", "sleep", "120")


def rehearse(*arguments):
    """The report of a rehearsal, and its exit status."""
    options = ("--json", "--interval", "100ms", "--grace", "200ms")
    command = [TASKBEAT, "rehearse", *options, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=HANG, check=False)
    assert done.stdout.count(b"\n") == 1
    return json.loads(done.stdout), done.returncode


def test_the_schema_is_valid():
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize(
    ("arguments", "status", "causes", "event"),
    [
        (("--script", "ok,hang,throttle,error,reject,reset,html,terminate", *SLEEP), 0, [], "gone"),
        (("--seed", "5", "--worker-group", "wg", *SLEEP), 0, [], "signal"),
        (("--script", "ok,hang*2,ok", *SLEEP), 0, [], "contact-regained"),
        (
            ("--script", "ok,hang,terminate", "--", "sh", "-c", "trap '' TERM; exec sleep 120"),
            1,
            ["signal-ignored"],
            "signal",
        ),
        (("--", "sh", "-c", "exit 3"), 1, ["runner-exited"], "leader-exited"),
        (("--", "/nonexistent"), 1, ["not-started"], None),
        (("--on-terminate", "exit 7", *SLEEP), 0, [], "command-exited"),
        (
            ("--script", "ok,hang*3,ok", "--lost-contact-after", "300ms", *SLEEP),
            1,
            ["lost-contact"],
            "signal",
        ),
        (("--script", "ok", "--health-check", "false", *SLEEP), 1, ["unhealthy"], "withheld"),
    ],
)
def test_reports_follow_the_schema(arguments, status, causes, event):
    report, returned = rehearse(*arguments)
    Draft202012Validator(SCHEMA).validate(report)
    assert (returned, report["passed"]) == (status, status == 0)
    assert [finding["cause"] for finding in report["findings"]] == causes
    assert event is None or event in [entry["event"] for entry in report["timeline"]]


def test_a_runner_of_another_supervisor_has_no_status():
    runner = subprocess.Popen(["sleep", "120"])
    report, returned = rehearse("--script", "ok,terminate", "--pid", str(runner.pid))
    assert (returned, runner.wait(timeout=HANG)) == (0, -15)
    Draft202012Validator(SCHEMA).validate(report)
    [attached] = [entry for entry in report["timeline"] if entry["event"] == "attached"]
    assert attached["process"] == {"pid": runner.pid, "name": "sleep", "error": None}


def test_the_schema_refuses_what_it_does_not_know():
    report, _ = rehearse("--script", "ok,terminate", *SLEEP)
    for change in [
        lambda it: it.update(new=1),
        lambda it: it.pop("passed"),
        lambda it: it["timeline"][0].update(new=1),
        lambda it: it["timeline"][0].update(event="new"),
    ]:
        changed = json.loads(json.dumps(report))
        change(changed)
        assert not Draft202012Validator(SCHEMA).is_valid(changed)
