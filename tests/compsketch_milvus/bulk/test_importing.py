"""Each photo of a part is in the collection once, whatever went wrong before, meanwhile, or in the run before this."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from compsketch_milvus.bulk import Imported, ImportJobError, Parts, import_parts
from compsketch_milvus.errors import ServerError


@pytest.fixture
def staged(tmp_path, facts, make_photos):
    """`staged(5)`: one part with photos p0 to p4."""

    def stage(count: int, **options):
        parts = Parts(facts, str(tmp_path / "staging"), worker="all")
        parts.add(make_photos(count, **options))
        return parts.close()

    return stage


def once(count: int) -> Counter[str]:
    return Counter({f"p{i}": 1 for i in range(count)})


def test_parts_become_rows_and_are_removed(milvus, photos, jobs, staged, tmp_path) -> None:
    said: list[str] = []
    parts = [*staged(40), *staged(10, first=40)]
    imported = import_parts(photos, parts, wait=60, jobs=jobs, progress=said.append)
    assert imported == Imported(50, 0, tuple(milvus.jobs))
    assert len(milvus.jobs) == 2
    assert milvus.counts() == once(50)
    assert not any(path.is_file() for path in (tmp_path / "staging").rglob("*"))
    assert said[0] == f"import job {imported.jobs[0]}: Importing, 50 %"


def test_imported_files_can_be_kept(milvus, photos, jobs, staged, tmp_path) -> None:
    [part] = staged(3)
    import_parts(photos, [part], jobs=jobs, keep=True)
    assert [str(p.relative_to(tmp_path / "staging")) for p in (tmp_path / "staging").rglob("*.parquet")] == [
        f"imported/{part.name}"
    ]


def test_what_the_collection_holds_is_upserted_and_the_rest_imported(milvus, photos, jobs, staged, make_photos) -> None:
    photos.upsert(make_photos(2, tag="old"))
    photos.upsert(make_photos(1, first=99))
    imported = import_parts(photos, staged(5, tag="new"), jobs=jobs)
    assert (imported.rows, imported.upserted) == (3, 2)
    assert milvus.counts() == once(5) + Counter(["p99"])
    assert {row["tag"] for row in milvus.rows if row["id"] in ("p0", "p1")} == {"new"}

    again = import_parts(photos, staged(5, tag="new"), jobs=jobs)  # as after a kill between a job's end and the removal
    assert again == Imported(0, 5)
    assert milvus.counts() == once(5) + Counter(["p99"])


def test_a_job_of_a_run_that_was_killed_is_waited_for(milvus, photos, jobs, staged) -> None:
    [part] = staged(5)
    job = jobs.create(part.path)  # and here the run before was killed
    imported = import_parts(photos, [part], jobs=jobs)
    assert imported == Imported(0, 5)
    assert list(milvus.jobs) == [job]
    assert milvus.counts() == once(5)


def test_a_job_whose_making_was_not_answered_is_not_made_twice(milvus, photos, jobs, staged) -> None:
    parts = staged(5)
    milvus.answers["create"] = ["hang up"]
    with pytest.raises(ServerError, match="no answer") as lost:
        import_parts(photos, parts, jobs=jobs)
    assert lost.value.transient  # so that an ingest makes the same call again
    import_parts(photos, parts, jobs=jobs)
    assert len(milvus.jobs) == 1
    assert milvus.counts() == once(5)


def test_a_part_of_which_some_was_upserted_can_be_given_again(milvus, photos, jobs, staged, make_photos) -> None:
    photos.upsert(make_photos(2))
    [part] = staged(5)
    milvus.fails = ["no memory"]
    with pytest.raises(ImportJobError, match="no memory"):
        import_parts(photos, [part], jobs=jobs)
    assert import_parts(photos, [part], jobs=jobs) == Imported(3, 0, (max(milvus.jobs),))
    assert milvus.counts() == once(5)


def test_a_failed_job_names_itself_the_reason_the_file_and_the_way_on(milvus, photos, jobs, staged) -> None:
    [part] = staged(5)
    milvus.fails = ["no such file or directory"]
    with pytest.raises(
        ImportJobError, match=r"import job (\d+) failed: no such file or directory; its file (\S+) is"
    ) as e:
        import_parts(photos, [part], jobs=jobs)
    assert next(iter(milvus.jobs)) in str(e.value)
    assert part.path in str(e.value)
    assert "run the same again" in str(e.value)
    assert milvus.rows == []
    assert import_parts(photos, [part], jobs=jobs).rows == 5
    assert milvus.counts() == once(5)


def test_a_job_that_does_not_end_in_time(milvus, photos, jobs, staged) -> None:
    [part] = staged(5)
    milvus.asked = 10**9
    with pytest.raises(ImportJobError, match=r"has not ended after 1 s \(Importing, 50 %\); run the same again"):
        import_parts(photos, [part], wait=1, jobs=jobs)
    assert Path(part.path).exists()
    milvus.jobs[next(iter(milvus.jobs))]["left"] = 1
    assert import_parts(photos, [part], jobs=jobs) == Imported(0, 5)
    assert milvus.counts() == once(5)


def test_rows_that_a_job_lost_are_seen_and_stored_by_the_next_run(milvus, photos, jobs, staged) -> None:
    [part] = staged(5)
    milvus.lost = 2
    with pytest.raises(ImportJobError, match=r"brought in 3 of the 5 rows of \S+, which is kept"):
        import_parts(photos, [part], jobs=jobs)
    milvus.lost = 0
    assert import_parts(photos, [part], jobs=jobs).rows == 2
    assert milvus.counts() == once(5)


def test_a_photo_that_somebody_stores_meanwhile_is_there_once_in_the_end(
    milvus, photos, jobs, staged, make_photos, caplog, monkeypatch
) -> None:
    run = milvus.run

    def run_beside_another(job) -> None:
        photos.upsert(make_photos(1))
        run(job)

    monkeypatch.setattr(milvus, "run", run_beside_another)
    import_parts(photos, staged(5), jobs=jobs)
    assert milvus.counts() == once(5)
    assert "1 photos came from elsewhere, too" in caplog.text


def test_answers_that_fail_to_come_are_asked_for_again(milvus, photos, jobs, staged) -> None:
    milvus.answers["describe"] = ["hang up", 503, 200, 503]
    said: list[str] = []
    assert import_parts(photos, staged(5), jobs=jobs, progress=said.append).rows == 5
    assert any("no answer about imports" in words for words in said)
    assert milvus.counts() == once(5)
