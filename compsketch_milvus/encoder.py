"""The protocol at which Milvus' side and the paper's side meet, and the way to an encoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias, cast, runtime_checkable

import numpy as np
from PIL import Image

from compsketch_milvus.errors import CompsketchError
from compsketch_milvus.settings import Settings, load_settings
from encoders import tracing
from encoders.sketch import Sketch

if TYPE_CHECKING:
    from encoders.explain import Explanation

__all__ = ["Calibrated", "Encoder", "Explaining", "ImageLike", "Projecting", "connect"]

# A path, encoded bytes, a Pillow image, or uint8 pixels (height, width, 3).
ImageLike: TypeAlias = str | Path | bytes | Image.Image | np.ndarray


@runtime_checkable
class Encoder(Protocol):
    """Photos and sketches to vectors of one space (sections 3.1 to 3.4 of the paper).

    Attributes:
        name: the bundle's name, for people.
        dim: d, the length of a vector.
        fingerprint: changes whenever the vectors would; a collection remembers it.
        device: where the encoder runs, such as "cpu" or "cuda:0".
        image_size: side of the square, in pixels, to which a photo is stretched.
    """

    @property
    def name(self) -> str: ...
    @property
    def dim(self) -> int: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def device(self) -> str: ...
    @property
    def image_size(self) -> int: ...

    def encode_images(self, images: Sequence[ImageLike]) -> np.ndarray:
        """B photos to (B, d) float32 rows of unit length; (image_size, image_size, 3) uint8 is taken as it is."""
        ...

    def encode_sketches(self, sketches: Sequence[Sketch], *, words: bool = False) -> np.ndarray:
        """B sketches to (B, d) float32 rows of unit length; `words` mixes in each object's label."""
        ...

    def embed_images(self, images: Sequence[ImageLike], *, project: bool = False) -> np.ndarray:
        """B photos to (B, F) float32, the flattened features of eq. 4, or (B, d) with `project`."""
        ...


@runtime_checkable
class Projecting(Protocol):
    """An encoder whose projection (section 3.4) can be had apart from its networks.

    Attributes:
        networks: fingerprint of all but the projection: changes whenever the features would.
        features: F, the length of a photo's flattened features.
    """

    @property
    def networks(self) -> str: ...
    @property
    def features(self) -> int: ...

    def project(self, features: np.ndarray) -> np.ndarray:
        """Features (B, F) of `Encoder.embed_images`, in single or half precision, to the rows (B, d) of the photos."""
        ...


@runtime_checkable
class Calibrated(Protocol):
    """An encoder that may know how likely a score means a relevant photo."""

    def confidence(self, sketch: Sketch, scores: np.ndarray, *, words: bool = False) -> np.ndarray | None:
        """Scores (k,) to probabilities (k,), rising with them; None if it cannot say for such a sketch."""
        ...


@runtime_checkable
class Explaining(Protocol):
    """An encoder that can take the scores of photos apart."""

    @property
    def name(self) -> str: ...

    def explain(self, sketch: Sketch, vectors: np.ndarray, *, words: bool = False) -> list[Explanation]:
        """What adds to the scores of photos with the vectors (k, d)."""
        ...


def connect(
    spec: str | None = None, *, device: str | None = None, runtime: str | None = None, timeout: float | None = None
) -> Encoder:
    """Open an encoder: a bundle on this machine, or one that a service has.

    Args:
        spec: name or folder of a bundle, or a service as grpc://HOST:PORT, grpcs:// with TLS, several hosts parted by
            commas (`encoders.serving.addresses`); None takes `COMPSKETCH_ENCODER`, else the bundle that is shipped.
            `COMPSKETCH_ENCODER_TOKEN` and the like say how to log in to a service.
        device: "cpu", "cuda", "cuda:N"; None takes `COMPSKETCH_DEVICE`, else lets the encoder choose. A service has
            its own, whatever this is, and its own runtime.
        runtime: "torch", "openvino" or "auto"; None takes `COMPSKETCH_RUNTIME`, else the fastest that is installed.
        timeout: seconds that a call of a service may take, all attempts together; None leaves that to its client.

    Raises:
        CompsketchError: torch is not installed, or the address is no service's.
        BundleError: there is no such bundle, or it is damaged.
        ServerError: the service cannot be reached, refuses, or its servers have different encoders.
        SettingsError: a variable of the environment is misspelt or out of range.
    """
    settings = load_settings(encoder=spec, device=device, runtime=runtime)
    if settings.tracing:
        tracing.start("compsketch")
    if "://" in settings.encoder:
        return _served(settings, {} if timeout is None else {"timeout": timeout})
    try:
        from encoders.local import LocalEncoder
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.split(".")[0] == "encoders":
            raise  # the installation itself is broken: not for the user to mend
        raise CompsketchError(
            f"encoder {settings.encoder!r} needs {error.name}, which is not installed: "
            'pip install "compsketch-milvus[encoders]", or name a service that encodes, grpc://HOST:PORT'
        ) from error
    return cast(Encoder, LocalEncoder.open(settings.encoder, settings.device, settings.runtime))


def _served(settings: Settings, more: dict[str, float]) -> Encoder:
    from compsketch_milvus.tls import Tls
    from encoders.serving.client import RemoteEncoder

    tls = Tls.of_encoder(settings)
    token = settings.encoder_token.get_secret_value() if settings.encoder_token else None
    return RemoteEncoder.open(settings.encoder, token=token, ca=tls.ca, client=tls.client, key=tls.key, **more)
