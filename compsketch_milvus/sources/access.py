"""What a source may cost and reach: bytes and pixels of a photo, and which addresses its URLs may lead to.

A manifest or a collection is somebody else's text. A URL in it must not make this machine ask what only this machine
can reach: a router's page, a cloud's metadata service, a database without a password.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from encoders.images import Limits

__all__ = ["Access", "PrivateAddressError", "is_public", "public_socket"]

_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address


@dataclass(frozen=True)
class Access:
    """What a source is allowed.

    Args:
        limits: ceilings on one photo's bytes and pixels; what is larger is refused by name, before it is read.
        allow_private: whether HTTP may lead to addresses that are not of the public internet.
        asks: about the photos of which ids a server is asked before they are fetched.
    """

    limits: Limits = field(default_factory=Limits)
    allow_private: bool = False
    asks: Callable[[str], bool] = lambda _: True


class PrivateAddressError(OSError):
    """A connection that was not made, since its address is not of the public internet."""


def is_public(address: str) -> bool:
    """Whether an IPv4 or IPv6 address is one of the public internet; an IPv4 address inside an IPv6 one is looked at.

    Not public: loopback, private, link-local (with the metadata services of clouds), shared, multicast, reserved.
    """
    ip: Any = ipaddress.ip_address(address.partition("%")[0])
    if ip.version == 6:
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo and ip.teredo[1])
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        if ip.is_site_local:
            return False
    return bool(ip.is_global and not ip.is_multicast and not ip.is_reserved)


def public_socket(address: tuple[Any, ...]) -> socket.socket:
    """A socket for an address that is about to be connected to.

    Asked with the very address of the connection, after names were resolved and redirects followed: a name that gives
    another address the second time it is resolved gains nothing.

    Args:
        address: one answer of `socket.getaddrinfo`.

    Raises:
        PrivateAddressError: the address is not public.
    """
    family, kind, protocol, _, place = address
    if not is_public(place[0]):
        raise PrivateAddressError(f"{place[0]} is a private address")
    return socket.socket(family, kind, protocol)
