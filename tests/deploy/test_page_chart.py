"""deploy/page/chart: what Helm makes of it, held against the schemas of Kubernetes and the flags of the page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from compsketch_milvus import cli
from compsketch_milvus.settings import VARIABLES

CHART = Path(__file__).parents[2] / "deploy" / "page" / "chart"
KUBERNETES = ("1.27.0", "1.37.0")
helm = pytest.importorskip("helm_python", reason="no Helm on this platform: helm-python-sdk has no wheel for it")

NEEDED = {
    "encoder": {"address": "grpcs://photos-encoder.default.svc:50051"},
    "login": {"existingSecret": "page-login"},
    "ingress": {"host": "photos.example.com", "tlsSecret": "page-tls"},
}
FULL = {
    "image": {"digest": "sha256:" + "0" * 64},
    "imagePullSecrets": [{"name": "registry"}],
    "milvus": {
        "uri": "https://milvus:19530",
        "database": "media",
        "login": {"existingSecret": "milvus-login"},
        "ca": {"existingSecret": "milvus-ca"},
    },
    "encoder": {
        "address": "grpcs://photos-encoder.default.svc:50051/cs1-0123456789abcdef",
        "login": {"existingSecret": "encoder-login"},
        "ca": {"existingSecret": "encoder-tls"},
    },
    "login": {"existingSecret": "page-login", "key": "secret"},
    "env": [{"name": "AWS_ACCESS_KEY_ID", "value": "of-a-test"}],
    "extraArgs": ["--allow-private"],
    "ingress": {**NEEDED["ingress"], "className": "nginx", "annotations": {"team": "search"}},
    "networkPolicy": {"ingress": []},
    "podAnnotations": {"team": "search"},
    "podLabels": {"team": "search"},
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "page", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "priorityClassName": "high",
}


def render(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The manifests of a release, by kind."""
    with helm.Chart.load(CHART) as chart:
        rendered = chart.render(dict(values), name="photos", namespace="search")
    texts = [text for path, text in rendered.items() if not path.endswith("NOTES.txt")]
    documents = [document for text in texts for document in yaml.safe_load_all(text) if document]
    return {document["kind"]: document for document in documents}


def container(values: Mapping[str, Any]) -> dict[str, Any]:
    [one] = render(values)["Deployment"]["spec"]["template"]["spec"]["containers"]
    return one


@pytest.mark.parametrize("values", [NEEDED, FULL], ids=["needed", "full"])
def test_helm_finds_nothing_to_mend_and_kubernetes_knows_every_field(values: dict[str, Any]) -> None:
    report = helm.lint(CHART, values, strict=True)
    assert report["errors"] == []
    assert [found["error"] for found in report["messages"]] == ["icon is recommended"]
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    made = render(values)
    assert set(made) == {"Deployment", "Service", "Ingress", "ServiceAccount", "PodDisruptionBudget", "NetworkPolicy"}
    for document in made.values():
        for version in KUBERNETES:
            kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({**NEEDED, "encoder": {}}, "encoder.address"),
        ({**NEEDED, "login": {}}, "login.existingSecret"),
        ({**NEEDED, "ingress": {"host": "photos.example.com"}}, "ingress.tlsSecret"),
        ({**NEEDED, "ingress": {"tlsSecret": "page-tls"}}, "ingress.host"),
        ({**NEEDED, "replicas": 2}, "replicas"),
        ({**NEEDED, "milvus": {"uri": "milvus:19530"}}, "uri"),
        ({**NEEDED, "image": {"digest": "latest"}}, "digest"),
    ],
)
def test_values_that_would_not_do_are_refused_by_name(values: dict[str, Any], named: str) -> None:
    with pytest.raises((helm.HelmRenderError, helm.HelmValuesError), match=named):
        render(values)


def test_the_schema_and_the_values_name_the_same_settings() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))

    def named(part: dict[str, Any]) -> dict[str, Any]:
        return schema["$defs"][part["$ref"].rpartition("/")[2]] if "$ref" in part else part

    def compare(part: dict[str, Any], values: dict[str, Any], path: str) -> None:
        assert set(part["properties"]) - {"global"} == set(values), path
        for name, inner in part["properties"].items():
            if name in ("global", "resources"):  # Kubernetes' own
                continue
            if "properties" in named(inner):
                compare(named(inner), values[name], f"{path}.{name}")

    compare(schema, values, "values")


def test_a_pod_may_do_nothing_but_serve_and_one_keeps_all_logins() -> None:
    deployment = render(NEEDED)["Deployment"]["spec"]
    spec = deployment["template"]["spec"]
    assert (deployment["replicas"], deployment["strategy"]["rollingUpdate"]["maxUnavailable"]) == (1, 0)
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    [one] = spec["containers"]
    assert one["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"cpu", "memory"} == set(one["resources"]["limits"])
    assert [mount["mountPath"] for mount in one["volumeMounts"] if not mount.get("readOnly")] == ["/tmp"]


def test_probes_ask_for_health_and_only_a_dead_page_is_started_again() -> None:
    one = container(NEEDED)
    paths = {name: one[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "readiness", "liveness")}
    assert paths == {"startup": "/healthz", "readiness": "/healthz", "liveness": "/"}


def test_the_page_knows_every_flag_and_every_variable() -> None:
    dockerfile = (CHART.parent / "Dockerfile").read_text(encoding="utf-8")
    entry = json.loads(dockerfile[dockerfile.index("ENTRYPOINT ") + len("ENTRYPOINT ") :])
    assert entry[:2] == ["compsketch", "web"]
    one = container(FULL)
    web = typer.main.get_command(cli.app).commands["web"]
    context = web.make_context("web", [*entry[2:], *one["args"]])
    assert context.params["token_file"] == Path("/etc/compsketch/login/secret")
    assert (context.params["host"], context.params["insecure"], context.params["allow_private"]) == (
        "0.0.0.0",
        True,
        True,
    )
    assert context.params["port"] == one["ports"][0]["containerPort"]
    ours = {variable["name"] for variable in one["env"]} - {"AWS_ACCESS_KEY_ID"}
    assert ours <= {variable for variable, _ in VARIABLES.values()}
    assert len(ours) == 8


def test_secrets_are_named_and_their_files_are_where_the_page_looks() -> None:
    one = container(FULL)
    env = {variable["name"]: variable for variable in one["env"]}
    for name, secret in (("MILVUS_TOKEN", "milvus-login"), ("COMPSKETCH_ENCODER_TOKEN", "encoder-login")):
        assert env[name]["valueFrom"]["secretKeyRef"] == {"name": secret, "key": "token"}
    mounted = {mount["mountPath"] for mount in one["volumeMounts"]}
    for name in ("MILVUS_CA_PEM_PATH", "COMPSKETCH_ENCODER_CA_PEM_PATH"):
        assert str(Path(env[name]["value"]).parent) in mounted
    bare = {variable["name"] for variable in container(NEEDED)["env"]}
    assert bare == {"MILVUS_URI", "COMPSKETCH_COLLECTION", "COMPSKETCH_ENCODER"}


def test_service_ingress_budget_and_policy_mean_the_pod_of_the_deployment() -> None:
    made = render(FULL)
    labels = made["Deployment"]["spec"]["template"]["metadata"]["labels"]
    for selector in (
        made["Deployment"]["spec"]["selector"]["matchLabels"],
        made["Service"]["spec"]["selector"],
        made["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        made["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()
    [rule] = made["Ingress"]["spec"]["rules"]
    backend = rule["http"]["paths"][0]["backend"]["service"]
    assert backend["name"] == made["Service"]["metadata"]["name"]
    assert backend["port"]["name"] in {port["name"] for port in made["Service"]["spec"]["ports"]}
    assert made["Ingress"]["spec"]["tls"] == [{"hosts": [rule["host"]], "secretName": "page-tls"}]


def test_the_ingress_alone_may_ask_and_the_pod_asks_for_what_it_needs() -> None:
    policy = render(NEEDED)["NetworkPolicy"]["spec"]
    [peer] = policy["ingress"][0]["from"]
    assert peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "ingress-nginx"}
    assert {port["port"] for port in policy["egress"][0]["ports"]} == {53, 443, 19530, 50051}
    assert render(FULL)["NetworkPolicy"]["spec"]["ingress"][0]["from"] == [{"namespaceSelector": {}}]
