"""Builds images from Containerfiles and runs containers of them, where no engine can run.

It has the instructions that the Containerfiles of packaging/ use, and refuses others.
"""

import json
import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from machine import children

# A limit for hangs; no test waits for it.
HANG = 600
# The folders that an engine mounts in every container.
MOUNT_POINTS = ("proc", "dev", "sys")


@dataclass
class Image:
    """A root and the defaults for containers of it."""

    root: Path
    user: str = "0:0"
    workdir: str = "/"
    stop_signal: str | None = None
    entrypoint: list = field(default_factory=list)
    command: list = field(default_factory=list)


def instructions(containerfile):
    """Pairs of an instruction and its arguments."""
    text = re.sub(r"^\s*#.*\n", "", containerfile.read_text(), flags=re.MULTILINE)
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip():
            yield line.split(maxsplit=1)


def build(containerfile, context, known, environment, folder):
    """The image of the last stage.

    `known` maps the images that FROM may name to roots. The commands have `environment`, which has
    the engine's arguments.
    """
    stages, stage = {}, None
    for number, (instruction, arguments) in enumerate(instructions(containerfile)):
        match instruction:
            case "FROM":
                base, _, name = arguments.partition(" AS ")
                root = folder / f"stage{number}"
                root.mkdir()
                if base != "scratch":
                    overlay(known[base], root, folder / f"changes{number}")
                stage = stages[name or number] = Image(root)
            case "ARG":
                assert arguments in environment, arguments
            case "WORKDIR":
                stage.workdir = arguments
                inside(stage, arguments).mkdir(parents=True, exist_ok=True)
            case "COPY":
                *options, sources, target = re.fullmatch(
                    r"(?:--from=(\S+) )?(.+) (\S+)", arguments
                ).groups()
                origin = stages[options[0]].root if options[0] else context
                for source in sources.split():
                    copy(origin / source.lstrip("/"), inside(stage, target), target.endswith("/"))
            case "RUN":
                run(stage, arguments, environment)
            case "USER":
                stage.user = arguments
            case "STOPSIGNAL":
                stage.stop_signal = arguments
            case "ENTRYPOINT":
                stage.entrypoint = json.loads(arguments)
            case "CMD":
                stage.command = json.loads(arguments)
            case _:
                raise ValueError(f"{containerfile}: unknown instruction {instruction}")
    return stage


def inside(stage, path):
    return stage.root / os.path.join(stage.workdir, path).lstrip("/")


def overlay(lower, root, changes):
    changes.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", changes], check=True)
    for name in ("upper", "work"):
        (changes / name).mkdir()
    options = f"lowerdir={lower},upperdir={changes}/upper,workdir={changes}/work"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, root], check=True)


def copy(source, target, into):
    """COPY: the contents of a folder, or a file under its own or a new name."""
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
    else:
        target = target / source.name if into or target.is_dir() else target
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)


def run(stage, script, environment):
    """RUN: a script in the stage's shell."""
    for target in ("/proc", "/dev"):
        inside(stage, target).mkdir(parents=True, exist_ok=True)
    mounts = [f"mount -t proc proc {stage.root}/proc", f"mount --rbind /dev {stage.root}/dev"]
    enter = ["chroot", str(stage.root), "/bin/sh", "-ec", f"cd {stage.workdir}; {script}"]
    subprocess.run(
        [
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "sh",
            "-ec",
            f"{'; '.join(mounts)}; exec {shlex.join(enter)}",
        ],
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        timeout=HANG,
        check=True,
    )


class Container:
    """A process of the image's user, as PID 1 of a PID namespace, on a read-only root.

    With a `pod`, another container, it shares that one's PID namespace. `volumes` and `files` map
    paths in the container to the folders and files that are mounted there.
    """

    def __init__(
        self,
        image,
        arguments=(),
        entrypoint=None,
        environment=None,
        pod=None,
        volumes=None,
        files=None,
    ):
        volumes, files = volumes or {}, files or {}
        for path in (*MOUNT_POINTS, *volumes):
            (image.root / path.lstrip("/")).mkdir(parents=True, exist_ok=True)
        root = shlex.quote(str(image.root))
        mounts = [f"mount --rbind {root} {root}"]
        mounts += [f"mount -t proc proc {root}/proc", f"mount --bind /dev {root}/dev"]
        mounts += [
            f"mount --bind {source} {root}{target}" for target, source in (volumes | files).items()
        ]
        mounts += [f"mount -o remount,bind,ro {root}"]
        command = [*(entrypoint or image.entrypoint), *(arguments or image.command)]
        # Like an engine, without a way to further privileges.
        enter = [
            "setpriv",
            "--no-new-privs",
            "chroot",
            f"--userspec={image.user}",
            "--groups=",
            str(image.root),
        ]
        script = f"{'; '.join(mounts)}; cd /; exec {shlex.join([*enter, *command])}"
        namespaces = ["unshare", "--mount"]
        if pod:
            namespaces = ["nsenter", f"--target={pod.pid}", "--pid", "--", *namespaces]
        else:
            namespaces += ["--pid", "--fork"]
        self.process = subprocess.Popen(
            [*namespaces, "sh", "-ec", script],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"} | (environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @property
    def pid(self):
        """The id on this host of the container's first process."""
        [pid] = children(self.process.pid)
        return pid

    def wait_for(self, pattern):
        """Waits for output that matches."""
        output, deadline = "", time.monotonic() + HANG
        while select.select([self.process.stdout], [], [], deadline - time.monotonic())[0]:
            output += (read := os.read(self.process.stdout.fileno(), 4096).decode())
            if found := re.search(pattern, output):
                return found
            if not read:
                break
        raise AssertionError(f"no {pattern!r} in:\n{output}")

    def signal(self, number):
        os.kill(self.pid, number)

    def end(self):
        """Waits for its end, and returns its status and the rest of its output."""
        output = self.process.communicate(timeout=HANG)[0]
        return self.process.returncode, output

    def kill(self):
        """Kills the container's processes before `unshare`: as another user, they outlive it."""
        for pid in children(self.process.pid):
            os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.communicate(timeout=HANG)
