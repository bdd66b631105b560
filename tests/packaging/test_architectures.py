"""The packages of each architecture: what they need of a host, and the other one, emulated."""

import json
import os
import re
import shutil
import signal
import subprocess

import pytest

from conftest import ARCHITECTURE, ARCHITECTURES, HANG, REPOSITORY, needs, output

# Of RHEL 8. Containerfile.runner names it, too.
OLDEST = (2, 28)
EMULATOR = ["qemu-aarch64-static", "-L", "/usr/aarch64-linux-gnu"]


def versions(text):
    return {
        tuple(map(int, version.split("."))) for version in re.findall(r"GLIBC_([0-9.]+)", text)
    }


def test_the_packages_state_the_oldest_glibc_and_need_no_later_one(of_architecture, tmp_path):
    needs("readelf", "rpm")
    architecture, deb, rpm = of_architecture
    output("dpkg-deb", "--extract", deb, tmp_path)
    program = tmp_path / "usr/bin/taskbeat"
    assert max(versions(output("readelf", "--version-info", program))) <= OLDEST
    # glibc's own libraries only.
    needed = set(re.findall(r"NEEDED.*\[(.*?)\.so", output("readelf", "--dynamic", program)))
    assert needed <= {"libc", "libm", "libpthread", "libdl", "ld-linux-x86-64", "ld-linux-aarch64"}
    fields = output("dpkg-deb", "--field", deb, "Architecture", "Depends")
    assert fields.splitlines() == [
        f"Architecture: {ARCHITECTURES[architecture]}",
        f"Depends: ca-certificates, libc6 (>= {OLDEST[0]}.{OLDEST[1]})",
    ]
    assert output("rpm", "--query", "--package", "--queryformat=%{ARCH}", rpm) == architecture
    requires = output("rpm", "--query", "--package", "--requires", rpm)
    assert versions(requires) == {OLDEST}
    assert {"/bin/sh", "ca-certificates"} <= set(requires.splitlines())


def test_no_package_owns_a_file_in_etc(of_architecture):
    needs("rpm")
    _, deb, rpm = of_architecture
    for files in (output("dpkg-deb", "--contents", deb), output("rpm", "-qlp", rpm)):
        assert "/usr/share/taskbeat/taskbeat.toml" in files
        assert not re.search(r" \./etc|^/etc", files, re.MULTILINE)


@pytest.fixture
def emulated(tmp_path):
    """The command of the program of the other architecture."""
    needs(EMULATOR[0])
    if not (debs := list(REPOSITORY.glob("target/debian/*_arm64.deb"))):
        needs(REPOSITORY / "target/debian/*_arm64.deb")
    output("dpkg-deb", "--extract", debs[0], tmp_path)
    return [*EMULATOR, tmp_path / "usr/bin/taskbeat"]


@pytest.mark.skipif(ARCHITECTURE != "x86_64", reason="emulates arm64 on x86-64")
def test_on_arm64_a_rehearsal_passes(emulated):
    # The runner is a program of this host.
    report = output(
        *emulated, "rehearse", "--json", "--interval", "15s", "--grace", "1m",
        "--script", "ok,terminate", "--", shutil.which("sleep"), "1000",
    )  # fmt: skip
    assert json.loads(report)["passed"] is True, report


@pytest.mark.skipif(ARCHITECTURE != "x86_64", reason="emulates arm64 on x86-64")
def test_on_arm64_a_supervised_runner_is_acknowledged_seen_and_stopped(emulated, tmp_path):
    environment = os.environ | {
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_EC2_METADATA_DISABLED": "true",
        "TASKBEAT_TASKRUNNER_ID": f"arm64-{os.getpid()}",
        "TASKBEAT_REGION": "us-east-1",
    }
    processes = []

    def start(*arguments):
        process = subprocess.Popen(
            [*emulated, *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    def wait_for(stream, pattern):
        seen = []
        for line in stream:
            seen.append(line)
            if found := re.search(pattern, line):
                return found
        raise AssertionError(f"no {pattern!r} in:\n{''.join(seen)}")

    try:
        endpoint = start(
            "rehearse", "--log", "info", "--listen", "127.0.0.1:0", "--interval", "15m",
            "--script", "ok*9",
        )  # fmt: skip
        url = wait_for(endpoint.stderr, r"endpoint (http://\S+) plays")[1]
        environment["AWS_ENDPOINT_URL_DATA_PIPELINE"] = url
        runner = "trap 'exit 7' TERM; echo up; while :; do sleep 1000 & wait; done"
        daemon = start("run", "--grace", "1m", "--", "/bin/sh", "-c", runner)
        wait_for(daemon.stdout, "^up$")
        wait_for(daemon.stderr, "heartbeat acknowledged")
        status = json.loads(output_of(start("status", "--json")))
        assert status["in_contact"] is True, status
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(timeout=HANG) == 7
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def output_of(process):
    stdout, stderr = process.communicate(timeout=HANG)
    assert process.returncode == 0, stderr
    return stdout
