"""TLS of the server: its certificate, and whether clients have to show one; read again when the files change."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass

import grpc

from encoders.errors import CompsketchError
from encoders.serving.files import Followed

__all__ = ["Tls"]


@dataclass(frozen=True)
class Tls:
    """PEM files.

    Args:
        cert: the server's certificate, with those between it and the authority behind it.
        key: its key, not encrypted.
        client_ca: authorities whose certificates clients have to show (mutual TLS); None asks them for none.
    """

    cert: str | os.PathLike[str]
    key: str | os.PathLike[str]
    client_ca: str | os.PathLike[str] | None = None

    def credentials(self) -> grpc.ServerCredentials:
        """Credentials that follow the files: each new connection is met with what they hold by then.

        Files that have become unreadable or do not fit each other leave things as they are, and the log says so: a
        certificate and its key are two files, and one of them is written first.

        Raises:
            CompsketchError: a file is missing, unreadable, or not what it has to be.
        """
        paths = [path for path in (self.cert, self.key, self.client_ca) if path is not None]
        files = Followed(paths, self.read)
        shown = files.value

        def changed() -> grpc.ServerCertificateConfiguration | None:
            nonlocal shown
            before, shown = shown, files.value
            return None if shown is before else shown

        return grpc.dynamic_ssl_server_credentials(
            shown, changed, require_client_authentication=self.client_ca is not None
        )

    def read(self) -> grpc.ServerCertificateConfiguration:
        """What the files hold now, checked.

        Raises:
            CompsketchError: see `credentials`.
        """
        cert, key = _pem("--tls-cert", self.cert), _pem("--tls-key", self.key)
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.cert, self.key, password=lambda: b"")  # without one, it would ask
        except (ssl.SSLError, OSError):
            raise CompsketchError(
                f"--tls-key: {str(self.key)!r} is not the key of the certificate {str(self.cert)!r}, or is encrypted, "
                "or one of the two is damaged"
            ) from None
        if self.client_ca is None:
            return grpc.ssl_server_certificate_configuration([(key, cert)])
        authorities = _pem("--tls-client-ca", self.client_ca)
        try:
            context.load_verify_locations(cadata=authorities.decode("ascii", "replace"))
        except ssl.SSLError:
            raise CompsketchError(f"--tls-client-ca: {str(self.client_ca)!r} holds a damaged certificate") from None
        return grpc.ssl_server_certificate_configuration([(key, cert)], root_certificates=authorities)


def _pem(flag: str, path: str | os.PathLike[str]) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(1 << 20)
    except OSError as error:
        raise CompsketchError(f"{flag}: {str(path)!r} cannot be read ({error.strerror})") from None
    what = b"PRIVATE KEY" if flag == "--tls-key" else b"CERTIFICATE"
    if what + b"-----" not in data:
        raise CompsketchError(f"{flag}: {str(path)!r} is no PEM file with a {what.decode().lower()} in it")
    return data
