"""docker-compose.yml by the Compose specification, and the encoder's service in it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from compsketch_milvus import cli

FILE = Path(__file__).parents[2] / "docker-compose.yml"
VARIABLE = re.compile(r"\$\{\w+(?::\?[^}]*|-(?P<default>[^}]*))\}")
# As compose reads it, with every variable that has no default set to the same thing.
COMPOSED = yaml.safe_load(VARIABLE.sub(lambda found: found["default"] or "given", FILE.read_text(encoding="utf-8")))
CPU, GPU = COMPOSED["services"]["encoder"], COMPOSED["services"]["encoder-gpu"]


def parse(content: dict[str, Any]) -> Any:
    compose_spec = pytest.importorskip("compose_spec", reason="compose-spec has no wheel for this platform")
    return compose_spec.PyCompose.from_json(json.dumps(content))


def test_the_file_is_what_the_specification_allows() -> None:
    assert set(parse(COMPOSED).services) == set(COMPOSED["services"])


def test_a_misspelt_key_would_have_been_noticed() -> None:
    misspelt = CPU | {"tmpf": CPU["tmpfs"]}
    with pytest.raises(ValueError, match="tmpf"):
        parse({"services": {"encoder": misspelt}})


def test_both_encoders_answer_to_one_name_and_differ_in_the_gpu_alone() -> None:
    differ = ("profiles", "image", "build", "networks", "deploy")
    assert {key: value for key, value in CPU.items() if key not in differ} == {
        key: value for key, value in GPU.items() if key not in differ
    }
    assert GPU["networks"]["default"]["aliases"] == ["encoder"]
    assert GPU["build"]["args"] == {"ACCELERATOR": "cuda"}
    assert GPU["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]


def test_milvus_alone_starts_without_an_encoder() -> None:
    assert {*CPU["profiles"], *GPU["profiles"]} == {"encoder", "encoder-gpu"}


def test_tokens_are_a_file_that_the_user_makes_and_nobody_may_do_without() -> None:
    assert CPU["secrets"] == ["encoder_tokens"]
    assert CPU["command"][CPU["command"].index("--token-file") + 1] == "/run/secrets/encoder_tokens"
    file = FILE.parent / COMPOSED["secrets"]["encoder_tokens"]["file"]
    ignored = (FILE.parent / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert f"/{file.parent.relative_to(FILE.parent)}/" in ignored


def test_the_server_knows_every_flag() -> None:
    serve = typer.main.get_command(cli.app).commands["serve"]
    assert serve.make_context("serve", list(CPU["command"])).params["insecure"] is True


def test_the_encoder_may_do_nothing_but_serve_on_loopback() -> None:
    assert CPU["read_only"] is True
    assert CPU["cap_drop"] == ["ALL"]
    assert CPU["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("127.0.0.1:") for port in CPU["ports"])
