"""One family of exceptions for what a user can put right; each message names the input and the way out."""


class CompsketchError(ValueError):
    """A mistake in the input or the set-up, which its message explains in one line."""


class SketchError(CompsketchError):
    """A sketch that cannot be read, or that holds nothing to search with."""


class ImageError(CompsketchError):
    """A photo that cannot be decoded, or that passes a limit."""


class ImageLimitError(ImageError):
    """A photo that passes a limit on bytes or pixels."""


class BundleError(CompsketchError):
    """An encoder bundle that is incomplete, damaged or of another version."""


class DataError(CompsketchError):
    """Annotations, sketches or photos for training or evaluation that do not fit their format."""


class ServerError(CompsketchError):
    """A server, Milvus or encoder, that cannot be reached or refuses.

    `transient` tells that the same call may succeed in a while: the server is away, starting, or has too much to do.
    """

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.transient = transient
