"""docker-compose.yml: no secret in it, nothing open to the network; and where docker is, a Milvus that works."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from compsketch_milvus import SketchCollection
from compsketch_milvus.errors import ServerError
from compsketch_milvus.records import PhotoVector
from tests.integration.conftest import docker_answers

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"
SERVICES = yaml.safe_load(FILE.read_text(encoding="utf-8"))["services"]
# A variable that has to be set: compose refuses to start, with this message, where it is not.
REQUIRED = re.compile(r"\$\{\w+:\?[^}]+\}")


@pytest.mark.parametrize(
    ("profile", "milvus"), [("cpu", "milvusdb/milvus:v2.6.4"), ("gpu", "milvusdb/milvus:v2.6.4-gpu")]
)
def test_a_profile_is_one_milvus_with_all_it_needs(profile: str, milvus: str) -> None:
    images = {service["image"] for service in SERVICES.values() if profile in service["profiles"]}
    assert {image for image in images if image.startswith("milvusdb/")} == {milvus}
    assert len(images) == 4  # with etcd, minio and Attu


def test_both_milvus_answer_to_one_name_and_only_one_takes_the_gpu() -> None:
    cpu, gpu = SERVICES["standalone"], SERVICES["standalone-gpu"]
    assert gpu["networks"]["default"]["aliases"] == ["standalone"]
    assert gpu["deploy"]["resources"]["reservations"]["devices"][0]["driver"] == "nvidia"
    differ = ("deploy", "networks", "profiles", "image", "volumes")
    assert [{key: value for key, value in one.items() if key not in differ} for one in (cpu, gpu)] == [
        {key: value for key, value in cpu.items() if key not in differ}
    ] * 2


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_has_a_health_check_and_a_pinned_image(name: str) -> None:
    service = SERVICES[name]
    assert service["healthcheck"]["test"][0] == "CMD"
    assert re.search(r":(v\d+\.\d+\.\d+(-gpu)?|RELEASE\.[\dTZ-]+)$", service["image"])


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_what_a_service_waits_for_or_mounts_is_there(name: str) -> None:
    service = SERVICES[name]
    assert set(service.get("depends_on", {})) <= set(SERVICES)
    kept = yaml.safe_load(FILE.read_text(encoding="utf-8"))["volumes"]
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        assert (ROOT / source).is_file() if source.startswith(".") else source in kept


def test_milvus_asks_for_a_password_and_no_secret_has_a_default() -> None:
    secrets = {
        name: value
        for service in SERVICES.values()
        for name, value in service.get("environment", {}).items()
        if re.search("PASSWORD|SECRET|TOKEN", name)
    }
    assert set(secrets) == {
        "COMMON_SECURITY_DEFAULTROOTPASSWORD",
        "MINIO_ROOT_PASSWORD",
        "MINIO_SECRET_ACCESS_KEY",
    }
    assert all(REQUIRED.fullmatch(value) for value in secrets.values())
    for name in ("standalone", "standalone-gpu"):
        assert SERVICES[name]["environment"]["COMMON_SECURITY_AUTHORIZATIONENABLED"] == "true"


def test_every_port_is_bound_to_loopback() -> None:
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert set(ports) == {"standalone", "standalone-gpu", "attu", "encoder", "encoder-gpu"}
    assert all(port.startswith("127.0.0.1:") for bound in ports.values() for port in bound)


def test_the_settings_of_milvus_are_yaml_without_secrets() -> None:
    for name in ("user.yaml", "user.gpu.yaml"):
        text = (ROOT / "deploy" / "milvus" / name).read_text(encoding="utf-8")
        assert yaml.safe_load(text)["dataCoord"]["segment"]["maxSize"] >= 1024
        assert not re.search(r"^\s*\w*(password|secret|token)\w*:", text, re.IGNORECASE | re.MULTILINE)
    gpu = yaml.safe_load(text)["gpu"]
    assert 0 < gpu["initMemSize"] <= gpu["maxMemSize"]


needs_docker = pytest.mark.skipif(not docker_answers(), reason="no docker daemon answers on this machine")


@needs_docker
def test_a_collection_on_the_composed_server_finds_what_was_upserted(composed_server: str, toy_encoder) -> None:
    vectors = np.eye(toy_encoder.dim, dtype=np.float32)
    with SketchCollection.open("compose_test", toy_encoder, uri=composed_server) as photos:
        photos.upsert(PhotoVector(f"{i}", f"photo-{i}", 1, 1, vector) for i, vector in enumerate(vectors))
        photos.flush()
        assert photos.count() == len(vectors)
        assert photos.search_vector(vectors[3], limit=1)[0].id == "3"


@needs_docker
def test_the_composed_server_refuses_milvus_own_password(composed_server: str) -> None:
    with pytest.raises(ServerError, match="does not accept"):
        SketchCollection.open(
            "compose_test", None, uri=f"http://{composed_server.rpartition('@')[2]}", token="root:Milvus"
        )
