#!/usr/bin/env python3
"""taskbeat beside what people use instead, in one run on this machine: `benches/compare --help`.

Prints a table in Markdown. Each round starts all programs in turn, so that they meet the same
load. A ratio is the median over the rounds, of a program's figure to taskbeat's.
"""

import argparse
import os
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from common import ROOT, TASKBEAT, Started, compile_runner, crates, end_at_sigterm, environment
from common import memory, new_id, run, settled, status, wakeups
from endpoint import HANG, Endpoint
from programs import BARE, client, prepare, supervisor, versions

CLIENTS = ("taskbeat", "bare SDK", "curl", "boto3", "AWS CLI")
SUPERVISORS = ("taskbeat", "tini", "dumb-init", "s6-supervise", "supervisord")

# These take a second to start, so they take part in each of so many rounds only.
SLOW, SELDOM = ("boto3", "AWS CLI", "supervisord"), 10

# Heartbeats until everything is loaded, and those that are measured; seconds between them.
WARM, MEASURED, PAUSE = 5, 50, 0.02


class Bench:
    """The table, and what all measurements need."""

    def __init__(self, folder, quick, libraries):
        self.folder, self.quick, self.libraries = folder, quick, libraries
        self.runner = compile_runner(folder)
        self.rows = []

    def row(self, figure, goal, unit, found, tail=False):
        """A row of the table: taskbeat's figure, and what the others have."""
        others = []
        for name, values in found.items():
            if name != "taskbeat":
                pairs = zip(values, found["taskbeat"], strict=True)
                ratios = [value / own for value, own in pairs if value is not None and own]
                ratio = f" ({number(statistics.median(ratios), 2)} x)" if ratios else ""
                others.append(f"{name} {shown(values, unit, tail)}{ratio}")
        own = shown(found["taskbeat"], unit, tail)
        self.rows.append((figure, goal, own, ", ".join(others)))
        print(f"{figure}: {own}, {others}", file=sys.stderr, flush=True)


def in_turn(names, rounds, measure):
    """A figure of each round by name; `None` if a slow program was left out."""
    found = {name: [] for name in names}
    for turn in range(rounds):
        for name in names:
            takes_part = name not in SLOW or turn % SELDOM == 0
            found[name].append(measure(name) if takes_part else None)
    return found


def shown(values, unit, tail):
    """The median, and the 99th percentile as well for a `tail`."""
    values = sorted(value for value in values if value is not None)
    text = number(statistics.median(values), 3)
    if tail:
        text += f" / {number(values[-1 - len(values) // 100], 3)}"
    return f"{text} {unit}".rstrip()


def number(value, digits):
    return f"{float(f'{value:.{digits}g}'):,g}"


def heartbeats(bench, endpoint, over, goals):
    """The rows of a heartbeat over HTTP or TLS."""
    variables = environment(endpoint, bench.folder)
    names = [name for name in CLIENTS if name != "bare SDK" or not bench.quick]

    def first(name):
        sender, command = client(name, endpoint)
        with Started(command, variables) as program:
            return (endpoint.replied(sender) - program.begin) / 1e6

    def cpu(name):
        if name in ("curl", "AWS CLI"):
            _, command = client(name, endpoint)
            with subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL) as process:
                _, code, used = os.wait4(process.pid, 0)
                process.returncode = code
            return 1000 * (used.ru_utime + used.ru_stime)
        sender, command = client(name, endpoint, 2 * (WARM + MEASURED), PAUSE)
        with Started(command, variables) as program:
            endpoint.replied(sender, WARM)
            before = cpu_time(program.pid)
            endpoint.replied(sender, WARM + MEASURED)
            return (cpu_time(program.pid) - before) * 1000 / MEASURED

    found = in_turn(names, 3 if bench.quick else 40, first)
    bench.row(f"start to the first reply, {over}", goals[0], "ms", found)
    found = in_turn(names, 1 if bench.quick else 11, cpu)
    bench.row(f"CPU per heartbeat, {over}", goals[1], "ms", found)


def cpu_time(pid):
    """CPU seconds of a process and its threads, by the clock of clock_getcpuclockid(3)."""
    return time.clock_gettime((~pid << 3) | 2)


def between(bench, endpoint, silence):
    """Memory, threads and wakeups after a heartbeat over TLS. Supervisors run a `sleep`."""
    variables = environment(endpoint, bench.folder)
    found = {}
    sleep = ["sleep", "1000"]
    names = ("taskbeat", "bare SDK", "boto3", "supervisord")
    for name in names[:1] + names[1 + bench.quick :]:
        if name == "taskbeat":
            sender = new_id("between")
            command = run(sender, "--", *sleep)
        elif name == "supervisord":
            sender, command = None, supervisor(name, bench.folder, sleep)
        else:
            sender, command = client(name, endpoint, 2, 1000)
        with Started(command, variables) as program:
            if sender:
                endpoint.replied(sender)
            else:
                wait_for_child(program.pid)
            settled(program.pid)
            woken = wakeups(program.pid)
            time.sleep(silence)
            woken = wakeups(program.pid) - woken
            found[name] = (*memory(program.pid), status(program.pid, "Threads"), woken)
            program.process.send_signal(signal.SIGTERM)
            program.ended()
    rows = [
        ("resident, with a runner", "≤ 9 MiB", "MiB", 1024),
        ("private dirty", "≤ 1.45 MiB", "MiB", 1024),
        ("threads between heartbeats", "≤ 2", "", 1),
        (f"wakeups in {silence} s between heartbeats", "0", "", 1),
    ]
    for place, (figure, goal, unit, divisor) in enumerate(rows):
        values = {name: [numbers[place] / divisor] for name, numbers in found.items()}
        bench.row(figure, goal, unit, values)


def wait_for_child(pid):
    limit = time.monotonic() + HANG
    while not Path(f"/proc/{pid}/task/{pid}/children").read_text():
        assert time.monotonic() < limit, "no child"
        time.sleep(0.01)


@contextmanager
def crowd(bench, size):
    """Sleeping processes, until the host has `size` of them."""
    missing = size - sum(path.name.isdigit() for path in Path("/proc").iterdir())
    command = [bench.runner, "crowd", str(max(0, missing))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as crowd:
        assert crowd.stdout.readline(), "not so many processes are allowed"
        yield
        crowd.stdin.close()


class Pipe:
    """What the runner of a round reports."""

    def __init__(self, folder):
        self.path = str(folder / "pipe")
        os.mkfifo(self.path)
        # A file that is open for writing, too, has no end.
        self.file, self.rest = os.open(self.path, os.O_RDWR), b""

    def __getitem__(self, word):
        """Waits for the line of this word, which is the next. Returns its time in nanoseconds."""
        while b"\n" not in self.rest:
            assert select.select([self.file], [], [], HANG)[0], f"the runner does not {word}"
            self.rest += os.read(self.file, 4096)
        line, _, self.rest = self.rest.partition(b"\n")
        found, moment = line.decode().split()
        assert found == word, f"{found} instead of {word}"
        return int(moment)


def supervision(bench, endpoint, size, pipe):
    """The rows of a runner's start, stop and exit with `size` processes on the host."""
    variables = environment(endpoint, bench.folder)

    def session(name):
        command = supervisor(name, bench.folder, [bench.runner, pipe.path, "wait"])
        libraries = {"LD_LIBRARY_PATH": bench.libraries} if name == "s6-supervise" else {}
        with Started(command, variables | libraries) as program:
            start = pipe["start"] - program.begin
            if name == "taskbeat":
                endpoint.replied(command[3])
            stop = time.monotonic_ns()
            program.process.send_signal(signal.SIGTERM)
            stop = pipe["signal"] - stop
            exited = pipe["exit"]
            return [span / 1e6 for span in (start, stop, program.ended() - exited)]

    def wall(name):
        command = supervisor(name, bench.folder, ["true"])
        with Started(command, variables) as program:
            return (program.ended() - program.begin) / 1e6

    def terminate(_):
        sender = f"terminate-2.{new_id('runner')}"
        command = run(sender, "--", bench.runner, pipe.path, "wait", interval="50ms")
        with Started(command, variables) as program:
            assert pipe["start"]
            told = endpoint.replied(sender, 2)
            signalled = pipe["signal"]
            assert pipe["exit"]
            program.ended()
            return (signalled - told) / 1e6

    rounds = 3 if bench.quick else 100
    sessions = in_turn(SUPERVISORS, rounds, session)
    goals = ("≤ 2 x tini", "≤ 1 ms", "≤ 2 / 3 ms")
    figures = ("start to the runner's start", "SIGTERM to stop signal", "runner's exit to ours")
    for place, (figure, goal) in enumerate(zip(figures, goals)):
        found = {
            name: [spans and spans[place] for spans in turns] for name, turns in sessions.items()
        }
        bench.row(f"{figure}, {size} processes", goal, "ms", found, tail=place > 0)
    found = in_turn(("taskbeat",), rounds, terminate)
    bench.row(f"terminate to stop signal, {size} processes", "≤ 1 / 2 ms", "ms", found, tail=True)
    found = in_turn(("taskbeat", "tini", "dumb-init"), rounds, wall)
    bench.row(f"`run -- true`, {size} processes", "≤ 5 x tini", "ms", found)


def growth(bench, endpoint, before, after):
    """What `after` heartbeats add to what `before` have left."""
    sender = new_id("growth")
    with Started(run(sender, interval="10ms"), environment(endpoint, bench.folder)) as program:

        def used(count):
            endpoint.replied(sender, count)
            # A heartbeat in flight has some of its own.
            looks = [len(os.listdir(f"/proc/{program.pid}/fd")) for _ in range(1_000)]
            return memory(program.pid)[0], min(looks)

        start, end = used(before), used(before + after)
    figure = f"growth in {after:,} heartbeats, KiB"
    bench.row(figure, "≤ 64", "", {"taskbeat": [end[0] - start[0]]})
    bench.row("the same, descriptors", "0", "", {"taskbeat": [end[1] - start[1]]})


def build_time():
    with tempfile.TemporaryDirectory() as target:
        start = time.monotonic()
        build = ["cargo", "build", "--locked", "--release", "--target-dir", target]
        subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
        return time.monotonic() - start


def show(bench, seconds):
    for line in versions():
        print(line)
    print(f"measured in {seconds:.0f} s; load average at the end: {os.getloadavg()[0]:.1f}")
    print("\n| figure | goal | taskbeat | beside it |\n| --- | --- | --- | --- |")
    for row in bench.rows:
        print(f"| {' | '.join(row)} |")


def measure(bench, options):
    pipe = Pipe(bench.folder)
    http, tls = (Endpoint(bench.folder, tls=tls) for tls in (False, True))
    goals = ("≤ 1.2 x bare, curl ≥ 3 x, boto3 ≥ 40 x", "≤ 1.3 x bare")
    heartbeats(bench, tls, "TLS", goals)
    heartbeats(bench, http, "HTTP", ("≤ 1.3 x bare", ""))
    between(bench, tls, 5 if bench.quick else 30)
    for size in (1_000,) if bench.quick else (100, 1_000, 5_000):
        with crowd(bench, size):
            supervision(bench, http, size, pipe)
    size = {"taskbeat": [TASKBEAT.stat().st_size / 1e6]}
    if options.soak:
        growth(bench, http, 10_000, 90_000)
    elif not bench.quick:
        growth(bench, http, 1_000, 10_000)
    if not bench.quick:
        size["bare SDK"] = [BARE.stat().st_size / 1e6]
    bench.row("program", "≤ 7.5 MB", "MB", size)
    bench.row("crates", "", "", {"taskbeat": [crates()]})
    if options.build:
        bench.row("clean release build", "", "s", {"taskbeat": [build_time()]})
    http.end()
    tls.end()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rounds, without the bare SDK")
    parser.add_argument("--soak", action="store_true", help="100,000 heartbeats: 15 minutes more")
    parser.add_argument("--build", action="store_true", help="also time a clean release build")
    options = parser.parse_args()
    end_at_sigterm()
    libraries = prepare(options.quick)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), options.quick, libraries)
        measure(bench, options)
    show(bench, time.monotonic() - start)


if __name__ == "__main__":
    main()
