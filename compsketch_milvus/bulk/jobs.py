"""Milvus' import jobs: made, asked about and listed. Over REST; of servers before 2.4, which have it not, over gRPC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from compsketch_milvus.errors import CollectionError, ServerError
from compsketch_milvus.server import WAIT, LoginError, RefusedError, client_arguments, guard, lite_path, public_uri
from compsketch_milvus.settings import load_settings

if TYPE_CHECKING:
    from compsketch_milvus.collection import SketchCollection

__all__ = ["GrpcJobs", "ImportJobError", "Job", "Jobs", "RestJobs", "check_imports", "jobs_of"]

REST_SINCE = (2, 4)
REST_SECONDS = 30  # for one answer; a job is made in the midst of other work
_DENIED = (401, 403, 1800, 1801)  # of HTTP, and Milvus' codes in its answer


class ImportJobError(ServerError):
    """An import job that failed, did not end in time, or did not bring all rows; its files are where they were."""


@dataclass(frozen=True)
class Job:
    """What Milvus says of a job.

    Args:
        id: its number.
        state: in Milvus' word.
        percent: how far it is.
        rows: that it has brought in; None where Milvus does not say.
        reason: why it failed.
    """

    id: str
    state: str
    percent: int = 0
    rows: int | None = None
    reason: str = ""

    @property
    def done(self) -> bool:
        """Whether all rows are in."""
        return self.state == "Completed"

    @property
    def failed(self) -> bool:
        """Whether it ended without its rows."""
        return self.state.startswith("Failed")


class Jobs(Protocol):
    """The import jobs of one collection."""

    def create(self, path: str) -> str:
        """Make a job for a file, and return its id. Raises ServerError; a transient one may have made it."""

    def ask(self, job: str) -> Job:
        """How far a job is. Raises ServerError."""

    def listed(self) -> list[Job]:
        """All jobs that Milvus remembers, for some hours after their end. Raises ServerError."""


def check_imports(uri: str) -> None:
    """Refuse the address of a Milvus Lite file.

    Raises:
        CollectionError: Milvus Lite imports nothing.
        ServerError: it is no address.
    """
    if lite_path(uri) is not None:
        raise CollectionError(
            f"{uri}: Milvus Lite does not import files; store the photos with --via upsert, "
            "or give a Milvus server with --uri"
        )


def jobs_of(
    collection: SketchCollection, *, uri: str | None = None, token: str | None = None, db_name: str | None = None
) -> Jobs:
    """The import jobs of a collection.

    Args:
        collection: opened.
        uri: the address that it was opened with; None takes the settings', or where the collection is.
        token: that it was opened with; None takes the settings'.
        db_name: its database; None takes the settings'.

    Raises:
        CollectionError: it is in a Milvus Lite file, which imports nothing.
        SettingsError: a certificate that the settings name is no good.
    """
    check_imports(collection.uri)
    if collection.facts.release < REST_SINCE:
        return GrpcJobs(collection)
    settings = load_settings(uri=uri, token=token, db_name=db_name)
    secret = settings.token.get_secret_value() if settings.token else None
    address = settings.uri if public_uri(settings.uri) == collection.uri else collection.uri
    arguments = client_arguments(address, token=secret, db_name=settings.db_name)
    return RestJobs(collection.name, arguments)


class RestJobs:
    """Jobs over REST, as Milvus has it since 2.4.

    Args:
        collection: name of the collection.
        arguments: what a MilvusClient of the server is made with: address, token, database, certificates.
    """

    def __init__(self, collection: str, arguments: Mapping[str, Any]) -> None:
        self._address = str(arguments["uri"]).rstrip("/")
        self._database = {"dbName": arguments["db_name"]} if arguments.get("db_name") else {}
        self._collection = {"collectionName": collection}
        self._headers = {"Authorization": f"Bearer {arguments['token']}"} if arguments.get("token") else {}
        self._verify = arguments.get("ca_pem_path") or arguments.get("server_pem_path") or True
        pair = arguments.get("client_pem_path", ""), arguments.get("client_key_path", "")
        self._certificate = pair if all(pair) else None

    def create(self, path: str) -> str:
        return str(self._post("create", {**self._collection, "files": [[path]]})["jobId"])

    def ask(self, job: str) -> Job:
        return _job({"jobId": job, **self._post("describe", {"jobId": job})})

    def listed(self) -> list[Job]:
        return [_job(one) for one in self._post("list", self._collection).get("records", [])]

    def _post(self, action: str, body: Mapping[str, Any]) -> dict[str, Any]:
        import requests

        url = f"{self._address}/v2/vectordb/jobs/import/{action}"
        try:
            answer = requests.post(
                url,
                json={**self._database, **body},
                headers=self._headers,
                timeout=REST_SECONDS,
                verify=self._verify,
                cert=self._certificate,
            )
            said = answer.json()
        except (requests.RequestException, ValueError) as error:  # ValueError: no JSON
            raise ServerError(
                f"{self._address}: no answer about imports ({type(error).__name__}); does Milvus still run there?",
                transient=not isinstance(error, requests.exceptions.SSLError),
            ) from error
        code, words = said.get("code"), said.get("message", "")
        if {answer.status_code, code} & set(_DENIED):
            raise LoginError(f"{self._address}: Milvus does not accept the login for imports; set MILVUS_TOKEN")
        if answer.status_code >= 500:
            raise ServerError(f"{self._address}: Milvus cannot answer about imports: {words}", transient=True)
        if code not in (0, 200):  # 200: of the first that had it
            raise RefusedError(f"{self._address}: Milvus refused to {action} an import: {words or answer.status_code}")
        return dict(said.get("data") or {})


def _job(said: Mapping[str, Any]) -> Job:
    rows = said.get("importedRows")
    return Job(
        id=str(said["jobId"]),
        state=str(said.get("state", "")),
        percent=int(said.get("progress") or 0),
        rows=int(rows) if rows is not None else None,
        reason=str(said.get("reason") or ""),
    )


class GrpcJobs:
    """Jobs over gRPC, through the collection's own connection."""

    def __init__(self, collection: SketchCollection) -> None:
        self._collection = collection

    def create(self, path: str) -> str:
        return str(self._call("import photos", "do_bulk_insert", self._collection.name, "", [path]))

    def ask(self, job: str) -> Job:
        return _task(self._call("look up an import", "get_bulk_insert_state", int(job)))

    def listed(self) -> list[Job]:
        everything = 0
        found = self._call("list imports", "list_bulk_insert_tasks", everything, self._collection.name)
        return [_task(one) for one in found]

    def _call(self, doing: str, method: str, *arguments: Any) -> Any:
        client: Any = self._collection.client
        self._collection.check_usable()
        with guard(doing, self._collection.uri):  # pymilvus offers them on its connection alone
            return getattr(client._get_connection(), method)(*arguments, timeout=WAIT)


def _task(said: Any) -> Job:
    return Job(
        id=str(said.task_id),
        state=said.state_name,
        percent=int(said.infos.get("progress_percent") or 0),
        rows=int(said.row_count),
        reason=said.infos.get("failed_reason", ""),
    )
