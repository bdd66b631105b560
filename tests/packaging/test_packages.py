"""The .deb and the .rpm: installed, upgraded and removed on a running system.

The system is Debian for both. There, rpm knows no installed package, so it ignores dependencies; a
test of its own checks those for Amazon Linux.
"""

import os
import re
import shutil
import subprocess

import pytest

from conftest import REPOSITORY, needs

UNITS = sorted(path.name for path in (REPOSITORY / "systemd").glob("taskbeat*.service"))
PROMETHEUS = sorted(
    path.name for path in (REPOSITORY / "packaging/prometheus").iterdir() if path.suffix
)
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
    # The new configuration file, if the old one was edited.
    new = f"{CONFIG}.dpkg-dist"
    # The old one, after a removal.
    left = CONFIG
    install = upgrade = ("dpkg", "--force-confold", "--install")
    remove = ("dpkg", "--remove", "taskbeat")
    build_newer = (
        "cargo",
        "deb",
        "--no-build",
        "--locked",
        "--fast",
        "--deb-version=99.0.0",
        "--output=newer",
    )


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
    """A folder with a package, and in `newer` the next version with another configuration file."""
    needs("root", "-".join(kind.build_newer[:2]), (REPOSITORY / kind.built).parent)
    source = tmp_path_factory.mktemp(kind.__name__)
    files = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    for name in files.stdout.split("\0")[:-1]:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(REPOSITORY / name, source / name)
    # Reuse the build of packaging/build.
    (source / "target").mkdir()
    for name in ("release", "docs"):
        (source / "target" / name).symlink_to(REPOSITORY / "target" / name)
    with (source / "config/taskbeat.toml").open("a") as file:
        file.write("\n# A comment of the next version.\n")
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
    """The file that packaging/build made."""
    needs((REPOSITORY / kind.built).parent)
    [path] = REPOSITORY.glob(kind.built)
    return path


def configure(machine):
    machine.run("sh", "-c", f'printf %s "$1" >> {CONFIG}', "sh", SETTINGS)


def files(machine):
    """All installed files, and the folders of taskbeat."""
    which = ["(", "!", "-type", "d", "-o", "-path", "*taskbeat*", ")"]
    places = ["/etc", "/usr", "/opt", "/srv"]
    output = machine.run("find", *places, "-xdev", *which, "-printf", "%p %m %l\n")
    return set(output.splitlines())


def fails(machine, status, *command):
    """The output of a command, which must exit with this status."""
    done = machine.attempt(*command)
    assert done.returncode == status, (command, done)
    return done.stdout + done.stderr


def states(machine):
    units = machine.run("systemctl", "list-unit-files", "--no-legend", "--plain", "taskbeat*")
    return {line.split()[0]: line.split()[1] for line in units.splitlines()}


def test_an_installed_package_works_once_it_is_configured(machine, kind, package):
    machine.run(*kind.install, package)
    version = re.search(
        r'^version = "(.*)"$', (REPOSITORY / "Cargo.toml").read_text(), re.MULTILINE
    )[1]
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
        "/usr/share/doc/taskbeat/status.schema.json",
        *(f"/usr/share/taskbeat/drop-ins/{name}" for name in DROP_INS),
        *(f"/usr/share/taskbeat/prometheus/{name}" for name in PROMETHEUS),
        CONFIG,
    ):
        assert machine.run("stat", "--format=%a %U %G", path) == "644 root root\n", path
    assert machine.run("stat", "--format=%a", "/usr/share/taskbeat/prometheus/textfile") == "755\n"
    assert "taskrunner-id is not set" in fails(machine, 78, "taskbeat", "check", "--config", CONFIG)
    configure(machine)
    machine.run("taskbeat", "check", "--config", CONFIG)
    machine.run("systemctl", "enable", "--now", "taskbeat")
    assert "in contact" in fails(machine, 69, "taskbeat", "status", "--config", CONFIG)


def test_an_upgrade_keeps_the_edited_configuration_and_running_services(
    machine, kind, package, newer
):
    machine.run(*kind.install, package)
    configure(machine)
    machine.run("cp", CONFIG, "/tmp/edited")
    machine.run("systemctl", "enable", "--now", "taskbeat")
    before = machine.show("taskbeat", "MainPID")
    assert "until you restart them" in machine.run(*kind.upgrade, newer)
    machine.run("cmp", CONFIG, "/tmp/edited")
    assert "A comment of the next version" in machine.run("cat", kind.new)
    assert machine.show("taskbeat", "MainPID") == before
    assert machine.show("taskbeat", "NeedDaemonReload") == "no"
    assert states(machine)["taskbeat.service"] == "enabled"


def test_an_upgrade_replaces_an_unedited_configuration(machine, kind, package, newer):
    machine.run(*kind.install, package)
    assert "restart" not in machine.run(*kind.upgrade, newer)
    assert "A comment of the next version" in machine.run("cat", CONFIG)


def test_a_configuration_older_than_the_package_is_kept(machine, kind, package):
    machine.run("mkdir", "/etc/taskbeat")
    machine.run("sh", "-c", f'printf %s "$1" > {CONFIG}', "sh", SETTINGS)
    machine.run(*kind.install, package)
    assert machine.run("cat", CONFIG) == SETTINGS
    machine.run("taskbeat", "check", "--config", CONFIG)


def test_a_removal_stops_and_disables_all_services(machine, kind, package):
    before = files(machine)
    machine.run(*kind.install, package)
    machine.run("cp", CONFIG, "/etc/taskbeat/second.toml")
    configure(machine)
    machine.run(
        "sh",
        "-c",
        'printf %s "$1" | sed s/etl-1/etl-2/ >> /etc/taskbeat/second.toml',
        "sh",
        SETTINGS,
    )
    machine.run("systemctl", "enable", "--now", "taskbeat", "taskbeat@second")
    assert len(machine.run("pgrep", "--exact", "sleep").split()) == 2
    machine.run(*kind.remove)
    assert fails(machine, 1, "pgrep", "--exact", "sleep|taskbeat") == ""
    assert machine.run("systemctl", "list-units", "--all", "--no-legend", "taskbeat*") == ""
    assert fails(machine, 1, "systemctl", "list-unit-files", "--no-legend", "taskbeat*") == ""
    # rpm keeps edited configuration, and dpkg keeps it until a purge.
    kept = {line.split()[0] for line in files(machine) - before}
    assert kept == {"/etc/taskbeat", "/etc/taskbeat/second.toml", kind.left}


def test_a_package_leaves_nothing_behind(machine, kind, package):
    before = files(machine)
    machine.run(*kind.install, package)
    machine.run(*kind.remove)
    if kind is Deb:
        machine.run("dpkg", "--purge", "taskbeat")
    assert files(machine) == before


def test_a_purge_removes_the_edited_configuration(boot, tmp_path):
    shutil.copy2(built(Deb), tmp_path)
    machine = boot(tmp_path)
    before = files(machine)
    machine.run(*Deb.install, f"/mnt/{built(Deb).name}")
    configure(machine)
    machine.run("systemctl", "enable", "--now", "taskbeat")
    machine.run("dpkg", "--purge", "taskbeat")
    assert files(machine) == before


def test_a_package_can_be_installed_without_a_running_systemd(machine, kind, package):
    """As in the build of an image: no /run, no bus."""
    install, remove = " ".join(kind.install), " ".join(kind.remove)
    script = (
        f"mount -t tmpfs none /run && {install} {package} && systemctl enable taskbeat && {remove}"
    )
    machine.run("unshare", "--mount", "--pid", "--fork", "sh", "-c", script)
    assert machine.run("find", "/etc/systemd/system", "-name", "taskbeat*") == ""


def test_the_rpm_can_be_installed_on_amazon_linux_2023():
    needs("rpm")
    requires = subprocess.run(
        ["rpm", "--query", "--package", "--requires", built(Rpm)], capture_output=True, text=True
    )
    assert requires.returncode == 0, requires.stderr
    needed = requires.stdout.split("\n")
    assert "ca-certificates" in needed
    glibc = {
        tuple(map(int, version.split(".")))
        for version in re.findall(r"\(GLIBC_([0-9.]+)\)", requires.stdout)
    }
    # Containerfile.runner names the same version.
    assert max(glibc) == (2, 34)


def test_lintian_reports_nothing():
    needs("lintian")
    tags = ",".join(
        (
            # The changelog is not in Debian's format.
            "debian-changelog-file-missing-or-wrong-name",
            "no-changelog",
            "wrong-name-for-upstream-changelog",
            # rpm runs the same script, and has no deb-systemd-invoke.
            "maintainer-script-calls-systemctl",
        )
    )
    lintian = [
        "lintian",
        "--allow-root",
        "--fail-on=error,warning",
        f"--suppress-tags={tags}",
        built(Deb),
    ]
    done = subprocess.run(lintian, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
