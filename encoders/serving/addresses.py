"""The addresses of an encoder service: grpc://HOST:PORT, or grpcs:// with TLS; several servers, parted by commas.

grpc://gpu-host                    port 50051
grpcs://gpu-1:443,gpu-2:443        one after the other, each in its turn
grpc://gpu-host:50051/coco         the model of this name or fingerprint, where several are served
grpc://10.0.0.7:50051?insecure     a token may be sent in the clear: to be spelled out
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from encoders.errors import CompsketchError

__all__ = ["PORT", "SCHEMES", "Address", "Addresses"]

PORT = 50051
SCHEMES = ("grpc://", "grpcs://")
FORM = "an encoder service is grpc://HOST:PORT, or grpcs:// with TLS; several servers are parted by commas"
_HOST = re.compile(
    r"(?:\[(?P<six>[0-9a-fA-F:.]+)\]|(?P<name>[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?))(?::(?P<port>\d{1,5}))?"
)
_MODEL = re.compile(r"[\w.-]*")


@dataclass(frozen=True)
class Address:
    """One server.

    Args:
        host: a name, or an address without brackets.
        port: 1 to 65535.
        secure: whether TLS is spoken.
    """

    host: str
    port: int
    secure: bool

    @property
    def target(self) -> str:
        """As gRPC takes it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether what is sent there stays on this machine."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"{SCHEMES[self.secure]}{self.target}"


@dataclass(frozen=True)
class Addresses:
    """Servers of one model.

    Args:
        servers: at least one, none twice.
        model: name or fingerprint of the model; empty for the one that they serve by default.
        insecure: whether a token may be sent in the clear.
    """

    servers: tuple[Address, ...]
    model: str = ""
    insecure: bool = False

    @classmethod
    def parse(cls, text: str) -> Addresses:
        """Read an address.

        Raises:
            CompsketchError: it is none; the message says what about it, and never repeats a login.
        """
        scheme = next((scheme for scheme in SCHEMES if text.startswith(scheme)), None)
        if scheme is None:
            raise CompsketchError(f"{_shown(text)!r} is no address of an encoder service: {FORM}")
        rest, _, query = text[len(scheme) :].partition("?")
        hosts, _, model = rest.partition("/")
        if "@" in hosts:
            raise CompsketchError(
                f"{scheme}{hosts.rpartition('@')[2]}: an encoder service takes no login in its address; "
                "set COMPSKETCH_ENCODER_TOKEN"
            )
        if query not in ("", "insecure"):
            raise CompsketchError(f"{_shown(text)!r}: behind the ? only 'insecure' is known, found {query!r}")
        if not _MODEL.fullmatch(model):
            raise CompsketchError(
                f"{_shown(text)!r}: {model!r} is no model's name or fingerprint; write HOST:PORT/NAME"
            )
        servers = tuple(_server(part.strip(), scheme) for part in hosts.split(","))
        if len(set(servers)) < len(servers):
            raise CompsketchError(f"{_shown(text)!r} names a server twice; name each once")
        return cls(servers, model, bool(query))

    def __str__(self) -> str:
        model = f"/{self.model}" if self.model else ""
        return SCHEMES[self.servers[0].secure] + ",".join(server.target for server in self.servers) + model


def _server(part: str, scheme: str) -> Address:
    found = _HOST.fullmatch(part)
    if found is None:
        raise CompsketchError(f"{part!r} in an address that begins with {scheme} is no HOST:PORT: {FORM}")
    port = int(found["port"] or PORT)
    if not 1 <= port <= 65535:
        raise CompsketchError(f"{scheme}{part}: a port is 1 to 65535")
    if found["six"]:
        try:
            ipaddress.IPv6Address(found["six"])
        except ValueError:
            raise CompsketchError(f"{scheme}{part}: {found['six']!r} is no IPv6 address") from None
    return Address(found["six"] or found["name"], port, scheme == SCHEMES[1])


def _shown(text: str) -> str:
    """An address without the login that it may hold."""
    return re.sub(r"//[^/?]*@", "//", text)
