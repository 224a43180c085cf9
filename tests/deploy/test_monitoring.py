"""deploy/monitoring: rules and dashboard speak of what is really exported, and Prometheus can read them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from compsketch_milvus import cli
from compsketch_milvus.canary.metrics import OUTCOMES, CanaryMetrics
from compsketch_milvus.canary.questions import Canary
from compsketch_milvus.canary.scoring import CHANGED, Score
from compsketch_milvus.canary.scoring import STATES as CANARY_STATES
from compsketch_milvus.metrics import STATES, WatchMetrics
from compsketch_milvus.settings import VARIABLES
from compsketch_milvus.tally import REASONS
from encoders.serving import encoder_pb2
from encoders.serving.faults import Reason
from encoders.serving.lanes import Lane
from encoders.serving.metrics import Metrics

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "monitoring"
RULES = [
    rule
    for group in yaml.safe_load((FOLDER / "rules.yml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
ALERTS = [rule for rule in RULES if "alert" in rule]
DASHBOARD = json.loads((FOLDER / "dashboard.json").read_text(encoding="utf-8"))
README = (FOLDER / "README.md").read_text(encoding="utf-8")
CANARY = list(yaml.safe_load_all((FOLDER / "canary.yaml").read_text(encoding="utf-8")))
METRIC = re.compile(r"(?<![\w:])(?P<name>compsketch_[a-z]+_\w+)(?:\{(?P<selector>[^}]*)\})?")
MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"')
SCRAPED = {"job", "instance"}  # labels that Prometheus adds


def expressions() -> Iterator[str]:
    """Every PromQL expression of rules, dashboard and adapter."""
    yield from (rule["expr"] for rule in RULES)
    yield from (target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"])
    variables = DASHBOARD["templating"]["list"]
    yield from (variable["query"]["query"] for variable in variables if variable["type"] == "query")
    adapter = yaml.safe_load((FOLDER / "prometheus-adapter.yaml").read_text(encoding="utf-8"))
    yield from (rule["name"]["as"] for rule in adapter["rules"]["custom"])


@pytest.fixture(scope="module")
def exported() -> dict[str, set[str]]:
    """The names of the series that a server has told of after a little of everything, and their labels."""
    metrics = Metrics()
    model = metrics.model("default", "f" * 16)
    metrics.watch_health("default", "f" * 16, lambda: True)
    metrics.call("EncodeSketches", "OK", 0.1)
    model.rows("photo", Lane.BULK, 1)
    model.seconds("forward", Lane.BULK, 0.1)
    model.batch(Lane.BULK, 1)
    watch, canary = WatchMetrics(), CanaryMetrics("photos", 0.95)
    score = Score(9, 1, 0, 0, (0.01,), 10, 10)
    canary.answered(Canary("photos", "toy", "f" * 16, 16, 10, 0.0, ()), score, good=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "torch", _OneGpu())
        metrics.watch_memory(["cuda:0"])
        text = "".join(generate_latest(one.registry).decode() for one in (metrics, watch, canary))
    families = text_string_to_metric_families(text)
    return {sample.name: set(sample.labels) for family in families for sample in family.samples}


class _OneGpu:
    """torch, as far as it tells the memory of a GPU, on a machine that has one."""

    @property
    def cuda(self) -> _OneGpu:
        return self

    def mem_get_info(self, device: str) -> tuple[int, int]:
        return 1 << 30, 2 << 30


def test_every_metric_that_is_asked_for_is_exported_with_those_labels(exported: dict[str, set[str]]) -> None:
    asked = [found for expression in expressions() for found in METRIC.finditer(expression)]
    assert len(asked) > 30
    for found in asked:
        assert found["name"] in exported, found[0]
        labels = {name for name, _ in MATCHER.findall(found["selector"] or "")}
        assert labels <= exported[found["name"]] | SCRAPED, found[0]


def test_every_value_that_is_asked_for_is_one_that_the_server_tells() -> None:
    known = {
        "lane": {lane.value for lane in Lane},
        "reason": {reason.name.lower() for reason in Reason} | {"expired"} | set(REASONS),
        "state": {*STATES, *CANARY_STATES},
        "outcome": set(OUTCOMES),
        "method": set(encoder_pb2.DESCRIPTOR.services_by_name["Encoder"].methods_by_name) | {"Stream.*"},
        "stage": {"decode", "decode_wait", "forward", "forward_wait"},
        "kind": {"used", "total"},
    }
    for expression in expressions():
        for label, values in MATCHER.findall(expression):
            if label in known:
                assert set(values.split("|")) <= known[label], expression


def test_what_is_exported_is_in_the_readme(exported: dict[str, set[str]]) -> None:
    tables = re.split(r"^All names begin with `(\w+)`", README.partition("## Runbooks")[0], flags=re.MULTILINE)[1:]
    told = {
        prefix + name
        for prefix, table in zip(tables[::2], tables[1::2], strict=True)
        for name in re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    }
    bare = {re.sub(r"_(bucket|sum|count|created)$", "", name) for name in exported if name.startswith("compsketch_")}
    totals = {name for name in exported if name.endswith("_total")}
    families = {name for name in bare if name + "_total" not in totals}
    assert told == families


def test_every_recorded_name_that_is_asked_for_is_recorded() -> None:
    recorded = {rule["record"] for rule in RULES if "record" in rule}
    asked = {name for expression in expressions() for name in re.findall(r"\w+:compsketch_\w+:\w+", expression)}
    assert asked <= recorded


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_has_a_severity_a_summary_and_a_runbook(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in ("critical", "warning")
    assert {"summary", "description", "runbook"} <= set(alert["annotations"])
    file, _, anchor = alert["annotations"]["runbook"].partition("#")
    assert (ROOT / file) == FOLDER / "README.md"
    assert anchor == alert["alert"].lower()
    section = README.partition(f"### {alert['alert']}\n")[2].partition("\n### ")[0]
    assert re.search(r"^1\. ", section, re.MULTILINE), "a runbook says what to do first"


def test_every_alert_is_tried_on_made_up_histories() -> None:
    tried = yaml.safe_load((FOLDER / "rules.test.yml").read_text(encoding="utf-8"))["tests"]
    fired = {case["alertname"] for test in tried for case in test["alert_rule_test"] if case["exp_alerts"]}
    assert fired == {alert["alert"] for alert in ALERTS}


def test_prometheus_accepts_the_rules_and_they_fire_when_they_should() -> None:
    promtool(["check", "rules", str(FOLDER / "rules.yml")])
    promtool(["test", "rules", str(FOLDER / "rules.test.yml")])


def test_prometheus_understands_the_dashboard(tmp_path: Path) -> None:
    targets = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    rules = [
        {"record": f"target:{number}", "expr": re.sub(r"\$__rate_interval", "5m", expression)}
        for number, expression in enumerate(targets)
    ]
    file = tmp_path / "dashboard.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}), encoding="utf-8")
    promtool(["check", "rules", str(file)])


def test_grafana_knows_every_field_of_the_dashboard() -> None:
    """Its own types lose what they do not know, and add what has a default."""
    models = pytest.importorskip("grafana_foundation_sdk.models.dashboard", reason="needs Python 3.11")
    encoder = pytest.importorskip("grafana_foundation_sdk.cog.encoder")
    read = json.loads(encoder.JSONEncoder().encode(models.Dashboard.from_json(DASHBOARD)))
    assert lost(DASHBOARD, read) == []


def test_no_panel_covers_another_and_each_says_what_it_shows() -> None:
    cells = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) == 23  # a row is 24 wide
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert all(panel["title"] and panel["description"] for panel in DASHBOARD["panels"])


# --- the canary on Kubernetes ---


@pytest.mark.parametrize("version", ["1.27.0", "1.31.0", "1.37.0"])
def test_kubernetes_knows_every_field_of_the_canary(version: str) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    assert [manifest["kind"] for manifest in CANARY] == ["PersistentVolumeClaim", "Deployment", "PodMonitor"]
    for manifest in CANARY[:2]:  # the last is of the Prometheus operator
        kubernetes_validate.validate(manifest, version, strict=True)


def test_the_program_knows_every_flag_and_setting_of_the_canary() -> None:
    pod = CANARY[1]["spec"]["template"]["spec"]
    known = typer.main.get_command(cli.app).commands["canary"].commands  # type: ignore[attr-defined]
    flags = {option for parameter in known["run"].params for option in parameter.opts}
    [prepare], [run] = pod["initContainers"], pod["containers"]
    assert run["command"] == ["compsketch", "canary", "run", *prepare["args"]]
    assert {argument.partition("=")[0] for argument in run["args"]} <= flags
    assert re.findall(r"compsketch canary (\w+)", prepare["command"][2]) == ["run", "prepare"]
    assert set(re.findall(r"--[\w-]+", prepare["command"][2])) <= flags
    assert {one["name"] for one in run["env"]} <= {variable for variable, _ in VARIABLES.values()}


def test_the_canary_may_do_nothing_but_ask_and_is_asked_where_it_answers() -> None:
    spec = CANARY[1]["spec"]
    pod = spec["template"]["spec"]
    for container in (*pod["initContainers"], *pod["containers"]):
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    [port] = pod["containers"][0]["ports"]
    assert f"--metrics-port={port['containerPort']}" in pod["containers"][0]["args"]
    assert spec["template"]["metadata"]["annotations"]["prometheus.io/port"] == str(port["containerPort"])
    monitor = CANARY[2]["spec"]
    assert monitor["podMetricsEndpoints"][0]["port"] == port["name"]
    assert monitor["selector"] == spec["selector"]
    assert monitor["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()


def test_the_canary_calls_itself_out_of_date_where_the_alert_does() -> None:
    [alert] = [alert for alert in ALERTS if alert["alert"] == "CanaryOutdated"]
    assert alert["expr"] == f"compsketch_canary_changed_ratio > {CHANGED}"


def lost(written: Any, read: Any, path: str = "dashboard") -> list[str]:
    """What was written and is not there, or is something else, when it is read."""
    if isinstance(written, dict) and isinstance(read, dict):
        return [part for key in written for part in lost(written[key], read.get(key), f"{path}.{key}")]
    if isinstance(written, list) and isinstance(read, list) and len(written) == len(read):
        pairs = enumerate(zip(written, read, strict=True))
        return [part for i, (one, other) in pairs for part in lost(one, other, f"{path}[{i}]")]
    return [] if written == read else [path]


def promtool(arguments: list[str]) -> None:
    program = shutil.which("promtool", path=ROOT / ".promtool") or shutil.which("promtool")
    if program is None:
        pytest.skip("no promtool: make promtool")
    ran = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
