"""Whether the server on this machine serves, by grpc.health.v1, for a container's health check.

    python -m encoders.serving.probe [PORT]

Exit status 0 if it does, 1 with a line on stderr if not.
"""

from __future__ import annotations

import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from encoders.serving.addresses import PORT

__all__ = ["main", "status"]

TIMEOUT = 4.0  # seconds


def status(port: int = PORT, timeout: float = TIMEOUT) -> str:
    """What the server at a port of loopback says of itself: SERVING, NOT_SERVING, or why it says nothing."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=timeout)
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"
    return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


def main(arguments: list[str]) -> int:
    """The exit status."""
    found = status(int(arguments[0]) if arguments else PORT)
    if found != "SERVING":
        print(found, file=sys.stderr)
    return int(found != "SERVING")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
