"""The .deb and the .rpm: installed, upgraded and removed on a running system.

The system is Debian for both. There, rpm knows no installed package, so it ignores dependencies; a
test of its own checks those for Amazon Linux.
"""

import os
import re
import shutil
import subprocess

import pytest

from conftest import ARCHITECTURE, DEBIAN_ARCHITECTURE, HOST, REPOSITORY, needs

UNITS = sorted(path.name for path in (REPOSITORY / "systemd").glob("taskbeat*.service"))
PROMETHEUS = sorted(
    path.name for path in (REPOSITORY / "packaging/prometheus").iterdir() if path.suffix
)
# The pages to which README.md links, under the same relative paths.
PAGES = sorted(
    set(re.findall(r"\]\((docs/[a-z]+\.md|SECURITY\.md)", (REPOSITORY / "README.md").read_text()))
)
OLDER, NEWER = "0.0.1", "99.0.0"
DROP_INS = sorted(path.name for path in (REPOSITORY / "systemd/drop-ins").iterdir())
SETTINGS = """
taskrunner-id = "etl-1"
region = "us-east-1"
endpoint-url = "http://127.0.0.1:9"
command = "exec sleep 1000"
"""
REFERENCE = "/usr/share/taskbeat/taskbeat.toml"
# Of the machine's user: no package owns them.
CONFIG, SECOND = "/etc/taskbeat/taskbeat.toml", "/etc/taskbeat/second.toml"


class Deb:
    built = f"target/debian/*_{DEBIAN_ARCHITECTURE}.deb"
    completions = "/usr/share/zsh/vendor-completions/_taskbeat"
    install = upgrade = ("dpkg", "--install")
    remove = ("dpkg", "--remove", "taskbeat")
    # An earlier version of the package owned the configuration.
    owned = (
        '["config/taskbeat.toml", "usr/share/taskbeat/", "644"],',
        '["config/taskbeat.toml", "etc/taskbeat/", "644"],',
        'maintainer-scripts = "packaging/scripts"',
        'conf-files = ["/etc/taskbeat/taskbeat.toml"]',
    )

    @staticmethod
    def build(version):
        return (
            *("cargo", "deb", "--no-build", "--locked", "--fast", f"--target={HOST}"),
            *(f"--deb-version={version}", f"--output={version}"),
        )


class Rpm:
    built = f"target/generate-rpm/*.{ARCHITECTURE}.rpm"
    completions = "/usr/share/zsh/site-functions/_taskbeat"
    install = ("rpm", "--nodeps", "--install")
    upgrade = ("rpm", "--nodeps", "--upgrade")
    remove = ("rpm", "--nodeps", "--erase", "taskbeat")
    owned = (
        'dest = "/usr/share/taskbeat/", mode = "644" },\n    { source = "target/docs/taskbeat*.1',
        'dest = "/etc/taskbeat/", mode = "644", config = "noreplace" },\n'
        '    { source = "target/docs/taskbeat*.1',
    )

    @staticmethod
    def build(version):
        return (
            *("cargo", "generate-rpm", "--auto-req=disabled", "--payload-compress=none"),
            *(f"--target={HOST}", f'--set-metadata=version = "{version}"', f"--output={version}"),
        )


@pytest.fixture(scope="session", params=[Deb, Rpm])
def kind(request):
    return request.param


@pytest.fixture(scope="session")
def packages(kind, tmp_path_factory):
    """A folder with a package, and in folders of their names an older and a newer version."""
    needs("root", "-".join(kind.build("")[:2]), (REPOSITORY / kind.built).parent)
    source = tmp_path_factory.mktemp(kind.__name__)
    files = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    for name in files.stdout.split("\0")[:-1]:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(REPOSITORY / name, source / name)
    # Reuse the build of packaging/build.
    (source / "target").mkdir()
    for name in (HOST, "docs"):
        (source / "target" / name).symlink_to(REPOSITORY / "target" / name)
    shutil.copy2(built(kind), source)
    with (source / "config/taskbeat.toml").open("a") as file:
        file.write("\n# A comment of the next version.\n")
    build(kind, source, NEWER)
    manifest = (source / "Cargo.toml").read_text()
    for new, old in zip(kind.owned[::2], kind.owned[1::2], strict=True):
        assert manifest.count(new) == 1, new
        manifest = manifest.replace(new, old)
    (source / "Cargo.toml").write_text(manifest)
    build(kind, source, OLDER)
    return source


def build(kind, source, version):
    (source / version).mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "CARGO_TARGET_DIR"}
    subprocess.run(kind.build(version), cwd=source, env=environment, check=True)


@pytest.fixture
def machine(boot, packages):
    return boot(packages)


@pytest.fixture
def package(kind):
    """Its path on the machine."""
    return f"/mnt/{built(kind).name}"


@pytest.fixture
def newer(packages):
    [package] = (packages / NEWER).iterdir()
    return f"/mnt/{NEWER}/{package.name}"


@pytest.fixture
def older(packages):
    [package] = (packages / OLDER).iterdir()
    return f"/mnt/{OLDER}/{package.name}"


def built(kind):
    """The file that packaging/build made."""
    needs((REPOSITORY / kind.built).parent)
    [path] = REPOSITORY.glob(kind.built)
    return path


def configure(machine, config=CONFIG, identity="etl-1"):
    """Starts from the reference, as the documents say."""
    machine.run("install", "-D", "--mode=644", REFERENCE, config)
    settings = SETTINGS.replace("etl-1", identity)
    machine.run("sh", "-c", f'printf %s "$1" >> {config}', "sh", settings)


def files(machine):
    """All installed files, and the folders of taskbeat."""
    which = ["(", "!", "-type", "d", "-o", "-path", "*taskbeat*", ")"]
    places = ["/etc", "/usr", "/opt", "/srv"]
    output = machine.run("find", *places, "-xdev", *which, "-printf", "%p %m %l\n")
    return set(output.splitlines())


def configurations(machine):
    """The files in /etc/taskbeat."""
    return machine.run("find", "/etc/taskbeat", "-type", "f").split()


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
    expected = dict.fromkeys(UNITS, "disabled") | {"taskbeat-name@.service": "static"}
    assert states(machine) == expected
    assert machine.run("systemctl", "list-units", "--no-legend", "taskbeat*") == ""
    for path in (
        "/usr/share/man/man1/taskbeat.1.gz",
        "/usr/share/man/man1/taskbeat-run.1.gz",
        "/usr/share/man/man5/taskbeat.toml.5.gz",
        "/usr/share/bash-completion/completions/taskbeat",
        "/usr/share/fish/vendor_completions.d/taskbeat.fish",
        kind.completions,
        "/usr/share/doc/taskbeat/README.md",
        "/usr/share/doc/taskbeat/docs/status.schema.json",
        *(f"/usr/share/doc/taskbeat/{page}" for page in PAGES),
        *(f"/usr/share/taskbeat/drop-ins/{name}" for name in DROP_INS),
        *(f"/usr/share/taskbeat/prometheus/{name}" for name in PROMETHEUS),
        REFERENCE,
    ):
        assert machine.run("stat", "--format=%a %U %G", path) == "644 root root\n", path
    assert machine.run("stat", "--format=%a", "/usr/share/taskbeat/prometheus/textfile") == "755\n"
    check = ("taskbeat", "check", "--config", REFERENCE)
    assert "taskrunner-id is not set" in fails(machine, 78, *check)
    assert CONFIG in fails(machine, 78, "taskbeat", "check", "--config", CONFIG)
    configure(machine)
    machine.run("taskbeat", "check", "--config", CONFIG)
    machine.run("systemctl", "enable", "--now", "taskbeat")
    assert "in contact" in fails(machine, 69, "taskbeat", "status", "--config", CONFIG)


def test_an_upgrade_keeps_the_configuration_and_running_services(machine, kind, package, newer):
    machine.run(*kind.install, package)
    configure(machine)
    machine.run("cp", CONFIG, "/tmp/edited")
    machine.run("systemctl", "enable", "--now", "taskbeat")
    before = machine.show("taskbeat", "MainPID")
    assert "until you restart them" in machine.run(*kind.upgrade, newer)
    machine.run("cmp", CONFIG, "/tmp/edited")
    assert configurations(machine) == [CONFIG]
    assert "A comment of the next version" in machine.run("cat", REFERENCE)
    assert machine.show("taskbeat", "MainPID") == before
    assert machine.show("taskbeat", "NeedDaemonReload") == "no"
    assert states(machine)["taskbeat.service"] == "enabled"


@pytest.mark.parametrize("is_edited", [True, False])
def test_an_upgrade_keeps_a_configuration_that_the_old_package_owned(
    machine, kind, older, newer, is_edited
):
    """The reference differs, too: dpkg would ask, and fail without a terminal."""
    machine.run(*kind.install, older)
    if is_edited:
        machine.run("sh", "-c", f'printf %s "$1" >> {CONFIG}', "sh", SETTINGS)
    machine.run("cp", CONFIG, "/tmp/before")
    machine.run(*kind.upgrade, newer)
    machine.run("cmp", CONFIG, "/tmp/before")
    assert configurations(machine) == [CONFIG]


def test_a_configuration_older_than_the_package_is_kept(machine, kind, package):
    machine.run("mkdir", "/etc/taskbeat")
    machine.run("sh", "-c", f'printf %s "$1" > {CONFIG}', "sh", SETTINGS)
    machine.run(*kind.install, package)
    assert machine.run("cat", CONFIG) == SETTINGS
    machine.run("taskbeat", "check", "--config", CONFIG)


def test_a_removal_stops_all_services_and_leaves_the_configurations(machine, kind, package):
    before = files(machine)
    machine.run(*kind.install, package)
    configure(machine)
    configure(machine, SECOND, "etl-2")
    machine.run("systemctl", "enable", "--now", "taskbeat", "taskbeat@second")
    assert len(machine.run("pgrep", "--exact", "sleep").split()) == 2
    machine.run(*kind.remove)
    if kind is Deb:
        machine.run("dpkg", "--purge", "taskbeat")
    assert fails(machine, 1, "pgrep", "--exact", "sleep|taskbeat") == ""
    assert machine.run("systemctl", "list-units", "--all", "--no-legend", "taskbeat*") == ""
    assert fails(machine, 1, "systemctl", "list-unit-files", "--no-legend", "taskbeat*") == ""
    kept = {line.split()[0] for line in files(machine) - before}
    assert kept == {"/etc/taskbeat", CONFIG, SECOND}


def test_a_package_leaves_nothing_behind(machine, kind, package):
    before = files(machine)
    machine.run(*kind.install, package)
    machine.run(*kind.remove)
    if kind is Deb:
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
