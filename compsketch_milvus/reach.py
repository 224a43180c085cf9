"""Why a server cannot be reached, as far as a socket can tell: pymilvus has one sentence for everything.

Nothing secret is sent: these sockets are closed before anybody would log in.
"""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from compsketch_milvus.errors import ServerError

if TYPE_CHECKING:
    from compsketch_milvus.tls import Tls

__all__ = ["Place", "fault", "knock", "shake_hands"]

PATIENCE = 5.0  # seconds for each answer
# A client of HTTP/2 says hello, with empty settings; a server that wants a certificate of it refuses only then.
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
_EXPIRED, _OTHER_NAME, _OTHER_ADDRESS = 10, 62, 64  # X.509's codes of what is wrong with a certificate


@dataclass(frozen=True)
class Place:
    """Host and port of a server's address, and whether it is to be spoken to in TLS.

    Args:
        host: name or number.
        port: of its gRPC.
        secure: whether the address begins with https.
    """

    host: str
    port: int
    secure: bool

    @classmethod
    def of(cls, uri: str) -> Place | None:
        """The place of an address; None where it is no host's, but a file or a socket of Unix.

        Raises:
            ValueError: its port is none.
        """
        parts = urlsplit(uri)
        if not parts.hostname:
            return None
        if parts.port == 0:
            raise ValueError("port 0")
        secure = parts.scheme.lower() == "https"
        return cls(parts.hostname, parts.port or (443 if secure else 19530), secure)

    def __str__(self) -> str:
        return f"{'https' if self.secure else 'http'}://{self.host}:{self.port}"


def fault(place: Place, tls: Tls) -> ServerError | None:
    """What keeps a connection from coming about; None where a socket finds nothing wrong."""
    try:
        knock(place)
        if place.secure:
            shake_hands(place, tls)
        elif _speaks_tls(place):
            return ServerError(f"{place}: this server speaks TLS; write https:// in place of http://")
    except ServerError as error:
        return error
    return None


def knock(place: Place) -> None:
    """See whether anything listens there.

    Raises:
        ServerError: nothing does, and why.
    """
    try:
        _socket(place).close()
    except socket.gaierror as error:
        raise ServerError(f"{place}: there is no host called {place.host!r}; set --uri, or MILVUS_URI") from error
    except ConnectionRefusedError as error:
        raise ServerError(
            f"{place}: no Milvus answers, nothing listens at this port; is it running, and is this its address? "
            "Set --uri, or MILVUS_URI; a file ending in .db needs no server",
            transient=True,
        ) from error
    except OSError as error:
        raise ServerError(
            f"{place}: the host does not answer ({error.strerror or error}); is this its address, and does a firewall "
            "let this machine through?",
            transient=True,
        ) from error


def shake_hands(place: Place, tls: Tls) -> datetime:
    """Make a connection in TLS, as a client of Milvus would.

    Returns:
        Until when the server's certificate is valid.

    Raises:
        ServerError: one of the two sides does not accept the other, and why.
    """
    context = tls.context()
    context.set_alpn_protocols(["h2"])
    try:
        with _socket(place) as plain, context.wrap_socket(plain, server_hostname=tls.name or place.host) as secure:
            certificate = secure.getpeercert() or {}
            with suppress(OSError):  # of a connection that the server has closed already; it may have said why
                secure.sendall(_HELLO)
            if not secure.recv(1):
                raise ServerError(f"{place}: the server closes the connection after the handshake; is this Milvus?")
    except ssl.SSLCertVerificationError as error:
        raise ServerError(f"{place}: {_unaccepted(error, place, tls)}") from error
    except ssl.SSLError as error:
        raise ServerError(f"{place}: {_refused(error, tls)}") from error
    except OSError as error:
        raise ServerError(f"{place}: the handshake of TLS breaks off ({error.strerror or error})") from error
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(certificate["notAfter"])), timezone.utc)


def _unaccepted(error: ssl.SSLCertVerificationError, place: Place, tls: Tls) -> str:
    if error.verify_code == _EXPIRED:
        return "the server's certificate has expired; give the server a new one"
    if error.verify_code in (_OTHER_NAME, _OTHER_ADDRESS):
        return (
            f"the server's certificate is not for {tls.name or place.host!r}; set MILVUS_SERVER_NAME to the name in it"
        )
    trusted = f"{tls.ca!r} does not vouch for" if tls.ca else "no public authority vouches for"
    return f"{trusted} the server's certificate ({error.verify_message}); set MILVUS_CA_PEM_PATH to what does"


def _refused(error: ssl.SSLError, tls: Tls) -> str:
    reason = str(error.reason or error)
    if reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST"):
        return "this server does not speak TLS; write http:// in place of https://"
    if "CERTIFICATE" in reason and tls.client is None:
        return (
            "the server wants a certificate of its clients; set MILVUS_CLIENT_PEM_PATH, MILVUS_CLIENT_KEY_PATH and "
            "MILVUS_CA_PEM_PATH"
        )
    if "CERTIFICATE" in reason or "UNKNOWN_CA" in reason:
        return f"the server does not accept the certificate {tls.client!r} ({reason})"
    return f"the handshake of TLS fails ({reason})"


def _speaks_tls(place: Place) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with suppress(OSError), _socket(place) as plain, context.wrap_socket(plain, server_hostname=place.host):
        return True
    return False


def _socket(place: Place) -> socket.socket:
    return socket.create_connection((place.host, place.port), timeout=PATIENCE)
