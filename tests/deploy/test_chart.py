"""deploy/encoder/chart: what Helm makes of it, held against the schemas of Kubernetes and the flags of the server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from compsketch_milvus import cli

CHART = Path(__file__).parents[2] / "deploy" / "encoder" / "chart"
KUBERNETES = ("1.27.0", "1.31.0", "1.37.0")
helm = pytest.importorskip("helm_python", reason="no Helm on this platform: helm-python-sdk has no wheel for it")

SECRETS = {"tokens": {"existingSecret": "encoder-tokens"}, "tls": {"existingSecret": "encoder-tls"}}
BARE = {"insecure": True, "gpu": {"enabled": False}, "networkPolicy": {"enabled": False}}
FULL = {
    "tokens": {"existingSecret": "encoder-tokens", "key": "list"},
    "tls": {"existingSecret": "encoder-tls", "clientCA": True},
    "image": {"digest": "sha256:" + "0" * 64},
    "imagePullSecrets": [{"name": "registry"}],
    "encoders": ["default", "/bundles/mine"],
    "bundles": {"existingClaim": "bundles"},
    "extraArgs": ["--queue=4096"],
    "gpu": {"count": 1, "runtimeClassName": "nvidia"},
    "autoscaling": {"enabled": True, "queueDepth": {"bulk": 512}},
    "networkPolicy": {"clients": [{"namespaceSelector": {"matchLabels": {"team": "search"}}}]},
    "metrics": {"serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}}},
    "podAnnotations": {"team": "search"},
    "podLabels": {"team": "search"},
    "nodeSelector": {"gpu": "yes"},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
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


def pod(values: Mapping[str, Any]) -> dict[str, Any]:
    """The spec of a pod."""
    return render(values)["Deployment"]["spec"]["template"]["spec"]


@pytest.mark.parametrize("values", [SECRETS, BARE, FULL], ids=["secrets", "bare", "full"])
def test_helm_finds_nothing_to_mend(values: dict[str, Any]) -> None:
    report = helm.lint(CHART, values, strict=True)
    assert report["errors"] == []
    assert [found["error"] for found in report["messages"]] == ["icon is recommended"]


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("values", [SECRETS, BARE, FULL], ids=["secrets", "bare", "full"])
def test_kubernetes_knows_every_field(values: dict[str, Any], version: str) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    for kind, document in render(values).items():
        if kind != "ServiceMonitor":  # of the Prometheus operator
            kubernetes_validate.validate(document, version, strict=True)


def test_a_release_has_all_its_parts() -> None:
    parts = {"Deployment", "Service", "ServiceAccount", "PodDisruptionBudget", "NetworkPolicy"}
    assert set(render(SECRETS)) == parts
    assert set(render(FULL)) == parts | {"HorizontalPodAutoscaler", "ServiceMonitor"}
    assert set(render(BARE)) == parts - {"NetworkPolicy"}


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({}, "tokens.existingSecret"),
        ({"tokens": {"existingSecret": "encoder-tokens"}}, "tls.existingSecret"),
        ({"insecure": True, "token": {}}, "token"),
        ({"insecure": "yes"}, "insecure"),
        ({"insecure": True, "gpu": {"count": 0}}, "count"),
        ({"insecure": True, "image": {"digest": "latest"}}, "digest"),
        ({"insecure": True, "autoscaling": {"enabled": True, "queueDepth": {"interactive": 0}}}, "queueDepth"),
    ],
)
def test_values_that_would_not_do_are_refused_by_name(values: dict[str, Any], named: str) -> None:
    with pytest.raises((helm.HelmRenderError, helm.HelmValuesError), match=named):
        render(values)


def test_the_schema_and_the_values_name_the_same_settings() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))

    def compare(schema: dict[str, Any], values: dict[str, Any], path: str) -> None:
        assert set(schema["properties"]) - {"global"} == set(values), path
        for name, part in schema["properties"].items():
            if "properties" in part and not path.endswith("resources"):
                compare(part, values[name], f"{path}.{name}")

    del schema["properties"]["resources"]
    del values["resources"]
    compare(schema, values, "values")


def test_a_pod_may_do_nothing_but_serve() -> None:
    spec = pod(SECRETS)
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    [container] = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    writable = [mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")]
    assert writable == ["/tmp"]


def test_secrets_are_mounted_whole_so_that_a_new_one_is_taken_up() -> None:
    [container] = pod(SECRETS)["containers"]
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert all("subPath" not in mounts[name] and mounts[name]["readOnly"] for name in ("tokens", "tls"))
    assert "env" not in container


def test_a_gpu_is_a_limit_and_a_cpu_asks_for_none() -> None:
    [gpu], [cpu] = pod(SECRETS)["containers"], pod(BARE)["containers"]
    assert gpu["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert gpu["image"].endswith("-gpu")
    assert "nvidia.com/gpu" not in cpu["resources"]["limits"]
    assert not cpu["image"].endswith("-gpu")
    assert render(SECRETS)["Deployment"]["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}


def test_a_pod_has_time_to_drain() -> None:
    spec = pod(SECRETS | {"drainSeconds": 90})
    assert "--drain=90" in spec["containers"][0]["args"]
    assert spec["terminationGracePeriodSeconds"] > 90 + 5  # of preStop


def test_probes_ask_for_health_in_the_clear_whatever_clients_have_to_show() -> None:
    for values in (SECRETS, BARE, FULL):
        [container] = pod(values)["containers"]
        probes = [container[f"{name}Probe"] for name in ("startup", "readiness", "liveness")]
        assert [probe["grpc"] for probe in probes] == [{"port": 50052}] * 3
        assert "--metrics-host=0.0.0.0" in container["args"]  # health listens there, too


def test_every_flag_is_one_that_the_server_knows() -> None:
    serve = typer.main.get_command(cli.app).commands["serve"]
    context = serve.make_context("serve", [*pod(FULL)["containers"][0]["args"], "--health-port=50052"])
    assert context.params["token_file"] == Path("/etc/compsketch/tokens/list")
    assert context.params["tls_client_ca"] == Path("/etc/compsketch/tls/ca.crt")
    assert context.params["encoder"] == FULL["encoders"]
    assert context.params["queue"] == 4096
    assert context.params["drain"] == 60


def test_service_budget_policy_and_monitor_mean_the_pods_of_the_deployment() -> None:
    made = render(FULL)
    labels = made["Deployment"]["spec"]["template"]["metadata"]["labels"]
    selectors = [
        made["Deployment"]["spec"]["selector"]["matchLabels"],
        made["Service"]["spec"]["selector"],
        made["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        made["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ]
    for selector in selectors:
        assert selector.items() <= labels.items()
    monitored = made["ServiceMonitor"]["spec"]
    assert monitored["selector"]["matchLabels"].items() <= made["Service"]["metadata"]["labels"].items()
    assert monitored["endpoints"][0]["port"] in {port["name"] for port in made["Service"]["spec"]["ports"]}
    assert made["Service"]["metadata"]["labels"][monitored["jobLabel"]] == "encoder"


def test_clients_see_every_pod() -> None:
    assert render(SECRETS)["Service"]["spec"]["clusterIP"] == "None"


def test_pods_are_added_while_items_wait_in_a_lane_that_has_a_depth() -> None:
    made = render(FULL)
    metrics = {
        metric["pods"]["metric"]["selector"]["matchLabels"]["lane"]: metric["pods"]["target"]["averageValue"]
        for metric in made["HorizontalPodAutoscaler"]["spec"]["metrics"]
    }
    assert metrics == {"interactive": "8", "bulk": "512"}
    assert "replicas" not in made["Deployment"]["spec"]  # or each upgrade would undo what the autoscaler has done


def test_traces_leave_the_pod_where_a_collector_is_named() -> None:
    variables = [
        {"name": "COMPSKETCH_TRACING", "value": "1"},
        {"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://collector:4317"},
    ]
    ports = [{"port": 53, "protocol": "UDP"}, {"port": 4317, "protocol": "TCP"}]
    made = render(SECRETS | {"env": variables, "networkPolicy": {"egress": ports}})
    (container,) = made["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert container["env"] == variables
    assert made["NetworkPolicy"]["spec"]["egress"] == [{"ports": ports}]


def test_only_the_release_s_namespace_may_ask_unless_others_are_named_and_nothing_goes_out() -> None:
    policy = render(SECRETS)["NetworkPolicy"]["spec"]
    assert policy["ingress"][0] == {"ports": [{"port": "grpc"}], "from": [{"podSelector": {}}]}
    assert policy["egress"] == []
    assert render(FULL)["NetworkPolicy"]["spec"]["ingress"][0]["from"] == FULL["networkPolicy"]["clients"]
