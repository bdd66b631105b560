"""The .deb and the .rpm: installed, upgraded and removed on a system that runs.

The system is Debian both times. rpm gets no word about what it needs, for there it knows of nothing that is installed;
what it would ask of Amazon Linux is looked at by itself.
"""

import os
import re
import shutil
import subprocess

import pytest

from conftest import REPOSITORY, needs

UNITS = sorted(path.name for path in (REPOSITORY / "systemd").glob("taskbeat*.service"))
DROP_INS = sorted(path.name for path in (REPOSITORY / "systemd/drop-ins").iterdir())
SETTINGS = """
taskrunner-id = "etl-1"
region = "us-east-1"
endpoint-url = "http://127.0.0.1:9"
command = "exec sleep 1000"
"""
CONFIG = "/etc/taskbeat/taskbeat.toml"


class Deb:
    built = "target/debian/*.deb"
    completions = "/usr/share/zsh/vendor-completions/_taskbeat"
    # Where the new configuration goes when the old one was edited.
    new = f"{CONFIG}.dpkg-dist"
    # The old one, after the package went.
    left = CONFIG
    install = upgrade = ("dpkg", "--force-confold", "--install")
    remove = ("dpkg", "--remove", "taskbeat")
    build_newer = ("cargo", "deb", "--no-build", "--locked", "--fast", "--deb-version=99.0.0", "--output=newer")


class Rpm:
    built = "target/generate-rpm/*.rpm"
    completions = "/usr/share/zsh/site-functions/_taskbeat"
    new = f"{CONFIG}.rpmnew"
    left = f"{CONFIG}.rpmsave"
    install = ("rpm", "--nodeps", "--install")
    upgrade = ("rpm", "--nodeps", "--upgrade")
    remove = ("rpm", "--nodeps", "--erase", "taskbeat")
    build_newer = (
        *("cargo", "generate-rpm", "--auto-req=builtin", "--payload-compress=none"),
        *('--set-metadata=version = "99.0.0"', "--output=newer"),
    )


@pytest.fixture(scope="session", params=[Deb, Rpm])
def kind(request):
    return request.param


@pytest.fixture(scope="session")
def packages(kind, tmp_path_factory):
    """A folder with a package, and in `newer` with the next version, whose configuration is another one, too."""
    needs("root", "-".join(kind.build_newer[:2]), (REPOSITORY / kind.built).parent)
    source = tmp_path_factory.mktemp(kind.__name__)
    files = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    for name in files.stdout.split("\0")[:-1]:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(REPOSITORY / name, source / name)
    # What was built is good enough.
    (source / "target").mkdir()
    for name in ("release", "docs"):
        (source / "target" / name).symlink_to(REPOSITORY / "target" / name)
    with (source / "config/taskbeat.toml").open("a") as file:
        file.write("\n# What the next version says.\n")
    (source / "newer").mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "CARGO_TARGET_DIR"}
    subprocess.run(kind.build_newer, cwd=source, env=environment, check=True)
    shutil.copy2(built(kind), source)
    return source


@pytest.fixture
def machine(boot, packages):
    return boot(packages)


@pytest.fixture
def package(kind):
    """Its path on the machine."""
    return f"/mnt/{built(kind).name}"


@pytest.fixture
def newer(packages):
    [package] = (packages / "newer").iterdir()
    return f"/mnt/newer/{package.name}"


def built(kind):
    """The one file that packaging/build made."""
    needs((REPOSITORY / kind.built).parent)
    [path] = REPOSITORY.glob(kind.built)
    return path


def configure(machine):
    machine.run("sh", "-c", f'printf %s "$1" >> {CONFIG}', "sh", SETTINGS)


def files(machine):
    """Everything that is installed or configured; of the folders, which the system may share, those that are ours."""
    ours = ["(", "!", "-type", "d", "-o", "-path", "*taskbeat*", ")"]
    said = machine.run("find", "/etc", "/usr", "/opt", "/srv", "-xdev", *ours, "-printf", "%p %m %l\n")
    return set(said.splitlines())


def fails(machine, status, *command):
    """What a command says that must end with this status."""
    done = machine.ask(*command)
    assert done.returncode == status, (command, done)
    return done.stdout + done.stderr


def states(machine):
    said = machine.run("systemctl", "list-unit-files", "--no-legend", "--plain", "taskbeat*")
    return {line.split()[0]: line.split()[1] for line in said.splitlines()}


def test_what_is_installed_works_and_waits_for_its_configuration(machine, kind, package):
    machine.run(*kind.install, package)
    version = re.search(r'^version = "(.*)"$', (REPOSITORY / "Cargo.toml").read_text(), re.MULTILINE)[1]
    assert machine.run("taskbeat", "--version") == f"taskbeat {version}\n"
    assert states(machine) == dict.fromkeys(UNITS, "disabled")
    assert machine.run("systemctl", "list-units", "--no-legend", "taskbeat*") == ""
    for path in (
        "/usr/share/man/man1/taskbeat.1.gz",
        "/usr/share/man/man1/taskbeat-run.1.gz",
        "/usr/share/man/man5/taskbeat.toml.5.gz",
        "/usr/share/bash-completion/completions/taskbeat",
        "/usr/share/fish/vendor_completions.d/taskbeat.fish",
        kind.completions,
        "/usr/share/doc/taskbeat/README.md",
        *(f"/usr/share/taskbeat/drop-ins/{name}" for name in DROP_INS),
        CONFIG,
    ):
        assert machine.run("stat", "--format=%a %U %G", path) == "644 root root\n", path
    assert "taskrunner-id is not set" in fails(machine, 78, "taskbeat", "check", "--config", CONFIG)
    configure(machine)
    machine.run("taskbeat", "check", "--config", CONFIG)
    machine.run("systemctl", "enable", "--now", "taskbeat")
    assert "in contact" in fails(machine, 69, "taskbeat", "status", "--config", CONFIG)


def test_an_upgrade_keeps_the_configuration_and_what_runs(machine, kind, package, newer):
    machine.run(*kind.install, package)
    configure(machine)
    machine.run("cp", CONFIG, "/tmp/edited")
    machine.run("systemctl", "enable", "--now", "taskbeat")
    before = machine.show("taskbeat", "MainPID")
    assert "until you restart them" in machine.run(*kind.upgrade, newer)
    machine.run("cmp", CONFIG, "/tmp/edited")
    assert "What the next version says" in machine.run("cat", kind.new)
    assert machine.show("taskbeat", "MainPID") == before
    assert machine.show("taskbeat", "NeedDaemonReload") == "no"
    assert states(machine)["taskbeat.service"] == "enabled"


def test_an_upgrade_replaces_a_configuration_that_nobody_edited(machine, kind, package, newer):
    machine.run(*kind.install, package)
    assert "restart" not in machine.run(*kind.upgrade, newer)
    assert "What the next version says" in machine.run("cat", CONFIG)


def test_a_configuration_that_came_before_the_package_is_kept(machine, kind, package):
    machine.run("mkdir", "/etc/taskbeat")
    machine.run("sh", "-c", f"printf %s \"$1\" > {CONFIG}", "sh", SETTINGS)
    machine.run(*kind.install, package)
    assert machine.run("cat", CONFIG) == SETTINGS
    machine.run("taskbeat", "check", "--config", CONFIG)


def test_a_removal_stops_and_forgets_everything(machine, kind, package):
    before = files(machine)
    machine.run(*kind.install, package)
    machine.run("cp", CONFIG, "/etc/taskbeat/second.toml")
    configure(machine)
    machine.run("sh", "-c", 'printf %s "$1" | sed s/etl-1/etl-2/ >> /etc/taskbeat/second.toml', "sh", SETTINGS)
    machine.run("systemctl", "enable", "--now", "taskbeat", "taskbeat@second")
    assert len(machine.run("pgrep", "--exact", "sleep").split()) == 2
    machine.run(*kind.remove)
    assert fails(machine, 1, "pgrep", "--exact", "sleep|taskbeat") == ""
    assert machine.run("systemctl", "list-units", "--all", "--no-legend", "taskbeat*") == ""
    assert fails(machine, 1, "systemctl", "list-unit-files", "--no-legend", "taskbeat*") == ""
    # Configuration is never thrown away, neither by rpm nor before a purge.
    kept = {line.split()[0] for line in files(machine) - before}
    assert kept == {"/etc/taskbeat", "/etc/taskbeat/second.toml", kind.left}


def test_a_package_leaves_nothing_behind(machine, kind, package):
    before = files(machine)
    machine.run(*kind.install, package)
    machine.run(*kind.remove)
    if kind is Deb:
        machine.run("dpkg", "--purge", "taskbeat")
    assert files(machine) == before


def test_a_purge_takes_the_edited_configuration_along(boot, tmp_path):
    shutil.copy2(built(Deb), tmp_path)
    machine = boot(tmp_path)
    before = files(machine)
    machine.run(*Deb.install, f"/mnt/{built(Deb).name}")
    configure(machine)
    machine.run("systemctl", "enable", "--now", "taskbeat")
    machine.run("dpkg", "--purge", "taskbeat")
    assert files(machine) == before


def test_images_are_made_where_no_systemd_runs(machine, kind, package):
    """The system as one that is not booted: no /run, no bus."""
    install, remove = " ".join(kind.install), " ".join(kind.remove)
    script = f"mount -t tmpfs none /run && {install} {package} && systemctl enable taskbeat && {remove}"
    machine.run("unshare", "--mount", "--pid", "--fork", "sh", "-c", script)
    assert machine.run("find", "/etc/systemd/system", "-name", "taskbeat*") == ""


def test_the_rpm_suits_amazon_linux_2023():
    needs("rpm")
    requires = subprocess.run(["rpm", "--query", "--package", "--requires", built(Rpm)], capture_output=True, text=True)
    assert requires.returncode == 0, requires.stderr
    needed = requires.stdout.split("\n")
    assert "ca-certificates" in needed
    glibc = {tuple(map(int, version.split("."))) for version in re.findall(r"\(GLIBC_([0-9.]+)\)", requires.stdout)}
    # Which also has to be what Containerfile.runner asks for.
    assert max(glibc) == (2, 34)


def test_lintian_has_nothing_to_say():
    needs("lintian")
    tags = ",".join(
        (
            # The changelog is ours and not Debian's.
            "debian-changelog-file-missing-or-wrong-name",
            "no-changelog",
            "wrong-name-for-upstream-changelog",
            # rpm, which runs the same script, does not have deb-systemd-invoke.
            "maintainer-script-calls-systemctl",
        )
    )
    lintian = ["lintian", "--allow-root", "--fail-on=error,warning", f"--suppress-tags={tags}", built(Deb)]
    said = subprocess.run(lintian, capture_output=True, text=True)
    assert (said.returncode, said.stdout) == (0, ""), said.stdout + said.stderr
