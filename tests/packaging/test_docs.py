"""The man pages and completions, read by man page formatters and shells."""

import gzip
import re
import subprocess

import pytest

from conftest import REPOSITORY, needs
from machine import TASKBEAT

DOCS = REPOSITORY / "target/docs"
SHELL = {
    "bash": """
        source {docs}/taskbeat.bash
        # bash has this builtin only during a completion.
        compopt() {{ :; }}
        COMP_WORDS=({words}) COMP_CWORD=$(({count} - 1))
        _taskbeat taskbeat "${{COMP_WORDS[-1]}}" "${{COMP_WORDS[-2]}}"
        printf '%s\\n' "${{COMPREPLY[@]}}"
        complete -p taskbeat >&2""",
    "fish": "source {docs}/taskbeat.fish; complete --do-complete '{words}'",
}


def run(*command):
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(params=["taskbeat.1", "taskbeat.toml.5"])
def page(request, tmp_path):
    packed = DOCS / f"{request.param}.gz"
    needs("groff", "mandoc", packed)
    page = tmp_path / request.param
    page.write_bytes(gzip.decompress(packed.read_bytes()))
    return page


def test_groff_and_mandoc_accept_every_page(page):
    done = subprocess.run(
        ["groff", "-man", "-ww", "-z", "-Tutf8", page], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    lint = ["mandoc", "-T", "lint", "-W", "warning", page]
    warnings = subprocess.run(lint, capture_output=True, text=True).stdout.splitlines()
    # With a date, each day would make another page of the same source.
    assert [line for line in warnings if "missing date" not in line] == []


def test_every_setting_is_on_its_page():
    needs(DOCS)
    pages = {
        name: gzip.decompress((DOCS / f"{name}.gz").read_bytes())
        for name in ("taskbeat.1", "taskbeat.toml.5")
    }
    config = (REPOSITORY / "config/taskbeat.toml").read_text()
    keys = re.findall(r"^#([a-z-]+) = ", config, re.MULTILINE)
    assert len(keys) > 10
    for key in keys:
        escaped = key.replace("-", r"\-").encode()
        assert rb"\fB%s\fR" % escaped in pages["taskbeat.toml.5"], key
        if key != "command":
            assert rb"\fB\-\-%s\fR" % escaped in pages["taskbeat.1"], key


def test_every_option_is_on_the_page():
    needs(DOCS, TASKBEAT)
    page = gzip.decompress((DOCS / "taskbeat.1.gz").read_bytes()).decode().replace("\\", "")
    commands = re.findall(r"^  (\w+)  ", run(TASKBEAT, "--help"), re.MULTILINE)
    assert {"run", "once", "check", "status", "rehearse", "help"} == set(commands)
    options = set()
    for command in ([], *([command] for command in commands if command != "help")):
        options |= set(
            re.findall(
                r"^ +(?:-\w, |    )(--[a-z-]+)", run(TASKBEAT, *command, "--help"), re.MULTILINE
            )
        )
    assert {"--interval", "--json", "--online", "--listen", "--help", "--version"} <= options
    for option in options:
        assert re.search(rf"fB(-\w, )?{option}fR", page), option


@pytest.mark.parametrize("shell", SHELL)
def test_shells_complete_commands_options_values_and_paths(shell, tmp_path):
    needs(shell, DOCS)
    (tmp_path / "taskbeat.toml").touch()

    def complete(*words):
        script = SHELL[shell].format(docs=DOCS, words=" ".join(words), count=len(words))
        return {line.split("\t")[0] for line in run(shell, "-c", script).splitlines()}

    assert complete("taskbeat", "re") == {"rehearse"}
    assert complete("taskbeat", "run", "--stop-s") == {"--stop-signal", "--stop-scope"}
    assert complete("taskbeat", "run", "--stop-signal", "U") == {"USR1", "USR2"}
    assert complete("taskbeat", "once", "--log-format", "j") == {"json"}
    assert complete("taskbeat", "run", "--config", f"{tmp_path}/task") == {
        f"{tmp_path}/taskbeat.toml"
    }


def test_zsh_finds_its_completions():
    needs("zsh", DOCS)
    load = "autoload -U compinit; compinit -D -u; autoload +X _taskbeat"
    script = f"fpath=({DOCS} $fpath); {load}; echo $_comps[taskbeat]"
    assert run("zsh", "-fc", script) == "_taskbeat\n"
    run("zsh", "-n", str(DOCS / "_taskbeat"))
