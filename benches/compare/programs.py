"""The programs beside taskbeat: how they are started, and which versions they are."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from common import ROOT, TASKBEAT, new_id, run

PYTHON = Path(sys.executable)
BARE = ROOT / "target/release/examples/bare"

# Debian's packages are unpacked only, because installing some of them starts services.
DEBIAN = ROOT / "target/rivals"
PACKAGES = ("tini", "dumb-init", "s6", "libs6-2.11", "libskarnet2.13", "libexecline2.9")

BOTO3 = """
import sys, time, boto3
client = boto3.client("datapipeline")
for _ in range(int(sys.argv[2])):
    client.report_task_runner_heartbeat(taskrunnerId=sys.argv[1], hostname="h")
    time.sleep(float(sys.argv[3]))
"""

SUPERVISORD = """
[supervisord]
nodaemon=true
logfile=/dev/null
logfile_maxbytes=0
pidfile={folder}/supervisord.pid
[program:runner]
command={command}
startsecs=0
autorestart=false
"""


def client(name, endpoint, count=1, pause=0.0):
    """The id that a client's heartbeats have, and its command. curl and the AWS CLI send one."""
    sender = new_id(name.replace(" ", "-"))
    if name == "taskbeat":
        return sender, run(sender, interval=f"{int(1000 * pause)}ms" if pause else "15m")
    if name == "bare SDK":
        endpoint.seen.pop("bare", None)
        return "bare", [str(BARE), str(count), str(int(1000 * pause))]
    if name == "boto3":
        return sender, [str(PYTHON), "-c", BOTO3, sender, str(count), str(pause)]
    if name == "AWS CLI":
        call = ["datapipeline", "report-task-runner-heartbeat", "--taskrunner-id", sender]
        return sender, [str(PYTHON.parent / "aws"), *call, "--hostname", "h"]
    assert name == "curl"
    trust = ["--cacert", endpoint.authority]
    headers = [
        "Content-Type: application/x-amz-json-1.1",
        "X-Amz-Target: DataPipeline.ReportTaskRunnerHeartbeat",
    ]
    body = f'{{"taskrunnerId":"{sender}","hostname":"h"}}'
    options = ["--silent", "--aws-sigv4", "aws:amz:us-east-1:datapipeline", "--user", "key:secret"]
    fields = [option for header in headers for option in ("--header", header)]
    return sender, ["curl", *options, *trust, *fields, "--data", body, endpoint.url]


def supervisor(name, folder, command):
    """The command line with which a supervisor runs `command` until it exits."""
    if name == "taskbeat":
        return run(new_id("runner"), "--", *command)
    if name == "tini":
        return [str(DEBIAN / "usr/bin/tini"), "-s", "--", *command]
    if name == "dumb-init":
        return [str(DEBIAN / "usr/bin/dumb-init"), *command]
    if name == "s6-supervise":
        service = folder / "service"
        service.mkdir(exist_ok=True)
        script = service / "run"
        script.write_text(f"#!/bin/sh\nexec {' '.join(command)}\n")
        script.chmod(0o755)
        return [str(DEBIAN / "usr/bin/s6-supervise"), str(service)]
    assert name == "supervisord"
    configuration = folder / "supervisord.conf"
    text = SUPERVISORD.format(folder=folder, command=" ".join(command))
    configuration.write_text(text)
    return [str(PYTHON.parent / "supervisord"), "--configuration", str(configuration)]


def prepare(quick):
    """Builds the bare program, and downloads missing packages. Returns the folders of libraries."""
    if not quick:
        build = ["cargo", "build", "--locked", "--release", "--example", "bare"]
        subprocess.run(build, cwd=ROOT, check=True)
    if not DEBIAN.is_dir():
        new = DEBIAN.with_suffix(".new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        # The mirror may have newer versions than the lists, which only root can update.
        subprocess.run(["apt-get", "update", "-q"], check=False, capture_output=True)
        subprocess.run(["apt-get", "download", "-q", *PACKAGES], cwd=new, check=True)
        for package in new.glob("*.deb"):
            subprocess.run(["dpkg", "--extract", package, new], check=True)
        new.rename(DEBIAN)
    return ":".join(str(folder) for folder in (DEBIAN / "usr/lib").glob("*-linux-gnu"))


def versions():
    """The machine, the commit, and the versions of all programs."""

    def line(*command):
        output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        return (output.stdout or output.stderr).strip().partition("\n")[0]

    processor = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    packages = [path.name.split("_")[:2] for path in sorted(DEBIAN.glob("*.deb"))]
    frozen = subprocess.run(
        [str(PYTHON), "-m", "pip", "freeze"], capture_output=True, text=True, check=False
    ).stdout
    pinned = re.findall(r"^(awscli|boto3|supervisor)==(.*)$", frozen, re.MULTILINE)
    return [
        f"{processor[1] if processor else line('uname', '-m')}, Linux {line('uname', '-r')}",
        f"taskbeat {line('git', 'describe', '--always', '--dirty')}, {line('rustc', '--version')}",
        ", ".join(
            [" ".join(line("curl", "--version").split()[:2])]
            + [" ".join(each) for each in pinned]
            + [" ".join(each) for each in packages if not each[0].startswith("lib")]
        ),
    ]
