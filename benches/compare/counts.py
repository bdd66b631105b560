#!/usr/bin/env python3
"""What a start, a heartbeat and a stop cost, as counts that do not depend on the machine's load.

Fails if one is over its limit, which leaves a margin over today's. Needs valgrind, strace, openssl
and `cargo build --release --locked`.
"""

import re
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from common import TASKBEAT, Started, crates, end_at_sigterm, environment, memory, new_id, run
from common import settled, status, wakeups
from endpoint import HANG, Endpoint

# An attempt may take as long as the interval, up to 30 s. Under strace it takes 50 ms, and longer
# on a busy machine.
INTERVAL = "5s"

# The heartbeats of a longer run, from which those of a run with a single one are taken off.
MORE = 4

# How long nothing may happen, in seconds.
SILENCE = 5

# Calls whose number depends on when the kernel lets threads run.
OF_SCHEDULING = ("epoll_wait", "futex", "sched_yield")

LIMITS = {
    "instructions of `once` over TLS": 6_900_000,
    "instructions of `check`": 2_300_000,
    "system calls of `run -- true`": 600,
    "system calls of a heartbeat over TLS": 100,
    "system calls from SIGTERM to the exit": 260,
    "threads between heartbeats": 2,
    "wakeups between heartbeats": 0,
    "KiB resident after a heartbeat over TLS": 9_000,
    "KiB of private dirty memory": 1_200,
    "bytes of the program": 6_850_000,
    "crates": 200,
}


def main():
    end_at_sigterm()
    with tempfile.TemporaryDirectory() as home:
        home = Path(home)
        endpoint = Endpoint(home, tls=True)
        try:
            failed = show(measured(endpoint, home))
        finally:
            endpoint.end()
    sys.exit(failed)


def measured(endpoint, home):
    """All counts, in the order of the limits. Counts of one process do not depend on others."""
    variables = environment(endpoint, home)

    def traced(count, name, *command):
        return pool.submit(count, command, variables, home / name)

    with ThreadPoolExecutor() as pool:
        at_rest = pool.submit(rest, endpoint, home)
        once = traced(instructions, "once", TASKBEAT, "once", "--taskrunner-id", "once")
        check = traced(instructions, "check", TASKBEAT, "check", "--taskrunner-id", "check")
        true = traced(calls, "true", *run(new_id("true"), "--", "true"))
        one, more = (
            traced(calls, str(count), *run(new_id(f"terminate-{count}"), interval=INTERVAL))
            for count in (1, MORE)
        )
        yield once.result()
        yield check.result()
        yield true.result()
        yield (more.result() - one.result()) // (MORE - 1)
        yield stop(endpoint, home)
        yield from at_rest.result()
    yield TASKBEAT.stat().st_size
    yield crates()


def instructions(command, variables, output):
    callgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={output}", *command]
    return int(re.search(r"Collected : (\d+)", traced_log(callgrind, variables))[1])


def calls(command, variables, output):
    traced_log(["strace", "-f", "-o", output, *command], variables)
    return len(system_calls(output.read_text()))


def traced_log(command, variables):
    log = subprocess.run(
        command, env=variables, capture_output=True, text=True, timeout=HANG, check=True
    ).stderr
    # A heartbeat that is sent again would be counted twice.
    assert "failed" not in log, log
    return log


def system_calls(trace):
    """The calls in the output of strace, without those of a program that taskbeat executes."""
    own = trace.split(maxsplit=1)[0]
    runners = set(re.findall(r"^(\d+) +(?:execve\(|<\.\.\. execve)", trace, re.MULTILINE)) - {own}
    calls = re.findall(r"^(\d+) +(\w+)\(", trace, re.MULTILINE)
    return [call for pid, call in calls if pid not in runners and call not in OF_SCHEDULING]


def stop(endpoint, home):
    """The system calls from SIGTERM to the exit, without those of the runner."""
    trace, taskrunner = home / "stop", new_id("stop")
    strace = ["strace", "-f", "-o", trace, *run(taskrunner, "--", "sleep", "1000")]
    with Started(strace, environment(endpoint, home)) as traced:
        endpoint.replied(taskrunner)
        children = Path(f"/proc/{traced.pid}/task/{traced.pid}/children")
        [taskbeat] = children.read_text().split()
        settled(taskbeat)
        subprocess.run(["kill", taskbeat], check=True)
        traced.ended()
    whole = trace.read_text()
    _, after = re.split(r"^\d+ +--- SIGTERM .*\n", whole, maxsplit=1, flags=re.MULTILINE)
    return len(system_calls(whole)) - len(system_calls(whole.removesuffix(after)))


def rest(endpoint, home):
    """Threads, wakeups and memory between two heartbeats."""
    taskrunner = new_id("rest")
    command = run(taskrunner, "--", "sleep", "1000")
    with Started(command, environment(endpoint, home)) as taskbeat:
        endpoint.replied(taskrunner)
        settled(taskbeat.pid)
        before = wakeups(taskbeat.pid)
        time.sleep(SILENCE)
        woken = wakeups(taskbeat.pid) - before
        found = status(taskbeat.pid, "Threads"), woken, *memory(taskbeat.pid)
        taskbeat.process.send_signal(signal.SIGTERM)
        taskbeat.ended()
    return found


def show(counts):
    failed = False
    for (name, limit), count in zip(LIMITS.items(), counts, strict=True):
        over = count > limit
        failed |= over
        print(f"{name:42} {count:>10,} of {limit:>10,}{'  OVER THE LIMIT' if over else ''}")
    return failed


if __name__ == "__main__":
    main()
