"""Where Milvus is and which encoder to use, when the caller does not say.

Precedence, in one sentence: a flag (or argument) beats the environment, which beats the file, which beats the
default. The file is `config.env` in the user's configuration directory (`config_file()`): lines of
`NAME=value`, with the very names of the environment.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import platformdirs
from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from compsketch_milvus.errors import SettingsError

__all__ = ["VARIABLES", "Settings", "config_file", "default_uri", "load_settings"]

PREFIX = "COMPSKETCH_"
# Each setting, its environment variable and what the variable has to hold, in words.
VARIABLES = {
    "uri": ("MILVUS_URI", "an address such as http://localhost:19530, or a Milvus Lite file ending in .db"),
    "token": ("MILVUS_TOKEN", "a token, or user:password"),
    "source_token": ("MILVUS_SOURCE_TOKEN", "a token, or user:password, of the Milvus that is read as a source"),
    "user": ("MILVUS_USER", "the name of a Milvus user, without a colon"),
    "password": ("MILVUS_PASSWORD", "the password of MILVUS_USER"),
    "db_name": ("MILVUS_DB_NAME", "the name of a Milvus database"),
    "ca_pem_path": ("MILVUS_CA_PEM_PATH", "a PEM file: what has signed the server's certificate, or that itself"),
    "client_pem_path": ("MILVUS_CLIENT_PEM_PATH", "a PEM file: the certificate that this client shows"),
    "client_key_path": ("MILVUS_CLIENT_KEY_PATH", "a PEM file: the key of the client's certificate"),
    "server_name": ("MILVUS_SERVER_NAME", "the name in the server's certificate, where the address has another"),
    "encoder": ("COMPSKETCH_ENCODER", "the name or the folder of an encoder bundle, or a service as grpc://HOST:PORT"),
    "encoder_token": ("COMPSKETCH_ENCODER_TOKEN", "a token of the encoder service"),
    "encoder_ca_pem_path": ("COMPSKETCH_ENCODER_CA_PEM_PATH", "a PEM file: what has signed the service's certificate"),
    "encoder_client_pem_path": (
        "COMPSKETCH_ENCODER_CLIENT_PEM_PATH",
        "a PEM file: the certificate that is shown to it",
    ),
    "encoder_client_key_path": ("COMPSKETCH_ENCODER_CLIENT_KEY_PATH", "a PEM file: the key of that certificate"),
    "collection": ("COMPSKETCH_COLLECTION", "letters, digits and underscores, not starting with a digit"),
    "device": ("COMPSKETCH_DEVICE", "cpu, cuda or cuda:N"),
    "runtime": ("COMPSKETCH_RUNTIME", "auto, torch or openvino"),
    "staging": ("COMPSKETCH_STAGING", "where files wait for a bulk import: a folder, or s3://BUCKET/PREFIX, gs://…"),
    "staging_endpoint": ("COMPSKETCH_STAGING_ENDPOINT", "the address of that bucket's object store, if not AWS"),
    "staging_key": ("COMPSKETCH_STAGING_KEY", "the access key of that bucket"),
    "staging_secret": ("COMPSKETCH_STAGING_SECRET", "the secret of COMPSKETCH_STAGING_KEY"),
    "tracing": ("COMPSKETCH_TRACING", "1, to send traces where OpenTelemetry's own variables say, or 0"),
}
COLLECTION_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
_DEVICE = re.compile(r"cpu|cuda(:\d+)?")
_RUNTIMES = ("auto", "torch", "openvino")
_SECRETS = (
    "token",
    "source_token",
    "encoder_token",
    "password",
    "staging_secret",
    "user",
)  # a user with a colon has the password behind it


def config_file() -> Path:
    """The optional settings file: `config.env` in the user's configuration directory."""
    return Path(platformdirs.user_config_dir("compsketch")) / "config.env"


def default_uri() -> str:
    """The Milvus Lite file used where no other address is set."""
    return str(Path(platformdirs.user_data_dir("compsketch")) / "photos.db")


def _variable(name: str, **default: Any) -> Any:
    return Field(validation_alias=VARIABLES[name][0], **(default or {"default": None}))


class Settings(BaseSettings):
    """Every setting with its value; `load_settings` makes one.

    Args:
        uri: address of a Milvus server, or path of a Milvus Lite file.
        token: token or `user:password`; never printed. `user` and `password` are joined to one.
        source_token: the same for a `milvus://` source, which may be another server; never printed.
        user: name of a Milvus user, an alternative to `token`.
        password: of that user; never printed.
        db_name: Milvus database, or None for the server's default one.
        ca_pem_path: certificate that vouches for a server at an https address; None trusts the public authorities.
        client_pem_path: certificate for a server that asks its clients for one.
        client_key_path: its key.
        server_name: what the server's certificate calls it, where the address calls it something else.
        encoder: name or folder of an encoder bundle, or the address of an encoder service.
        encoder_token: token for the encoder service; never printed.
        encoder_ca_pem_path: certificate that vouches for an encoder service at a grpcs address.
        encoder_client_pem_path: certificate for a service that asks its clients for one.
        encoder_client_key_path: its key.
        collection: name of the collection of photos.
        device: where the encoder runs, or None to let it choose.
        runtime: what runs its networks, or "auto" to let it choose.
        staging: where files wait for a bulk import: a folder, or a bucket's URL.
        staging_endpoint: address of the bucket's object store; None follows the object store's own variables.
        staging_key: access key of the bucket; None as well.
        staging_secret: of that key; never printed.
        tracing: whether to set OpenTelemetry up; see `encoders.tracing`.
    """

    model_config = SettingsConfigDict(extra="ignore", env_ignore_empty=True, case_sensitive=True, populate_by_name=True)

    uri: str = _variable("uri", default_factory=default_uri, repr=False)  # it may hold a login
    token: SecretStr | None = _variable("token")
    source_token: SecretStr | None = _variable("source_token")
    user: str | None = _variable("user")
    password: SecretStr | None = _variable("password")
    db_name: str | None = _variable("db_name")
    ca_pem_path: str | None = _variable("ca_pem_path")
    client_pem_path: str | None = _variable("client_pem_path")
    client_key_path: str | None = _variable("client_key_path")
    server_name: str | None = _variable("server_name")
    encoder: str = _variable("encoder", default="default")
    encoder_token: SecretStr | None = _variable("encoder_token")
    encoder_ca_pem_path: str | None = _variable("encoder_ca_pem_path")
    encoder_client_pem_path: str | None = _variable("encoder_client_pem_path")
    encoder_client_key_path: str | None = _variable("encoder_client_key_path")
    collection: str = _variable("collection", default="photos")
    device: str | None = _variable("device")
    runtime: str = _variable("runtime", default="auto")
    staging: str | None = _variable("staging")
    staging_endpoint: str | None = _variable("staging_endpoint")
    staging_key: str | None = _variable("staging_key")
    staging_secret: SecretStr | None = _variable("staging_secret")
    tracing: bool = _variable("tracing", default=False)

    @field_validator("user")
    @classmethod
    def _no_colon(cls, value: str | None) -> str | None:
        if value is not None and ":" in value:
            raise ValueError
        return value

    @field_validator("collection")
    @classmethod
    def _named(cls, value: str) -> str:
        if not COLLECTION_NAME.fullmatch(value):
            raise ValueError
        return value

    @field_validator("runtime")
    @classmethod
    def _offered(cls, value: str) -> str:
        if value not in _RUNTIMES:
            raise ValueError
        return value

    @field_validator("device")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is not None and not _DEVICE.fullmatch(value):
            raise ValueError
        return value


def load_settings(**flags: Any) -> Settings:
    """Gather the settings; a flag that is None counts as not given.

    Args:
        **flags: any of `VARIABLES`, such as `uri`, `token` or `collection`.

    Returns:
        The settings, each by the precedence in this module's first lines.

    Raises:
        SettingsError: a misspelt `COMPSKETCH_` variable, an unreadable file, a value out of range, or half a login or
            two; the message names the variable and what it has to hold, and never shows a token or a password.
    """
    file = config_file()
    _refuse_misspelt(os.environ, "the environment")
    if file.is_file():
        _refuse_misspelt(_lines(file), str(file))
    given = {name: value for name, value in flags.items() if value is not None}
    unknown = set(given) - set(VARIABLES)
    if unknown:
        raise SettingsError(f"no setting is called {sorted(unknown)}; there are {sorted(VARIABLES)}")
    aliased = {VARIABLES[name][0]: value for name, value in given.items()}
    build: Any = Settings  # its private arguments are not in its signature
    try:
        settings = cast(Settings, build(_env_file=file, _env_file_encoding="utf-8", **aliased))
    except ValidationError as error:
        raise SettingsError("; ".join(_complaints(error, given))) from None  # the cause would show the values
    return settings if "token" in given else _logged_in(settings)


def _logged_in(settings: Settings) -> Settings:
    """With user and password as the token, where there are any."""
    user, password = settings.user, settings.password
    if user is None and password is None:
        return settings
    if user is None or password is None:
        there, missing = ("MILVUS_PASSWORD", "MILVUS_USER") if user is None else ("MILVUS_USER", "MILVUS_PASSWORD")
        raise SettingsError(f"{there} is set and {missing} is not: set both, or MILVUS_TOKEN")
    if settings.token is not None:
        raise SettingsError("MILVUS_TOKEN and MILVUS_USER are both set, two ways to log in: unset one of them")
    return settings.model_copy(update={"token": SecretStr(f"{user}:{password.get_secret_value()}")})


def _lines(file: Path) -> dict[str, str | None]:
    try:
        return dotenv_values(file, encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: cannot be read as UTF-8 lines of NAME=value ({type(error).__name__})") from None


def _refuse_misspelt(names: Iterable[str], where: str) -> None:
    known = [variable for variable, _ in VARIABLES.values()]
    for name in names:
        if name.startswith(PREFIX) and name not in known:
            ours = sorted(variable for variable in known if variable.startswith(PREFIX))
            near = difflib.get_close_matches(name[len(PREFIX) :], [one[len(PREFIX) :] for one in ours], n=1)
            hint = f"did you mean {PREFIX}{near[0]}?" if near else f"known are {', '.join(ours)}"
            raise SettingsError(f"{name} in {where} is no setting; {hint}")


def _complaints(error: ValidationError, flags: dict[str, Any]) -> list[str]:
    words = {variable: (name, meaning) for name, (variable, meaning) in VARIABLES.items()}
    complaints = []
    for fault in error.errors(include_input=True):
        variable = str(fault["loc"][0])
        name, meaning = words[variable]
        value = "its value" if name in _SECRETS else repr(fault["input"])
        place = f"{name}=" if name in flags else variable
        complaints.append(f"{place}: {value} does not fit; it has to be {meaning}")
    return complaints
