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


COMMANDS = ["run", "once", "check", "status", "rehearse"]
PAGES = ["taskbeat.1", *(f"taskbeat-{command}.1" for command in COMMANDS), "taskbeat.toml.5"]


def unpacked(name):
    return gzip.decompress((DOCS / f"{name}.gz").read_bytes())


def test_each_command_has_a_page():
    needs(DOCS)
    assert sorted(path.stem for path in DOCS.glob("*.gz")) == sorted(PAGES)


@pytest.mark.parametrize("name", PAGES)
def test_groff_and_mandoc_accept_every_page(name, tmp_path):
    needs("groff", "mandoc", DOCS)
    page = tmp_path / name
    page.write_bytes(unpacked(name))
    groff = ["groff", "-man", "-ww", "-z", "-Tutf8", page]
    done = subprocess.run(groff, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    lint = ["mandoc", "-T", "lint", "-W", "warning", page]
    warnings = subprocess.run(lint, capture_output=True, text=True).stdout.splitlines()
    # With a date, each day would make another page of the same source.
    assert [line for line in warnings if "missing date" not in line] == []


def test_every_setting_is_on_its_page():
    needs(DOCS)
    config = (REPOSITORY / "config/taskbeat.toml").read_text()
    keys = re.findall(r"^#([a-z-]+) = ", config, re.MULTILINE)
    assert len(keys) > 10
    for key in keys:
        escaped = key.replace("-", r"\-").encode()
        assert rb"\fB%s\fR" % escaped in unpacked("taskbeat.toml.5"), key
        if key != "command":
            assert rb"\fB\-\-%s\fR" % escaped in unpacked("taskbeat-run.1"), key


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_every_option_is_on_the_page_of_its_command(command):
    needs(DOCS, TASKBEAT)
    words = [command] if command else []
    help_text = run(TASKBEAT, *words, "--help")
    if not command:
        assert re.findall(r"^  (\w+)  ", help_text, re.MULTILINE) == [*COMMANDS, "help"]
    page = unpacked("-".join(["taskbeat", *words]) + ".1").decode().replace("\\", "")
    options = re.findall(r"^ +(?:-\w, |    )(--[a-z-]+)", help_text, re.MULTILINE)
    assert "--help" in options
    for option in options:
        assert re.search(rf"fB(-\w)?(fR, fB)?{option}fR", page), option


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
