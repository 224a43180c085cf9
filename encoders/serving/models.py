"""The models that a server has, side by side: chosen by fingerprint or by name, the first one by default."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from encoders.errors import CompsketchError
from encoders.serving import encoder_pb2 as pb
from encoders.serving import wire
from encoders.serving.engine import Engine
from encoders.serving.limits import InvalidRequest
from encoders.serving.observer import Observer
from encoders.serving.statuses import UnknownModel

__all__ = ["Model", "Models"]


@dataclass(frozen=True)
class Model:
    """One model.

    Args:
        engine: runs its encoder.
        observe: hears what the engine does, and what is refused before it comes to that.
    """

    engine: Engine
    observe: Observer

    @property
    def name(self) -> str:
        """The encoder's name, for people."""
        return str(self.engine.encoder.name)

    @property
    def fingerprint(self) -> str:
        """The encoder's."""
        return str(self.engine.encoder.fingerprint)

    @property
    def features(self) -> int:
        """F, or 0 if there are no features to be had."""
        return int(getattr(self.engine.encoder, "features", 0))

    @property
    def explains(self) -> bool:
        """Whether it can say why a photo was found."""
        return hasattr(self.engine.encoder, "explain")

    def message(self) -> pb.Model:
        """As `GetModels` tells it."""
        return wire.model_message(self.engine.encoder)


class Models:
    """Models of different fingerprints, at least one, the default first.

    Raises:
        CompsketchError: two are the same.
    """

    def __init__(self, models: Sequence[Model]) -> None:
        self._models = list(models)
        prints = [model.fingerprint for model in self._models]
        twice = next((one for one in prints if prints.count(one) > 1), None)
        if twice is not None:
            raise CompsketchError(f"the encoder {twice} is named twice; serve each once")

    def __iter__(self) -> Iterator[Model]:
        return iter(self._models)

    def choose(self, wish: str) -> Model:
        """The model of a fingerprint or a name; empty for the default.

        Raises:
            UnknownModel: there is none.
            InvalidRequest: several have this name.
        """
        if not wish:
            return self._models[0]
        for model in self._models:
            if model.fingerprint == wish:
                return model
        named = [model for model in self._models if model.name == wish]
        if len(named) > 1:
            prints = ", ".join(model.fingerprint for model in named)
            raise InvalidRequest(f"{len(named)} models have this name; choose by fingerprint: {prints}")
        if not named:
            known = ", ".join(f"{model.name} ({model.fingerprint})" for model in self._models)
            raise UnknownModel(f"no such model is served here; there are {known}")
        return named[0]
