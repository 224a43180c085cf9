"""TLS to a Milvus server: the certificates that the settings name, checked before they are used."""

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
    """

    ca: str | None = None
    client: str | None = None
    key: str | None = None
    name: str | None = None

    @classmethod
    def named(cls, settings: Settings) -> Tls:
        """What the settings name, checked.

        Raises:
            SettingsError: a file that is missing, cannot be read or is not what it has to be, or half of a pair.
        """
        tls = cls(settings.ca_pem_path, settings.client_pem_path, settings.client_key_path, settings.server_name)
        if (tls.client is None) != (tls.key is None):
            raise SettingsError(
                "a client's certificate and its key go together: set both MILVUS_CLIENT_PEM_PATH and "
                "MILVUS_CLIENT_KEY_PATH, or neither"
            )
        if tls.client is not None and tls.ca is None:
            raise SettingsError("MILVUS_CLIENT_PEM_PATH needs MILVUS_CA_PEM_PATH as well: pymilvus takes both or none")
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
            SettingsError: a file that is missing, cannot be read or is not what it has to be.
        """
        context = ssl.create_default_context()
        if self.ca is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            _read("MILVUS_CA_PEM_PATH", self.ca, "CERTIFICATE")
            try:
                context.load_verify_locations(self.ca)
            except ssl.SSLError as error:
                raise SettingsError(f"MILVUS_CA_PEM_PATH: {self.ca!r} holds a damaged certificate") from error
        if self.client is not None and self.key is not None:
            _read("MILVUS_CLIENT_PEM_PATH", self.client, "CERTIFICATE")
            _read("MILVUS_CLIENT_KEY_PATH", self.key, "PRIVATE KEY")
            try:
                context.load_cert_chain(self.client, self.key, password=lambda: b"")  # without one, it would ask
            except ssl.SSLError as error:
                raise SettingsError(
                    f"MILVUS_CLIENT_KEY_PATH: {self.key!r} is not the key of the certificate {self.client!r}, "
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
