"""packaging/release, in a repository whose packages are not really built."""

import hashlib
import os
import re
import shutil
import subprocess

import pytest

from conftest import REPOSITORY

VERSION = re.search(
    r'^version = "(.*)"$', (REPOSITORY / "Cargo.toml").read_text(), re.MULTILINE
)[1]
SECTION = f"## [{VERSION}] - 2026-01-02\n\n### Added\n\n- The first version.\n\n## [0.0.1] - 2026\n"
BUILD = """#!/bin/sh
mkdir -p target/debian target/docs target/generate-rpm
echo components of $2 >target/docs/taskbeat.cdx.json
echo $3 >target/debian/taskbeat_$2.deb
echo $4 >target/generate-rpm/taskbeat_$2.rpm
"""
TARGETS = ("aarch64-unknown-linux-gnu", "x86_64-unknown-linux-gnu")


@pytest.fixture
def repository(tmp_path):
    """A repository with a commit that may be released, but for its tag."""
    (tmp_path / "packaging").mkdir()
    for name in ("Cargo.toml", "packaging/release"):
        shutil.copy2(REPOSITORY / name, tmp_path / name)
    (tmp_path / "packaging/build").write_text(BUILD)
    (tmp_path / "packaging/build").chmod(0o755)
    (tmp_path / "CHANGELOG.md").write_text(f"# Changelog\n\n## [Unreleased]\n\n{SECTION}\n- Old.\n")
    (tmp_path / ".gitignore").write_text("/target\n")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "--quiet", "--message=Release")
    return tmp_path


def git(repository, *command):
    identity = ("-c", "user.name=taskbeat", "-c", "user.email=maintainers@taskbeat.invalid")
    command = ("git", *identity, *command)
    return subprocess.run(
        command, cwd=repository, check=True, capture_output=True, text=True
    ).stdout.strip()


def release(repository):
    return subprocess.run(
        ["packaging/release"], cwd=repository, capture_output=True, text=True, check=False
    )


def test_a_release_has_all_packages_their_checksums_and_the_notes(repository):
    git(repository, "tag", f"v{VERSION}")
    done = release(repository)
    assert (done.returncode, done.stderr) == (0, "")
    dist = repository / "target/dist"
    packages = sorted(f"taskbeat_{target}.{kind}" for target in TARGETS for kind in ("deb", "rpm"))
    components = {
        f"taskbeat-{VERSION}.{target.split('-')[0]}.cdx.json": f"components of {target}\n"
        for target in TARGETS
    }
    files = sorted([*components, *packages])
    assert done.stdout.split() == ["NOTES.md", "SHA256SUMS", *files]
    assert {name: (dist / name).read_text() for name in components} == components
    assert dict(line.split()[::-1] for line in (dist / "SHA256SUMS").read_text().splitlines()) == {
        name: hashlib.sha256((dist / name).read_bytes()).hexdigest() for name in files
    }
    assert (dist / "NOTES.md").read_text() == "\n### Added\n\n- The first version.\n\n"


def test_a_release_of_a_commit_that_is_not_ready_is_refused(repository):
    (repository / "CHANGELOG.md").write_text("# Changelog\n\n## [Unreleased]\n")
    done = release(repository)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "release: the work tree has changes that are not committed",
        f"release: the commit does not have the tag v{VERSION}",
        f'release: CHANGELOG.md has no section "## [{VERSION}] - DATE"',
    ]
    assert not (repository / "target").exists()


def test_packaging_build_names_missing_tools_before_it_builds(tmp_path):
    for command in ("bash", "rustc", "sed", "dirname"):
        (tmp_path / command).symlink_to(shutil.which(command))
    done = subprocess.run(
        [REPOSITORY / "packaging/build", "--target", "riscv64gc-unknown-linux-gnu", "deb", "rpm"],
        env=os.environ | {"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (69, "")
    assert [line.strip() for line in done.stdout.splitlines()[1:]] == [
        "pip install --requirement packaging/requirements.txt",
        "cargo install --locked --debug cargo-auditable",
        "cargo install --locked --debug cargo-cyclonedx",
        "rustup target add riscv64gc-unknown-linux-gnu",
        "cargo install --locked --debug cargo-deb",
        "cargo install --locked --debug cargo-generate-rpm",
    ]
