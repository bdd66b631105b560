"""boto3 and the AWS CLI as clients of the endpoint of `taskbeat rehearse`."""

import json
import subprocess
import sys

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from conftest import HANG


def client(url, **config):
    config = Config(
        connect_timeout=HANG, read_timeout=HANG, retries={"total_max_attempts": 1}, **config
    )
    return boto3.client("datapipeline", endpoint_url=url, config=config)


def aws(url, *arguments):
    command = [sys.executable, "-m", "awscli", "datapipeline", "report-task-runner-heartbeat"]
    command += ["--endpoint-url", url, "--output", "json", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=HANG, check=False)


def error(call, **parameters):
    with pytest.raises(ClientError) as raised:
        call(**parameters)
    return raised.value


def code(error):
    return error.response["Error"]["Code"]


def status(response):
    return response["ResponseMetadata"]["HTTPStatusCode"]


def test_boto3_is_acknowledged_until_terminate(endpoint):
    heartbeat = client(endpoint("ok*2,terminate")).report_task_runner_heartbeat
    answers = [
        heartbeat(taskrunnerId="t", workerGroup="wg", hostname="h.example") for _ in range(4)
    ]
    assert [answer["terminate"] for answer in answers] == [False, False, True, True]
    assert {status(answer) for answer in answers} == {200}
    ids = {answer["ResponseMetadata"]["RequestId"] for answer in answers}
    assert len(ids) == 4 and {len(id) for id in ids} == {36}


def test_each_task_runner_gets_the_script_from_its_beginning(endpoint):
    heartbeat = client(endpoint("ok,terminate")).report_task_runner_heartbeat
    answers = [heartbeat(taskrunnerId=id)["terminate"] for id in ("a", "b", "a", "b")]
    assert answers == [False, False, True, True]


def test_boto3_raises_the_exceptions_of_the_model(endpoint):
    service = client(endpoint("throttle,error,reject,ok"))
    heartbeat, parameters = service.report_task_runner_heartbeat, {"taskrunnerId": "t"}

    throttled = error(heartbeat, **parameters)
    assert code(throttled) == "ThrottlingException"
    with pytest.raises(service.exceptions.InternalServiceError) as raised:
        heartbeat(**parameters)
    assert status(raised.value.response) == 500
    rejected = error(heartbeat, **parameters)
    assert code(rejected) == "AccessDeniedException"
    assert "datapipeline:ReportTaskRunnerHeartbeat" in str(rejected)
    assert status(throttled.response) == status(rejected.response) == 400
    assert heartbeat(**parameters)["terminate"] is False


def test_boto3_retries_as_it_does_with_the_service(endpoint):
    retries = Config(retries={"total_max_attempts": 3, "mode": "standard"})
    service = boto3.client(
        "datapipeline", endpoint_url=endpoint("throttle,error,ok"), config=retries
    )
    answer = service.report_task_runner_heartbeat(taskrunnerId="t")
    assert answer["ResponseMetadata"]["RetryAttempts"] == 2


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({}, "'taskrunnerId' failed to satisfy constraint: Member must not be null"),
        (
            {"taskrunnerId": ""},
            "'taskrunnerId' failed to satisfy constraint: Member must have length greater than",
        ),
        (
            {"taskrunnerId": "x" * 1025},
            "'taskrunnerId' failed to satisfy constraint: Member must have length less than",
        ),
        (
            {"taskrunnerId": 5},
            "'taskrunnerId' failed to satisfy constraint: Member must be a string",
        ),
        (
            {"taskrunnerId": "\x07"},
            "'taskrunnerId' failed to satisfy constraint: Member must satisfy regular expression",
        ),
        (
            {"taskrunnerId": "t", "workerGroup": "x" * 1025},
            "'workerGroup' failed to satisfy constraint",
        ),
        ({"taskrunnerId": "t", "hostname": ""}, "'hostname' failed to satisfy constraint"),
        (
            {"taskrunnerId": "t", "hostname": ["h"]},
            "'hostname' failed to satisfy constraint: Member must be a string",
        ),
    ],
)
def test_invalid_input_is_refused_with_the_name_of_the_member(endpoint, parameters, message):
    service = client(endpoint("ok*2"), parameter_validation=False)
    with pytest.raises(service.exceptions.InvalidRequestException) as raised:
        service.report_task_runner_heartbeat(**parameters)
    assert message in str(raised.value)


def test_the_longest_input_is_accepted(endpoint):
    heartbeat = client(endpoint("ok*2")).report_task_runner_heartbeat
    assert (
        heartbeat(taskrunnerId="🦀" * 1024, workerGroup="", hostname="é" * 1024)["terminate"]
        is False
    )


def test_other_operations_are_unknown(endpoint):
    service = client(endpoint("ok*2"))
    assert code(error(service.list_pipelines)) == "UnknownOperationException"
    assert code(error(service.poll_for_task, workerGroup="wg")) == "UnknownOperationException"


def test_a_request_without_a_signature_is_refused(endpoint):
    service = client(endpoint("ok*2"), signature_version=UNSIGNED)
    refused = error(service.report_task_runner_heartbeat, taskrunnerId="t")
    assert code(refused) == "MissingAuthenticationTokenException"


def test_the_cli_prints_each_reply(endpoint):
    url = endpoint("ok,throttle,error,reject,terminate")
    identity = ("--taskrunner-id", "t", "--worker-group", "wg", "--hostname", "h.example")

    acknowledged = aws(url, *identity)
    assert (acknowledged.returncode, json.loads(acknowledged.stdout)) == (0, {"terminate": False})
    for name in ("ThrottlingException", "InternalServiceError", "AccessDeniedException"):
        failed = aws(url, *identity)
        assert failed.returncode != 0 and failed.stdout == ""
        assert f"({name}) when calling the ReportTaskRunnerHeartbeat operation" in failed.stderr
    assert json.loads(aws(url, *identity).stdout) == {"terminate": True}


def test_the_cli_prints_each_refusal(endpoint, tmp_path, monkeypatch):
    config = tmp_path / "config"
    config.write_text("[default]\nparameter_validation = false\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    url = endpoint("ok*2")
    refused = aws(url, "--taskrunner-id", "x" * 1025)
    assert refused.returncode != 0 and "(InvalidRequestException)" in refused.stderr
    unsigned = aws(url, "--taskrunner-id", "t", "--no-sign-request")
    assert unsigned.returncode != 0 and "(MissingAuthenticationTokenException)" in unsigned.stderr
