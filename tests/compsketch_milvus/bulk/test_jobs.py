"""Import jobs over REST, against replies as Milvus documents them; no server later than 2.3 was there to be asked."""

from __future__ import annotations

import pytest

from compsketch_milvus.bulk.jobs import GrpcJobs, Job, RestJobs, jobs_of
from compsketch_milvus.errors import CollectionError, ServerError
from compsketch_milvus.server import LoginError, RefusedError


def test_a_job_is_made_asked_about_and_listed(milvus, jobs, monkeypatch) -> None:
    monkeypatch.setattr(milvus, "run", lambda job: job.update(rows=7))
    number = jobs.create("staging/1.parquet")
    assert jobs.ask(number) == Job(number, "Importing", 50, 0)
    assert jobs.listed() == [Job(number, "Importing", 50, 0)]
    assert jobs.ask(number) == Job(number, "Completed", 100, 7)
    assert (jobs.ask(number).done, jobs.ask(number).failed) == (True, False)
    assert [action for action, _ in milvus.said[:4]] == ["create", "describe", "list", "describe"]
    assert milvus.said[0][1] == {"collectionName": "photos", "dbName": "shop", "files": [["staging/1.parquet"]]}
    assert {headers["Authorization"] for headers in milvus.headers} == {"Bearer root:Milvus"}


def test_a_job_that_failed_says_why(milvus, jobs) -> None:
    milvus.fails, milvus.asked = ["the file has no column 'width'"], 1
    failed = jobs.ask(jobs.create("1.parquet"))
    assert (failed.failed, failed.done, failed.rows, failed.reason) == (
        True,
        False,
        None,
        "the file has no column 'width'",
    )


@pytest.mark.parametrize(
    ("answer", "error", "words", "transient"),
    [
        ({"code": 1100, "message": "no such collection"}, RefusedError, "refused to list an import: no such", False),
        ({"code": 1800, "message": "auth"}, LoginError, "does not accept the login.*MILVUS_TOKEN", False),
        (401, LoginError, "does not accept the login", False),
        (404, RefusedError, "refused to list an import", False),
        (503, ServerError, "cannot answer about imports", True),
        ("hang up", ServerError, "no answer about imports .*does Milvus still run", True),
    ],
)
def test_what_milvus_answers_in_place_of_jobs(milvus, jobs, answer, error, words, transient) -> None:
    milvus.answers["list"] = [answer]
    with pytest.raises(error, match=words) as refused:
        jobs.listed()
    assert refused.value.transient == transient
    assert "root:Milvus" not in str(refused.value)


def test_nobody_there_passes() -> None:
    with pytest.raises(ServerError, match="no answer about imports") as refused:
        RestJobs("photos", {"uri": "http://127.0.0.1:9"}).listed()
    assert refused.value.transient


def test_which_server_is_asked_how(milvus, photos, monkeypatch) -> None:
    monkeypatch.setenv("MILVUS_URI", milvus.address.replace("//", "//root:secret@"))
    jobs_of(photos).listed()
    assert milvus.headers[-1]["Authorization"] == "Bearer root:secret"
    jobs_of(photos, token="other:login").listed()
    assert milvus.headers[-1]["Authorization"] == "Bearer other:login"
    monkeypatch.setenv("MILVUS_URI", "http://root:secret@elsewhere:19530")  # a login of another server stays there
    jobs_of(photos).listed()
    assert "Authorization" not in milvus.headers[-1]
    assert isinstance(jobs_of(type(photos)(milvus, version="2.3.5")), GrpcJobs)


def test_milvus_lite_is_refused_with_the_way_out(collection) -> None:
    with pytest.raises(CollectionError, match=r"Milvus Lite does not import files; store the photos with --via upsert"):
        jobs_of(collection)
