"""Who may search: everyone on this machine, and elsewhere whoever knows the token, remembered by a cookie.

The cookie holds 256 random bits and nothing else; what they stand for is kept here, and forgotten with the process.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie

from starlette.responses import Response

from compsketch_milvus.web.refusals import Refusal

__all__ = ["LIFETIME", "MIN_TOKEN", "Login", "Visit"]

LIFETIME = 12 * 3600.0  # seconds, from login on
MOST = 10_000  # visits remembered
MIN_TOKEN = 16  # letters


@dataclass
class Visit:
    """What a cookie stands for.

    Args:
        name: of the client, for rates and turns; not the cookie.
        ends: when it does, in seconds of the clock.
        user: whether it may search.
    """

    name: str
    ends: float
    user: bool


class Login:
    """The visits, and the token.

    Args:
        token: what has to be known; None: nothing, every visit may search.
        secure: whether the page is served by TLS alone.
        clock: in seconds.
    """

    def __init__(self, token: str | None, *, secure: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._digest = None if token is None else _digest(token)
        self._secure, self._clock = secure, clock
        self._visits: OrderedDict[bytes, Visit] = OrderedDict()  # by the digest of the cookie, the oldest first

    @property
    def needed(self) -> bool:
        """Whether a token is asked for."""
        return self._digest is not None

    @property
    def cookie(self) -> str:
        """Its name. Browsers take one with this prefix only over TLS, and from this very host."""
        return "__Host-compsketch" if self._secure else "compsketch"

    def visit(self, cookie_header: str) -> Visit | None:
        """The visit that a request's cookies belong to, if it has not ended."""
        try:
            morsel = SimpleCookie(cookie_header).get(self.cookie)
        except CookieError:
            return None
        found = None if morsel is None else self._visits.get(_digest(morsel.value))
        return found if found is not None and found.ends > self._clock() else None

    def enter(self, token: str, response: Response) -> None:
        """Begin a visit that may search.

        Raises:
            Refusal: 401, the token is another one.
        """
        if self._digest is not None and not hmac.compare_digest(self._digest, _digest(token)):
            raise Refusal(401, "this is not the token that the server was started with")
        self.begin(response, user=True)

    def begin(self, response: Response, *, user: bool) -> None:
        """Begin a visit, whose cookie goes with the response."""
        while self._visits and (len(self._visits) >= MOST or next(iter(self._visits.values())).ends <= self._clock()):
            self._visits.popitem(last=False)
        value = secrets.token_urlsafe(32)
        self._visits[_digest(value)] = Visit(secrets.token_hex(8), self._clock() + LIFETIME, user)
        response.set_cookie(
            self.cookie, value, max_age=int(LIFETIME), path="/", secure=self._secure, httponly=True, samesite="strict"
        )

    def leave(self, cookie_header: str, response: Response) -> None:
        """End the visit."""
        visit = self.visit(cookie_header)
        self._visits = OrderedDict((key, one) for key, one in self._visits.items() if one is not visit)
        response.delete_cookie(self.cookie, path="/", secure=self._secure, httponly=True, samesite="strict")


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
