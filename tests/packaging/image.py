"""Builds images as an engine would, from the instructions that our Containerfiles use, and runs containers of them.

It stands in for an engine where none runs. What it does not know it refuses.
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
# What an engine puts into every container.
MOUNT_POINTS = ("proc", "dev", "sys")


@dataclass
class Image:
    """A root, and what is done with it when nobody says otherwise."""

    root: Path
    user: str = "0:0"
    workdir: str = "/"
    entrypoint: list = field(default_factory=list)
    command: list = field(default_factory=list)


def instructions(containerfile):
    """Pairs of an instruction and its arguments."""
    text = re.sub(r"^\s*#.*\n", "", containerfile.read_text(), flags=re.MULTILINE)
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip():
            yield line.split(maxsplit=1)


def build(containerfile, context, known, caches, folder):
    """The image of the last stage.

    `known` has the images that FROM may name, and `caches` what is mounted for `--mount=type=cache`, by its target.
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
            case "WORKDIR":
                stage.workdir = arguments
                inside(stage, arguments).mkdir(parents=True, exist_ok=True)
            case "COPY":
                *options, sources, target = re.fullmatch(r"(?:--from=(\S+) )?(.+) (\S+)", arguments).groups()
                origin = stages[options[0]].root if options[0] else context
                for source in sources.split():
                    copy(origin / source.lstrip("/"), inside(stage, target), target.endswith("/"))
            case "RUN":
                run(stage, arguments, caches)
            case "USER":
                stage.user = arguments
            case "ENTRYPOINT":
                stage.entrypoint = json.loads(arguments)
            case "CMD":
                stage.command = json.loads(arguments)
            case _:
                raise ValueError(f"{containerfile}: nobody knows {instruction}")
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
    """As COPY does: what is in a folder, or a file by its own or a new name."""
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
    else:
        target = target / source.name if into or target.is_dir() else target
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)


def run(stage, arguments, caches):
    """A RUN, by the stage's shell."""
    targets = re.findall(r"--mount=type=cache,target=(\S+)", arguments)
    script = re.sub(r"--mount=\S+ +", "", arguments)
    binds = {target: caches[target] for target in targets} | caches.get("always", {})
    for target in (*binds, "/proc", "/dev"):
        inside(stage, target).mkdir(parents=True, exist_ok=True)
    mounts = [f"mount --rbind {source} {inside(stage, target)}" for target, source in binds.items()]
    mounts += [f"mount -t proc proc {stage.root}/proc", f"mount --rbind /dev {stage.root}/dev"]
    enter = ["chroot", str(stage.root), "/bin/sh", "-ec", f"cd {stage.workdir}; {script}"]
    subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "sh", "-ec", f"{'; '.join(mounts)}; exec {shlex.join(enter)}"],
        env=os.environ | caches.get("environment", {}),
        stdin=subprocess.DEVNULL,
        timeout=HANG,
        check=True,
    )


class Container:
    """A process of the image's own user, as PID 1 of its namespaces, on a root that nobody can write to.

    With a `pod` it has that one's processes, and is not PID 1. `volumes` are folders and `files` are files, by where
    they are mounted.
    """

    def __init__(self, image, arguments=(), entrypoint=None, environment=None, pod=None, volumes=None, files=None):
        volumes, files = volumes or {}, files or {}
        for path in (*MOUNT_POINTS, *volumes):
            (image.root / path.lstrip("/")).mkdir(parents=True, exist_ok=True)
        root = shlex.quote(str(image.root))
        mounts = [f"mount --rbind {root} {root}"]
        mounts += [f"mount -t proc proc {root}/proc", f"mount --bind /dev {root}/dev"]
        mounts += [f"mount --bind {source} {root}{target}" for target, source in (volumes | files).items()]
        mounts += [f"mount -o remount,bind,ro {root}"]
        command = [*(entrypoint or image.entrypoint), *(arguments or image.command)]
        # As engines do: no way to more rights than the user has.
        enter = ["setpriv", "--no-new-privs", "chroot", f"--userspec={image.user}", "--groups=", str(image.root)]
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
        """Its first process, as it is known outside."""
        [pid] = children(self.process.pid)
        return pid

    def wait_for(self, pattern):
        """What it says, sooner or later."""
        said, deadline = "", time.monotonic() + HANG
        while select.select([self.process.stdout], [], [], deadline - time.monotonic())[0]:
            said += (read := os.read(self.process.stdout.fileno(), 4096).decode())
            if found := re.search(pattern, said):
                return found
            if not read:
                break
        raise AssertionError(f"no {pattern!r} in:\n{said}")

    def signal(self, number):
        os.kill(self.pid, number)

    def end(self):
        """Its status, and the rest of what it said."""
        said = self.process.communicate(timeout=HANG)[0]
        return self.process.returncode, said

    def kill(self):
        """Its own processes first: they have changed their user, and so do not end with what made the namespaces."""
        for pid in children(self.process.pid):
            os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.communicate(timeout=HANG)
