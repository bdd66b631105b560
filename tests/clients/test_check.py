"""The outputs of `taskbeat check --json`, checked by their JSON Schema."""

import json
import os

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from conftest import KEY, ROOT, SECRET

SCHEMA = json.loads((ROOT / "docs/check.schema.json").read_text())
IDENTITY = ["--taskrunner-id", "etl-1"]


def valid(done, status):
    """The object that was printed, which the schema allows."""
    assert done.returncode == status, done
    printed = json.loads(done.stdout)
    Draft202012Validator(SCHEMA, format_checker=FormatChecker()).validate(printed)
    assert SECRET not in done.stdout + done.stderr
    return printed


def test_the_schema_is_one():
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize(
    ("arguments", "has_words", "has_pid"),
    [
        ([], False, False),
        (["--", "sleep", "1"], True, False),
        (["--", "no such program"], True, False),
        (["--pid", str(os.getpid())], True, True),
        (["--pid", "4194304"], False, False),
        (["--pid-file", "/nonexistent"], False, False),
    ],
)
def test_each_kind_of_runner(taskbeat, arguments, has_words, has_pid):
    runner = valid(taskbeat("check", "--json", *IDENTITY, *arguments), 0)["runner"]
    assert (runner["words"] != [], runner["pid"] is not None) == (has_words, has_pid)


def test_each_origin(taskbeat, monkeypatch, tmp_path):
    file = tmp_path / "taskbeat.toml"
    file.write_text("\ngrace = '1m'\n")
    monkeypatch.setenv("TASKBEAT_JITTER", "5%")
    done = taskbeat("check", "--json", *IDENTITY, "--config", str(file), "-v", "--", "sleep", "1")
    origins = {row["key"]: row["origin"] for row in valid(done, 0)["settings"]}
    assert origins["taskrunner-id"] == {"source": "flag", "at": "--taskrunner-id"}
    assert origins["log"] == {"source": "flag", "at": "-v"}
    assert origins["command"] == {"source": "operand"}
    assert origins["jitter"] == {"source": "environment", "at": "TASKBEAT_JITTER"}
    assert origins["grace"] == {"source": "file", "at": {"path": str(file), "line": 2}}
    assert origins["interval"] == {"source": "default", "at": None}
    assert origins["profile"] == {"source": "sdk"}
    assert origins["pid"] == {"source": "unset"}


def test_online(taskbeat, endpoint):
    url = endpoint("ok,terminate")
    online = valid(
        taskbeat("check", "--json", "--online", *IDENTITY, "--endpoint-url", url), 0
    )["online"]
    assert online["access"]["endpoint"] == url
    assert online["access"]["credentials"]["place"] == "environment"
    assert KEY not in json.dumps(online)


def test_online_with_credentials_that_expire(taskbeat, monkeypatch, tmp_path):
    for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]:
        monkeypatch.delenv(name)
    credentials = {
        "Version": 1,
        "AccessKeyId": KEY,
        "SecretAccessKey": SECRET,
        "Expiration": "2100-01-01T00:00:00Z",
    }
    (tmp_path / "credentials.json").write_text(json.dumps(credentials))
    (tmp_path / "config").write_text(
        f"[profile etl]\ncredential_process = cat {tmp_path}/credentials.json\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    done = taskbeat("check", "--json", "--online", *IDENTITY, "--profile", "etl")
    access = valid(done, 0)["online"]["access"]
    assert access["credentials"]["profile"] == "etl"
    assert access["expires"] == "2100-01-01T00:00:00Z"


def test_online_without_credentials(taskbeat, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    online = valid(taskbeat("check", "--json", "--online", *IDENTITY), 69)["online"]
    assert "no credentials found" in online["error"]


def test_warnings_and_errors(taskbeat):
    done = taskbeat("check", "--json", *IDENTITY, "--interval", "1s", "--region", "us-east-2")
    region, interval = [warning["problem"] for warning in valid(done, 0)["warnings"]]
    assert region == "region us-east-2 has no known Data Pipeline endpoint"
    assert interval.startswith("interval 1s is short: ")
    assert done.stderr == ""
    done = taskbeat("check", "--json", "--grace", "soon", "--jitter", "x")
    errors = valid(done, 78)["errors"]
    assert done.stderr.splitlines() == errors
    assert [error.split()[0] for error in errors] == ["taskrunner-id", "jitter", "grace"]
