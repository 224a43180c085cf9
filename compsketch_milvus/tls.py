"""TLS to Milvus or to an encoder service: the certificates that the settings name, checked before they are used."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compsketch_milvus.errors import SettingsError

if TYPE_CHECKING:
    from compsketch_milvus.settings import Settings

__all__ = ["Tls"]


@dataclass(frozen=True)
class Tls:
    """How a connection is encrypted, and who shows what to whom.

    Args:
        ca: PEM file that vouches for the server; None trusts the public authorities.
        client: PEM file of the certificate that this client shows, or None.
        key: PEM file of its key.
        name: what the server's certificate calls it; None: what the address calls it.
        variables: how the variables that name the files begin.
    """

    ca: str | None = None
    client: str | None = None
    key: str | None = None
    name: str | None = None
    variables: str = "MILVUS"

    @classmethod
    def named(cls, settings: Settings) -> Tls:
        """What the settings name, checked.

        Raises:
            SettingsError: a file that is missing, cannot be read or is not what it has to be, or half of a pair.
        """
        tls = cls(settings.ca_pem_path, settings.client_pem_path, settings.client_key_path, settings.server_name)
        tls.context()
        if tls.client is not None and tls.ca is None:
            raise SettingsError("MILVUS_CLIENT_PEM_PATH needs MILVUS_CA_PEM_PATH as well: pymilvus takes both or none")
        return tls

    @classmethod
    def of_encoder(cls, settings: Settings) -> Tls:
        """What the settings name for an encoder service, checked.

        Raises:
            SettingsError: as `named`.
        """
        files = settings.encoder_ca_pem_path, settings.encoder_client_pem_path, settings.encoder_client_key_path
        tls = cls(*files, variables="COMPSKETCH_ENCODER")
        tls.context()
        return tls

    def arguments(self) -> dict[str, Any]:
        """What a MilvusClient is to be given; pymilvus calls the one file by two names.

        Dedicated: pymilvus would share a connection to the same address, whatever certificates that was made with.
        """
        given: dict[str, Any] = {"secure": True, "dedicated": True}
        if self.client is not None:
            given |= {"ca_pem_path": self.ca, "client_pem_path": self.client, "client_key_path": self.key}
        elif self.ca is not None:
            given["server_pem_path"] = self.ca
        return given | ({"server_name": self.name} if self.name else {})

    def context(self) -> ssl.SSLContext:
        """The same for a socket of Python.

        Raises:
            SettingsError: a file that is missing, cannot be read or is not what it has to be, or half of a pair.
        """
        ca, client, key = (f"{self.variables}_{file}_PATH" for file in ("CA_PEM", "CLIENT_PEM", "CLIENT_KEY"))
        if (self.client is None) != (self.key is None):
            raise SettingsError(
                f"a client's certificate and its key go together: set both {client} and {key}, or neither"
            )
        context = ssl.create_default_context()
        if self.ca is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            _read(ca, self.ca, "CERTIFICATE")
            try:
                context.load_verify_locations(self.ca)
            except ssl.SSLError as error:
                raise SettingsError(f"{ca}: {self.ca!r} holds a damaged certificate") from error
        if self.client is not None and self.key is not None:
            _read(client, self.client, "CERTIFICATE")
            _read(key, self.key, "PRIVATE KEY")
            try:
                context.load_cert_chain(self.client, self.key, password=lambda: b"")  # without one, it would ask
            except ssl.SSLError as error:
                raise SettingsError(
                    f"{key}: {self.key!r} is not the key of the certificate {self.client!r}, "
                    "or is encrypted, or one of the two is damaged"
                ) from error
        return context


def _read(variable: str, path: str, what: str) -> None:
    """Refuse a file that cannot be read, or holds no PEM block of the kind."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            text = file.read(1 << 20)
    except OSError as error:
        raise SettingsError(f"{variable}: {path!r} cannot be read ({error.strerror})") from error
    if f"{what}-----" not in text:
        raise SettingsError(f"{variable}: {path!r} is no PEM file with a {what.lower()} in it")
