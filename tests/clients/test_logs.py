"""docs/logs.md, compared with the lines of a real daemon and with the log calls in the code."""

import json
import os
import re

import botocore.session
import pytest
from aws_json_term_matcher.exceptions import MatchingError
from aws_json_term_matcher.matcher import match
from botocore.validate import ParamValidator

from conftest import ROOT

TEXT = (ROOT / "docs/logs.md").read_text()
# taskbeat refuses to report an ID twice on a host.
ID = f"logs-{os.getpid()}"
ALWAYS = {"timestamp", "level", "message"}


def rows(*header):
    """The cells of the table with this header."""
    _, table = TEXT.split(f"| {' | '.join(header)} |\n", 1)
    lines = table.split("\n\n")[0].splitlines()[1:]
    # `||` of a pattern does not separate cells.
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def fits(text, message):
    """True if the text is the message, of which any part may stand for `…`."""
    return re.fullmatch(".*".join(map(re.escape, message.split("…"))), text, re.DOTALL)


def events():
    """Level, message and fields of each event whose message is given."""
    for levels, message, fields in rows("level", "message", "fields"):
        if message.startswith("`"):
            yield levels.split(", "), message.strip("`"), set(re.findall("`(.*?)`", fields))


PATTERNS = {event: pattern.strip("`") for event, pattern in rows("event", "pattern")}


def documented(line):
    return any(
        line["level"] in levels
        and fits(line["message"], message)
        and line.keys() - ALWAYS <= fields
        for levels, message, fields in events()
    )


def matches(pattern, line):
    try:
        return match(line, pattern)
    except MatchingError:
        # A field that is not there cannot be compared by size.
        return False


def run(start, endpoint, script, *runner):
    """The lines of `run` to its end, against an endpoint that plays the script."""
    arguments = ["--taskrunner-id", ID, "--endpoint-url", endpoint(script)]
    options = ["--interval", "300ms", "--jitter", "0%", "--log-format", "json"]
    daemon = start("run", *arguments, *options, *runner)
    status = daemon.wait()
    daemon.reader.join()
    found = []
    while (line := daemon.lines.get()) is not None:
        found.append(json.loads(line))
    return status, found


@pytest.fixture
def outage(start, endpoint):
    script = "throttle,error,reject,ok,terminate"
    status, lines = run(start, endpoint, script, "--on-terminate", "exit 3", "--", "sleep", "60")
    assert status == 0
    return lines


def test_every_line_is_documented(outage):
    for line in outage:
        assert documented(line), line
    levels = {line["level"] for line in outage}
    assert levels == {"INFO", "WARN"}


def test_a_failed_heartbeat_has_what_decides_as_fields(outage):
    failed = [line for line in outage if "class" in line]
    found = {line["class"]: line["code"] for line in failed}
    assert found == {
        "throttled": "ThrottlingException",
        "transient": "InternalServiceError",
        "rejected": "AccessDeniedException",
    }
    for line in failed:
        assert line["taskrunner_id"] == ID
        assert 0 < line["retry_in_seconds"] < 0.3
        assert line["request_id"]


def test_the_metric_filters_match_what_they_say(outage, start, endpoint):
    status, ended = run(start, endpoint, "ok,ok", "--", "sh", "-c", "exit 5")
    assert status == 5
    counts = {
        event: sum(matches(pattern, line) for line in outage + ended)
        for event, pattern in PATTERNS.items()
    }
    (throttled, rejected, internal, lost, unhealthy, failed, late) = counts.values()
    assert (throttled, rejected, internal, unhealthy, failed, late) == (1, 1, 1, 0, 2, 0), counts
    lost_lines = [line for line in outage if line["message"].startswith("contact lost")]
    assert lost == len(lost_lines)
    late_pattern = list(PATTERNS.values())[-1]
    assert matches(late_pattern, {"retry_in_seconds": 600.5})
    assert matches(list(PATTERNS.values())[3], {"contact": "lost"})


def test_the_input_of_the_aws_cli_fits_its_model():
    *_, block = re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)
    request = json.loads(block)
    assert request["filterPattern"] in PATTERNS.values()
    model = botocore.session.Session().get_service_model("logs")
    shape = model.operation_model("PutMetricFilter").input_shape
    errors = ParamValidator().validate(request, shape)
    assert not errors.has_errors(), errors.generate_report()


def calls():
    """Level and text of each call that logs a line of its own words at INFO or above."""
    for file in sorted((ROOT / "src").rglob("*.rs")):
        text = file.read_text()
        for call in re.finditer(r"\b(info|warn|error)!\(", text):
            depth, end = 1, call.end()
            while depth:
                depth += {"(": 1, ")": -1}.get(text[end], 0)
                end += 1
            *_, message = re.findall(r'"((?:[^"\\]|\\.)*)"', text[call.end() : end], re.DOTALL)
            if re.sub(r"\{.*?\}", "", message).strip(": "):
                yield call[1].upper(), re.sub(r"\\\n\s*", "", message)


def test_every_call_in_the_code_is_documented():
    known = [(levels, message) for levels, message, *_ in events()]
    # In the sentences below the table.
    quoted = [message for message in re.findall("`([^`]*)`", TEXT) if message != "…"]
    known += [(["INFO", "WARN"], message) for message in quoted]
    for level, text in calls():
        text = re.sub(r"\{.*?\}", "…", text)
        found = (message for levels, message in known if level in levels)
        assert any(fits(text, message) or fits(message, text) for message in found), (level, text)
