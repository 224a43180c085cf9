"""What a decode worker runs: photos in, pixels out, over one socket, until that is closed.

Asked with 8 bytes, the length, and a file's bytes; answers with `HEAD` and pixels or a sentence. It knows nothing but
how to decode, and imports nothing but what that takes.
"""

from __future__ import annotations

import resource
import signal
import socket
import struct
import sys
from collections.abc import Callable
from functools import partial

from encoders.errors import ImageError, ImageLimitError
from encoders.images import Limits, Photo, load_photo

LENGTH = struct.Struct("<Q")
HEAD = struct.Struct("<BIIQ")  # what came of it, width, height, bytes that follow
READY, DECODED, INVALID, TOO_LARGE = range(4)
SENTENCE = 4096  # bytes of a message at most
MEMORY = 1 << 30  # bytes of address space for the interpreter and its libraries
COST = 16  # bytes a pixel while the costliest formats are decoded: RGBA, float and their copies


def main(descriptor: int, size: int, max_bytes: int, max_pixels: int, seconds: float) -> None:
    """Runs the worker at its end of the socket."""
    limits = Limits(max_bytes, max_pixels)
    bound_memory(MEMORY + 2 * max_bytes + COST * max_pixels)
    serve(descriptor, partial(load_photo, size=size, limits=limits), seconds)


def serve(descriptor: int, decode: Callable[[bytes], Photo], seconds: float) -> None:
    """Answers with what `decode` makes of each file; one that takes longer than `seconds` ends the process."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends a process, also inside a library
    with socket.socket(fileno=descriptor) as peer:
        peer.sendall(HEAD.pack(READY, 0, 0, 0))
        while length := peer.recv(LENGTH.size, socket.MSG_WAITALL):
            content = receive(peer, LENGTH.unpack(length)[0])
            signal.setitimer(signal.ITIMER_REAL, seconds)
            try:
                photo = decode(bytes(content))
                kind, width, height, answer = DECODED, photo.width, photo.height, photo.pixels.tobytes()
            except ImageError as error:
                kind = TOO_LARGE if isinstance(error, ImageLimitError) else INVALID
                width, height, answer = 0, 0, str(error).encode()[:SENTENCE]
            signal.setitimer(signal.ITIMER_REAL, 0)
            peer.sendall(HEAD.pack(kind, width, height, len(answer)))
            peer.sendall(answer)


def receive(peer: socket.socket, length: int) -> bytearray:
    """Exactly so many bytes.

    Raises:
        EOFError: The other end has closed.
    """
    content = bytearray(length)
    view, done = memoryview(content), 0
    while done < length:
        count = peer.recv_into(view[done:])
        if count == 0:
            raise EOFError("the other end has closed")
        done += count
    return content


def bound_memory(size: int) -> None:
    """More bytes than a photo may ever take fail the photo, not the machine; where the system is Linux."""
    if sys.platform == "linux":
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (size if hard == resource.RLIM_INFINITY else min(size, hard), hard))
