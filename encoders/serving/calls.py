"""Which server is asked, how often and when again, and what is said when there is no point: apart from who does it.

A call that failed is made again if the server did nothing with it, or nothing that matters: every call of the service
only computes, so asking twice gives the same answer twice. Each server is asked once before anyone waits; then the
pauses grow, a random half to whole of a step, within the call's deadline. A server that failed is left out for a while.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from encoders.errors import CompsketchError, ServerError
from encoders.serving.addresses import Address

__all__ = ["Attempts", "CallFailed", "Clock", "Rotation"]

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds
LEFT_OUT = 5.0  # seconds without a server that cannot be reached
UNTRUSTED = ("handshake failed", "certificate_verify_failed", "certificate verify failed", "peer name")
NO_TLS = "wrong_version_number"  # what OpenSSL makes of an answer in the clear

Clock = Callable[[], float]


@dataclass
class CallFailed(Exception):
    """How a call ended that gave no answer; a copy of what gRPC says, without gRPC.

    Args:
        status: the name of its status code, such as "UNAVAILABLE".
        details: the server's words, or gRPC's.
        retry_after: seconds that the server asks to wait, if it does.
    """

    status: str
    details: str = ""
    retry_after: float | None = None

    @property
    def again(self) -> bool:
        """Whether the same call may be made again at once, or after a pause."""
        if self.status == "UNAVAILABLE":
            return not self._untrusted
        if self.status == "RESOURCE_EXHAUSTED":  # without a hint it is a message that is too large
            return self.retry_after is not None
        return self.status == "CANCELLED"  # not by us: a server that goes down

    @property
    def _untrusted(self) -> bool:
        return any(words in self.details.lower() for words in UNTRUSTED)

    def explained(self, address: Address, *, doing: str = "") -> CompsketchError:
        """What the caller is told, in one line that names the server and the way out.

        Args:
            address: who was asked.
            doing: what the call was for, in words, where the server does not know a model.
        """
        said = " ".join(self.details.split())
        where = f"encoder service {address}"
        if self.status == "UNAVAILABLE" and self._untrusted:
            if NO_TLS in said.lower():
                return ServerError(f"{where} speaks no TLS; write grpc://, or give it --tls-cert and --tls-key")
            return ServerError(
                f"{where}: no trust could be made ({_brief(said)}); name what has signed its certificate in "
                "COMPSKETCH_ENCODER_CA_PEM_PATH, and the client's own in COMPSKETCH_ENCODER_CLIENT_PEM_PATH if it asks"
            )
        if self.status in ("UNAVAILABLE", "CANCELLED"):
            way = "is `compsketch serve` running there, and does it speak TLS as the address says?"
            return ServerError(f"{where} cannot be reached ({_brief(said)}); {way}", transient=True)
        if self.status == "DEADLINE_EXCEEDED":
            return ServerError(f"{where} did not answer in time; try again, or give it longer", transient=True)
        if self.status == "RESOURCE_EXHAUSTED" and self.again:
            return ServerError(f"{where} has too much to do ({said}); try again in a while", transient=True)
        if self.status in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
            return ServerError(f"{where} refuses the login ({said}); set COMPSKETCH_ENCODER_TOKEN to one of its tokens")
        if self.status == "NOT_FOUND":
            return ServerError(f"{where} {doing or 'has no such model'} ({said})")
        if self.status == "UNIMPLEMENTED":
            return ServerError(
                f"{where} does not speak compsketch.v1 ({said}); is it `compsketch serve`, and up to date?"
            )
        if self.status in ("INVALID_ARGUMENT", "OUT_OF_RANGE", "FAILED_PRECONDITION"):
            return CompsketchError(f"{where}: {said}")
        return ServerError(f"{where} failed ({self.status}: {said}); its log says more")


def _brief(details: str) -> str:
    """gRPC's account of a connection that failed, down to its cause."""
    cause = details.split("last error: ")[-1]
    cause = re.sub(r"^[A-Z_]+: ", "", cause)
    cause = re.sub(r"^ipv[46]:\S+: ", "", cause)
    return cause.split("; RPC Error String")[0][:300] or "no reason given"


class Rotation:
    """Servers in turn, without those that failed a while ago. Threads may share one.

    Args:
        servers: at least one.
        clock: in seconds.
    """

    def __init__(self, servers: Sequence[Address], clock: Clock = time.monotonic) -> None:
        self._servers, self._clock = list(servers), clock
        self._back = dict.fromkeys(servers, 0.0)  # when each may be asked again
        self._turn = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._servers)

    def next(self) -> Address:
        """Whose turn it is; where all are left out, the one that comes back first."""
        with self._lock:
            now = self._clock()
            in_turn = self._servers[self._turn :] + self._servers[: self._turn]
            server = min(in_turn, key=lambda server: max(self._back[server], now))
            self._turn = (self._servers.index(server) + 1) % len(self._servers)
            return server

    def leave_out(self, server: Address, seconds: float = LEFT_OUT) -> None:
        """Ask others for so many seconds."""
        with self._lock:
            self._back[server] = self._clock() + seconds

    def take_back(self, server: Address) -> None:
        """It has answered."""
        with self._lock:
            self._back[server] = 0.0


class Attempts:
    """One call's attempts: counts them, and says how long to wait or that it is over.

    Args:
        rotation: which servers there are.
        timeout: seconds within which there has to be an answer, or `progress`.
        doing: see `CallFailed.explained`.
        clock: in seconds.
    """

    def __init__(self, rotation: Rotation, timeout: float, *, doing: str = "", clock: Clock = time.monotonic) -> None:
        self._rotation, self._timeout, self._doing, self._clock = rotation, timeout, doing, clock
        self.progress()

    def progress(self) -> None:
        """Something was answered: the deadline and the pauses begin anew."""
        self._since, self._failed, self._step = self._clock(), 0, FIRST_PAUSE

    @property
    def left(self) -> float:
        """Seconds until the deadline, at least a few."""
        return max(0.001, self._since + self._timeout - self._clock())

    def pause(self, server: Address, failure: CallFailed) -> float:
        """Seconds to wait before the next attempt, at whichever server's turn it then is.

        Raises:
            ServerError: there is no point in another attempt, or no time.
            CompsketchError: the request is at fault.
        """
        error = failure.explained(server, doing=self._doing)
        if isinstance(error, ServerError) and error.transient:
            self._rotation.leave_out(server, failure.retry_after or LEFT_OUT)
        if not failure.again:
            raise error
        self._failed += 1
        if self._failed % len(self._rotation):
            return 0.0  # another one has not been asked yet
        wait = max(failure.retry_after or 0.0, self._step * random.uniform(0.5, 1.0))
        self._step = min(2 * self._step, LONGEST_PAUSE)
        if wait >= self.left:
            raise ServerError(f"{error} (tried {self._failed} times)", transient=True) from failure
        return wait
