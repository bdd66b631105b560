"""The lists of components in the packages, against Cargo.lock and the schema of CycloneDX."""

import hashlib
import json
import os
import re
import tomllib
import zlib
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from conftest import ARCHITECTURE, REPOSITORY, needs, output

PROGRAM = "/usr/bin/taskbeat"
COMPONENTS = "/usr/share/doc/taskbeat/taskbeat.cdx.json"
LOCK = {
    (package["name"], package["version"]): package.get("checksum")
    for package in tomllib.loads((REPOSITORY / "Cargo.lock").read_text())["package"]
}


@pytest.fixture
def unpacked(of_architecture, tmp_path):
    """The architecture, and the contents of the program and of the list in its .deb."""
    architecture, deb, _ = of_architecture
    output("dpkg-deb", "--extract", deb, tmp_path)
    return architecture, *(Path(f"{tmp_path}{path}").read_bytes() for path in (PROGRAM, COMPONENTS))


def embedded(program, path):
    """What `cargo auditable` writes: JSON, compressed, in a section of its own."""
    path.write_bytes(program)
    sections = output("readelf", "--section-headers", "--wide", path)
    place = re.search(r" \.dep-v0 +PROGBITS +\w+ (\w+) (\w+) ", sections)
    offset, size = (int(number, 16) for number in place.groups())
    return json.loads(zlib.decompress(program[offset : offset + size]))["packages"]


def compiled(architecture):
    """The packages that cargo compiles into the program, and those that build scripts use."""
    target = f"{architecture}-unknown-linux-gnu"
    options = ("--edges=normal,build", "--prefix=none", "--format={p}", f"--target={target}")
    tree = output("cargo", "tree", "--locked", *options)
    return set(re.findall(r"^(\S+) v(\S+)", tree, re.MULTILINE))


def test_the_program_contains_the_list_of_its_dependencies(unpacked, tmp_path):
    needs("readelf", "cargo")
    architecture, program, _ = unpacked
    packages = embedded(program, tmp_path / "program")
    listed = {(package["name"], package["version"]) for package in packages}
    # cargo's metadata add dependencies of features that only the tests turn on.
    assert compiled(architecture) <= listed <= LOCK.keys()
    sources = {package["name"] for package in packages if package["source"] != "crates.io"}
    assert sources == {"taskbeat"}


def test_the_list_beside_the_program_is_valid_and_the_same(unpacked, tmp_path):
    needs("readelf")
    architecture, program, text = unpacked
    assert JsonStrictValidator(SchemaVersion.V1_5).validate_str(text.decode()) is None
    bom = json.loads(text)
    assert "serialNumber" not in bom
    assert {"value": f"{architecture}-unknown-linux-gnu"}.items() <= (
        bom["metadata"]["properties"][0].items()
    )
    components = {
        (component["name"], component["version"]): component["hashes"][0]["content"]
        for component in bom["components"]
    }
    packages = embedded(program, tmp_path / "program")
    names = {(package["name"], package["version"]) for package in packages}
    itself = (bom["metadata"]["component"]["name"], bom["metadata"]["component"]["version"])
    assert components.keys() | {itself} == names
    assert components == {name: LOCK[name] for name in components}


def test_both_packages_have_the_same_program_and_no_path_of_their_builder(
    of_architecture, unpacked
):
    needs("rpm")
    # PATH, SIZE, TIME, DIGEST and more.
    files = output("rpm", "--query", "--package", "--dump", of_architecture[2]).splitlines()
    digests = {line.split()[0]: line.split()[3] for line in files}
    cargo = os.environ.get("CARGO_HOME", Path.home() / ".cargo")
    # CI does not optimise the other architecture's program, and aws-lc then keeps its paths.
    folders = (REPOSITORY, cargo) if unpacked[0] == ARCHITECTURE else (REPOSITORY,)
    for path, content in zip((PROGRAM, COMPONENTS), unpacked[1:], strict=True):
        assert digests[path] == hashlib.sha256(content).hexdigest(), path
        for folder in folders:
            assert f"{folder}/".encode() not in content, (path, folder)
