"""Where the vectors of objects come from: the result of stage 1, f_s and f_i for SSBIR, vectors of names for SemIR.

All that comes after stage 1 is the same for both; a source is all that it sees of the difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from encoders.errors import DataError
from encoders.local import Networks
from encoders.objects import ObjectConfig, ObjectEncoder, normalise
from encoders.photos import SpatialNetworks
from encoders.semir import SemirNetworks
from encoders.training.asking import AskConfig
from encoders.training.augment import rasters
from encoders.training.checkpoints import digest, foreign, read_whole
from encoders.training.crops import crop_features
from encoders.training.data import TrainingSet
from encoders.training.loop import autocast
from encoders.training.vectors import CropVectors, MixedVectors, NameVectors, SketchVectors, Source


def load_objects(path: Path) -> tuple[ObjectEncoder, list[str]]:
    """f_s and f_i, the result of stage 1, and its vocabulary.

    Raises:
        DataError: It is damaged, or no result of stage 1.
    """
    stored = read_whole(path, "vocabulary", "objects", "weights")
    vocabulary = list(stored["vocabulary"])
    try:
        model = ObjectEncoder(ObjectConfig(**stored["objects"]), len(vocabulary))
        model.load_state_dict(stored["weights"])
    except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError: torch, of weights of another size
        raise foreign(path) from error
    return model.eval(), vocabulary


def bundle_networks(path: Path, config: Mapping[str, Any]) -> tuple[dict[str, Any], SpatialNetworks]:
    """A bundle's networks with stage 1's result in its place.

    Args:
        path: The result of stage 1.
        config: The rest of the bundle's configuration.

    Returns:
        The configuration, completed, and the networks; T_I and f_t are to be filled in.
    """
    stored = read_whole(path)
    if "names" in stored:
        whole = {**config, "words": {"model": stored["model"], "channels": stored["names"].shape[1]}}
        networks = SemirNetworks(whole)
        networks.words.copy_(stored["names"])
        return whole, networks
    model, _ = load_objects(path)
    whole = {**config, "objects": asdict(model.config)}
    ssbir = Networks(whole)
    ssbir.objects.load_state_dict(model.state_dict())
    return whole, ssbir


def open_source(
    path: Path,
    data: TrainingSet,
    unseen: TrainingSet,
    config: AskConfig,
    cache: Path,
    seed: int,
) -> Source:
    """The source that a stage 1's result makes.

    Args:
        path: The result: ``objects.pt``, or SemIR's ``names.pt``.
        data: What is trained on.
        unseen: Its held-out part, whose sketches ask where it is measured.
        config: Of the mixture and of how sketches are varied; names alone have no use for either.
        cache: Folder for what takes long: vectors of sketches, features of crops.
        seed: Of the variation.

    Raises:
        DataError: Stage 1 was trained on other classes, or its result is damaged.
    """
    stored = read_whole(path, "vocabulary")
    if list(stored["vocabulary"]) != data.vocabulary:
        raise DataError(f"{path} was trained on other classes than --data has; train stage 1 on this data again")
    kinds, others = (np.array([data.number[word] for word in part.sketches.words], int) for part in (data, unseen))
    count = len(data.vocabulary)
    drawable, measured = (np.isin(np.arange(count), part) for part in (kinds, others))
    if "names" in stored:
        names = NameVectors(stored["names"].numpy())
        return Source(names.vectors.shape[1], data.vocabulary, names, names, drawable, measured)
    model, _ = load_objects(path)
    names = NameVectors(model.class_vectors().detach().numpy())
    varied = _varied_sketches(model, data, config.strengths, cache, seed)
    sketches = SketchVectors.build(varied, np.tile(kinds, len(config.strengths)), count)
    crops = crop_vectors(model, data, cache) if config.mixture.crop else None
    held_out = SketchVectors.build(sketch_vectors(model, unseen.sketches.drawings, None), others, count)
    training = MixedVectors(config.mixture, sketches, names, crops)
    return Source(model.config.dim, data.vocabulary, training, held_out, drawable, measured)


def _varied_sketches(
    model: ObjectEncoder, data: TrainingSet, strengths: Sequence[float], folder: Path, seed: int
) -> np.ndarray:
    """f_s of every training sketch, varied by each of the strengths in turn: (len(strengths) S, C)."""
    cache = folder / f"sketches-{digest(model, list(strengths), seed, data)}.npy"
    if not cache.exists():
        rng = np.random.default_rng(seed)
        vectors = [sketch_vectors(model, data.sketches.drawings, rng, strength) for strength in strengths]
        fresh = cache.with_suffix(".new.npy")
        np.save(fresh, np.concatenate(vectors))
        fresh.replace(cache)
    return np.asarray(np.load(cache))


@torch.inference_mode()
def sketch_vectors(
    model: ObjectEncoder,
    drawings: Sequence[Sequence[np.ndarray]],
    rng: np.random.Generator | None,
    strength: float = 1.0,
) -> np.ndarray:
    """f_s of many drawings, (n, C), varied unless ``rng`` is None."""
    spec, config = model.sketch_trunk.spec, model.config
    parts = []
    for start in range(0, len(drawings), 64):
        pictures = rasters(drawings[start : start + 64], rng, config.sketch_size, config.line_width, strength)
        with autocast():
            parts.append(model.f_s(normalise(torch.from_numpy(pictures), spec.mean, spec.std)).float().numpy())
    return np.concatenate(parts)


@torch.inference_mode()
def crop_vectors(model: ObjectEncoder, data: TrainingSet, folder: Path) -> CropVectors:
    """f_i of every crop, from the photo trunk's features of them, which the folder keeps."""
    crops = crop_features(data, model, folder, torch.get_num_threads())
    vectors = model.f_i_pooled(torch.from_numpy(crops.features.astype(np.float32)))  # (N, C)
    return CropVectors.build(vectors.numpy(), crops.numbers)
