"""The server does what its OpenAPI document says, for requests that a machine makes up from it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings

from compsketch_milvus.web.app import Options, create_app
from compsketch_milvus.web.opened import Where
from compsketch_milvus.web.rates import RATES, Rate
from tests.web.serving import judging_encoder, listening

schemathesis = pytest.importorskip("schemathesis")

schemathesis.checks.load_all_checks()
CHECKS = schemathesis.checks.CHECKS.get_by_names(
    ["not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance"]
)
PATHS = ["/healthz", *(f"/api/{name}" for name in ("session", "login", "logout", "fields", "words", "examples"))]
PATHS += [f"/api/{name}" for name in ("search", "similar", "explain", "convert")]
PATHS += [f"/api/{name}/{{id}}" for name in ("thumbnail", "photo", "details")]


@pytest.fixture(scope="module")
def described(filled: str, tmp_path_factory) -> Iterator[tuple[str, object]]:
    """The address of a server that takes any number of requests, and its document."""
    often = {kind: Rate(1e6, 10**6) for kind in RATES}
    options = Options(Where(filled), cache=tmp_path_factory.mktemp("cache"), rates=often)
    with listening(create_app(judging_encoder(), options)) as address:
        yield address, schemathesis.openapi.from_url(f"{address}/api/openapi.json")


def test_no_path_is_left_out(described) -> None:
    assert sorted(described[1].raw_schema["paths"]) == sorted(PATHS)


@pytest.mark.parametrize("path", PATHS)
def test_answers_are_as_described(described, path) -> None:
    """A filter or a sketch may fit the schema and still be none, so what is taken and what is refused is not checked.

    What is: that nothing breaks, and that status, type and content of each answer are among those described.
    """
    address, document = described
    for operation in document[path].values():

        @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy())
        def answers(case) -> None:
            response = case.call(base_url=address, headers={"X-Compsketch": "1"})
            assert response.status_code < 500
            case.validate_response(response, checks=CHECKS)

        answers()
