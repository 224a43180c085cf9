"""Where files wait to be imported: a folder that the Milvus server sees under the same path, or a bucket of its own."""

from __future__ import annotations

import os
import re
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from compsketch_milvus.errors import ServerError, SettingsError
from compsketch_milvus.settings import load_settings

__all__ = ["OPEN", "Staging"]

OPEN = ".open"  # a file that is not finished
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)")
_LIBRARIES = {"s3": "s3fs", "gs": "gcsfs", "memory": "fsspec"}  # memory: for tests


class Staging(ABC):
    """Finished files by name, such as `photos-1f3c/all/17.parquet`. Made by `at`."""

    @staticmethod
    def at(where: str) -> Staging:
        """The staging of a path, or of an s3:// or gs:// URL, which `COMPSKETCH_STAGING_*` give endpoint and key.

        Raises:
            SettingsError: of no known kind, or a library is missing.
        """
        url = _URL.fullmatch(where)
        if url is None:
            return _Folder(Path(where).expanduser().absolute())
        scheme, path = url[1].lower(), url[2].strip("/")
        if scheme not in _LIBRARIES or not path or "@" in path.partition("/")[0]:
            raise SettingsError(
                f"staging {scheme}://…: give a folder, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX; the key goes into "
                "COMPSKETCH_STAGING_KEY and COMPSKETCH_STAGING_SECRET"
            )
        return _Bucket(scheme, path)

    @abstractmethod
    def path(self, name: str) -> str:
        """What the server is told to read."""

    @abstractmethod
    def names(self, under: str) -> list[str]:
        """The finished files in a folder of it and below, oldest name first."""

    @abstractmethod
    def new(self, name: str) -> Path:
        """A file on this machine, to be written and then published under the name."""

    @abstractmethod
    def publish(self, file: Path, name: str) -> None:
        """Make a file that is written a finished one, all at once."""

    @abstractmethod
    def reading(self, name: str) -> Any:
        """A context in which a finished file is open, in binary."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a finished file, if it is there."""

    @abstractmethod
    def rename(self, name: str, other: str) -> None:
        """Give a finished file another name."""

    @abstractmethod
    def discard(self, under: str) -> None:
        """Throw away what was not finished in a folder of it."""


class _Folder(Staging):
    def __init__(self, root: Path) -> None:
        self._root = root

    def path(self, name: str) -> str:
        return str(self._root / name)

    def names(self, under: str) -> list[str]:
        return sorted(str(file.relative_to(self._root)) for file in (self._root / under).rglob("*.parquet"))

    def new(self, name: str) -> Path:
        file = self._root / (name + OPEN)
        with _named(self._root):
            file.parent.mkdir(parents=True, exist_ok=True)
        return file

    def publish(self, file: Path, name: str) -> None:
        with _named(self._root):
            with file.open("rb") as written:
                os.fsync(written.fileno())
            file.replace(self._root / name)

    @contextmanager
    def reading(self, name: str) -> Iterator[BinaryIO]:
        with _named(self._root):
            file = (self._root / name).open("rb")
        with file:  # outside: what goes wrong with its content is no fault of the folder
            yield file

    def remove(self, name: str) -> None:
        with _named(self._root):
            (self._root / name).unlink(missing_ok=True)

    def rename(self, name: str, other: str) -> None:
        with _named(self._root):
            (self._root / other).parent.mkdir(parents=True, exist_ok=True)
            (self._root / name).replace(self._root / other)

    def discard(self, under: str) -> None:
        for file in (self._root / under).rglob("*" + OPEN):
            file.unlink(missing_ok=True)


class _Bucket(Staging):
    """Files are written on this machine and then uploaded; one that is not finished never gets there."""

    def __init__(self, scheme: str, path: str) -> None:
        self._scheme, self._path = scheme, path
        self._files = _file_system(scheme)

    def _full(self, name: str) -> str:
        return f"{'/' if self._scheme == 'memory' else ''}{self._path}/{name}"

    def path(self, name: str) -> str:
        return f"{self._path}/{name}".partition("/")[2]  # within the bucket, which is Milvus' own

    def names(self, under: str) -> list[str]:
        with self._named():
            found = self._files.find(self._full(under))
        return sorted(one[len(self._full("")) :] for one in found if one.endswith(".parquet"))

    def new(self, name: str) -> Path:
        handle, file = tempfile.mkstemp(prefix="compsketch-", suffix=OPEN)
        os.close(handle)
        return Path(file)

    def publish(self, file: Path, name: str) -> None:
        with self._named():
            self._files.put_file(str(file), self._full(name))
        file.unlink()

    @contextmanager
    def reading(self, name: str) -> Iterator[BinaryIO]:
        with self._named():
            file = self._files.open(self._full(name), "rb")
        with file:
            yield file

    def remove(self, name: str) -> None:
        with self._named():
            if self._files.exists(self._full(name)):
                self._files.rm_file(self._full(name))

    def rename(self, name: str, other: str) -> None:
        with self._named():
            self._files.cp_file(self._full(name), self._full(other))
            self._files.rm_file(self._full(name))

    def discard(self, under: str) -> None:
        """Nothing: what was not finished was not in the bucket."""

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except ServerError:
            raise
        except Exception as error:  # a library's own classes, from botocore's to aiohttp's
            raise ServerError(
                f"staging {self._scheme}://{self._path}: {type(error).__name__}: {error}; check bucket, endpoint and "
                "key (COMPSKETCH_STAGING_*) and run the same again"
            ) from error


@contextmanager
def _named(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ServerError(
            f"staging {root}: cannot be used ({error.strerror}); free space, or give another folder with --staging"
        ) from error


def _file_system(scheme: str) -> Any:
    settings = load_settings()
    options: dict[str, Any] = {"use_listings_cache": False}
    if scheme == "s3":
        secret = settings.staging_secret
        options |= {
            "endpoint_url": settings.staging_endpoint,
            "key": settings.staging_key,
            "secret": secret.get_secret_value() if secret else None,
        }
    try:
        import fsspec

        return cast(Any, fsspec.filesystem(scheme, **options))
    except ImportError:
        raise SettingsError(
            f'staging {scheme}:// needs {_LIBRARIES[scheme]}: pip install "compsketch-milvus[bulk]"'
        ) from None
