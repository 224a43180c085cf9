"""deploy/milvus' values, deploy/ray's job, and what deploy/README.md says of them: read without a cluster."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer
import yaml

from compsketch_milvus import cli
from compsketch_milvus.settings import VARIABLES

DEPLOY = Path(__file__).parents[2] / "deploy"
README = (DEPLOY / "README.md").read_text(encoding="utf-8")
VALUES = yaml.safe_load((DEPLOY / "milvus" / "values.yaml").read_text(encoding="utf-8"))
CPU_VALUES = yaml.safe_load((DEPLOY / "milvus" / "values.cpu.yaml").read_text(encoding="utf-8"))
JOB, POLICY = yaml.safe_load_all((DEPLOY / "ray" / "ingest.yaml").read_text(encoding="utf-8"))
COMPONENTS = ("mixCoordinator", "proxy", "streamingNode", "queryNode", "dataNode")

POD = {
    "type": "object",
    "required": ["spec"],
    "properties": {"metadata": {"type": "object"}, "spec": {"type": "object"}},
}
GROUP = {"rayStartParams": {"type": "object", "additionalProperties": {"type": "string"}}, "template": POD}
# Of KubeRay's RayJob (ray.io/v1) the fields that are used here, as its resource definition has them.
RAY_JOB = {
    "type": "object",
    "additionalProperties": False,
    "required": ["entrypoint", "rayClusterSpec"],
    "properties": {
        "entrypoint": {"type": "string"},
        "backoffLimit": {"type": "integer", "minimum": 0},
        "shutdownAfterJobFinishes": {"const": True},
        "ttlSecondsAfterFinished": {"type": "integer", "minimum": 0},
        "submitterPodTemplate": POD,
        "rayClusterSpec": {
            "type": "object",
            "additionalProperties": False,
            "required": ["headGroupSpec"],
            "properties": {
                "rayVersion": {"type": "string"},
                "headGroupSpec": {"type": "object", "additionalProperties": False, "properties": GROUP},
                "workerGroupSpecs": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "additionalProperties": False,
                        "required": ["groupName", "template"],
                        "properties": {
                            **GROUP,
                            "groupName": {"type": "string"},
                            "replicas": {"type": "integer"},
                            "minReplicas": {"type": "integer"},
                            "maxReplicas": {"type": "integer"},
                        },
                    },
                },
            },
        },
    },
}
# Of zilliztech's chart, 5.0, the settings that are used here.
NODE = {"replicas", "extraEnv", "resources", "tolerations", "activeStandby"}
CHART = {
    "image": {"all"},
    "cluster": {"enabled"},
    "streaming": {"enabled", "woodpecker"},
    "woodpecker": {"enabled"},
    "pulsarv3": {"enabled"},
    "indexNode": {"enabled"},
    "extraConfigFiles": {"user.yaml"},
    "containerSecurityContext": {"allowPrivilegeEscalation", "capabilities", "seccompProfile"},
    **dict.fromkeys(COMPONENTS, NODE),
    "etcd": {"replicaCount", "pdb", "persistence", "resources"},
    "minio": {
        *("enabled", "mode", "existingSecret", "accessKey", "secretKey", "bucketName", "rootPath"),
        *("podDisruptionBudget", "persistence", "resources"),
    },
    "service": {"type"},
    "metrics": {"serviceMonitor"},
}


def found(content: Any, name: str) -> Iterator[Any]:
    """Every value that stands under a name, however deep."""
    if isinstance(content, dict):
        for key, value in content.items():
            if key == name:
                yield value
            yield from found(value, name)
    elif isinstance(content, list):
        for value in content:
            yield from found(value, name)


def pods() -> dict[str, dict[str, Any]]:
    """The templates of the job's pods."""
    cluster = JOB["spec"]["rayClusterSpec"]
    [workers] = cluster["workerGroupSpecs"]
    submitter = JOB["spec"]["submitterPodTemplate"]
    return {"submitter": submitter, "head": cluster["headGroupSpec"]["template"], "worker": workers["template"]}


# --- the job ---


def test_the_job_is_what_kuberay_and_kubernetes_know() -> None:
    assert (JOB["apiVersion"], JOB["kind"]) == ("ray.io/v1", "RayJob")
    jsonschema.validate(JOB["spec"], RAY_JOB)
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    for name, template in pods().items():
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, **template["metadata"]}}
        kubernetes_validate.validate({**pod, "spec": template["spec"]}, "1.31.0", strict=True)
    kubernetes_validate.validate(POLICY, "1.31.0", strict=True)


def test_the_command_knows_its_entrypoint() -> None:
    program, command, *arguments = shlex.split(JOB["spec"]["entrypoint"])
    assert (program, command) == ("compsketch", "ingest")
    context = typer.main.get_command(cli.app).commands[command].make_context(command, arguments)
    assert context.params["ray"] == "auto"
    assert context.params["as_json"] is True
    assert context.params["sources"] == ["s3://photos/**/*.jpg"]  # whole: the shell has not opened it


@pytest.mark.parametrize("name", ["submitter", "head", "worker"])
def test_a_pod_of_the_job_may_do_nothing_but_its_work(name: str) -> None:
    spec = pods()[name]["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    [container] = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"cpu", "memory"} <= set(container["resources"]["limits"])
    mounts = {mount["name"] for mount in container["volumeMounts"]}
    assert mounts == {volume["name"] for volume in spec["volumes"]}
    assert all("sizeLimit" in volume["emptyDir"] for volume in spec["volumes"])


def test_work_is_done_by_workers_on_gpus_and_all_know_the_same() -> None:
    head, worker = (pods()[name]["spec"]["containers"][0] for name in ("head", "worker"))
    assert JOB["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert worker["image"] == head["image"] + "-gpu"
    assert head["env"] == worker["env"]
    known = {variable for variable, _ in VARIABLES.values()} | {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    assert {variable["name"] for variable in head["env"]} <= known


def test_the_image_has_the_ray_that_the_job_names() -> None:
    dockerfile = (DEPLOY / "ray" / "Dockerfile").read_text(encoding="utf-8")
    named = JOB["spec"]["rayClusterSpec"]["rayVersion"]
    assert f"FROM rayproject/ray:{named}-py311" in dockerfile
    assert f"\nray=={named}\n" in (DEPLOY / "ray" / "constraints.txt").read_text(encoding="utf-8")
    assert named.split(".")[0] == version("ray").split(".")[0]  # which the tests run with


def test_only_its_own_pods_and_kuberay_reach_the_dashboard() -> None:
    spec = POLICY["spec"]
    for template in pods().values():
        assert spec["podSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    own, operator = spec["ingress"][0]["from"]
    assert own == {"podSelector": spec["podSelector"]}
    assert operator["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "kuberay-operator"}


# --- Milvus ---


@pytest.mark.parametrize("values", [VALUES, CPU_VALUES], ids=["gpu", "cpu"])
def test_the_values_are_settings_of_the_chart(values: dict[str, Any]) -> None:
    for name, part in values.items():
        assert set(part) <= CHART[name], name


def test_each_node_has_limits_the_login_and_the_object_store_s_keys() -> None:
    for name in COMPONENTS:
        assert {"cpu", "memory"} <= set(VALUES[name]["resources"]["limits"]), name
        env = {variable["name"]: variable for variable in VALUES[name]["extraEnv"]}
        assert env["COMMON_SECURITY_AUTHORIZATIONENABLED"]["value"] == "true"
        secrets = {name for name, variable in env.items() if "secretKeyRef" in variable.get("valueFrom", {})}
        assert secrets == {"COMMON_SECURITY_DEFAULTROOTPASSWORD", "MINIO_ACCESS_KEY_ID", "MINIO_SECRET_ACCESS_KEY"}
    assert (VALUES["minio"]["accessKey"], VALUES["minio"]["secretKey"]) == ("", "")
    assert VALUES["minio"]["existingSecret"] == "milvus-object-store"


def test_gpus_search_and_build_and_on_cpus_neither_asks_for_one() -> None:
    for name in COMPONENTS:
        assert ("nvidia.com/gpu" in VALUES[name]["resources"]["limits"]) is (name in ("queryNode", "dataNode"))
    for name in ("queryNode", "dataNode"):
        assert VALUES[name]["resources"]["limits"]["nvidia.com/gpu"] == "1"
        assert CPU_VALUES[name]["resources"]["limits"] == {"nvidia.com/gpu": None}  # Helm takes it out


def test_the_chart_and_compose_set_milvus_up_alike() -> None:
    for values, file in ((VALUES, "user.gpu.yaml"), (CPU_VALUES, "user.yaml")):
        alone = yaml.safe_load((DEPLOY / "milvus" / file).read_text(encoding="utf-8"))
        assert yaml.safe_load(values["extraConfigFiles"]["user.yaml"]) == alone
    compose = yaml.safe_load((DEPLOY.parent / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    assert VALUES["image"]["all"]["tag"] == compose["standalone-gpu"]["image"].partition(":")[2]
    assert CPU_VALUES["image"]["all"]["tag"] == compose["standalone"]["image"].partition(":")[2]


def test_what_is_written_is_kept() -> None:
    for name in ("etcd", "minio"):
        assert VALUES[name]["persistence"]["enabled"] is True
        assert VALUES[name]["persistence"]["size"].endswith("Gi")


# --- the walk ---


def test_every_secret_is_one_that_the_walk_makes() -> None:
    made = set(re.findall(r"kubectl create secret \w+ ([\w-]+)", README))
    named = {reference["name"] for content in (JOB, VALUES) for reference in found(content, "secretKeyRef")}
    named |= set(re.findall(r"existingSecret=([\w-]+)", README)) | set(re.findall(r"tlsSecret=([\w-]+)", README))
    assert named == {
        *("milvus-login", "milvus-object-store", "encoder-tokens", "encoder-login", "encoder-tls"),
        *("page-login", "page-tls", "photos-bucket"),
    }
    assert named <= made


def test_every_image_has_a_version() -> None:
    images = [image for template in pods().values() for image in found(template, "image")]
    images += [f"milvus:{tag}" for values in (VALUES, CPU_VALUES) for tag in found(values, "tag")]
    assert len(images) == 5
    for image in images:
        assert re.search(r":v\d+\.\d+\.\d+(-gpu)?$", image), image


def test_the_walk_s_commands_are_ours() -> None:
    """Every `compsketch` of the README has a subcommand that there is, with flags that it knows."""
    blocks = "\n".join(line for line in README.splitlines() if line.startswith("    "))
    lines = re.findall(r"(?:^|[ ;&(])compsketch ([^\n|;&#)]+)", blocks.replace("\\\n", " "))
    commands = typer.main.get_command(cli.app).commands
    assert len(lines) > 10
    for line in lines:
        name, *arguments = shlex.split(line)
        command = commands[name]
        if hasattr(command, "commands"):
            command = command.commands[arguments.pop(0)]
        known = {flag for parameter in command.params for flag in getattr(parameter, "opts", ())}
        asked = {argument.partition("=")[0] for argument in arguments if argument.startswith("--")}
        assert asked <= known, line
