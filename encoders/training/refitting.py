"""A bundle's projection (section 3.4) fitted anew, on photos of those who use it: the networks stay as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoders.bundle import PROJECTION, Bundle
from encoders.errors import CompsketchError
from encoders.projection import TENSORS, fit

# What was measured with the old projection, and says nothing of vectors of the new one.
MEASURED = ("calibration", "metrics")


def refit(
    bundle: Bundle,
    sample: NDArray[np.floating[Any]],
    fitted_on: Mapping[str, Any],
    dim: int | None = None,
    m: int = 16,
    seed: int = 0,
) -> Bundle:
    """The same networks with PCA and OPQ fitted on other photos: another fingerprint, another space.

    The new configuration has `projection`: its version, one more than that of the old bundle, whose fingerprint it
    names, `m`, `seed` and what it was `fitted_on`. Calibration and metrics are left out.

    Args:
        bundle: the old one.
        sample: (N, F) flattened features of its networks, as `projection.fit` takes them.
        fitted_on: what the configuration says of the sample.
        dim: d; None for the old bundle's.
        m: bytes of the product quantiser to rotate for.
        seed: as `projection.fit`.

    Raises:
        CompsketchError: features of another length than the networks', or as `projection.fit`.
    """
    features = bundle.tensors[TENSORS[0]].shape[1]
    if sample.ndim != 2 or sample.shape[1] != features:
        raise CompsketchError(f"embeddings have shape {sample.shape}: the bundle's networks give (N, {features})")
    fitted = fit(sample, dim or int(bundle.config["dim"]), m, seed)
    config = {key: value for key, value in bundle.config.items() if key not in MEASURED}
    if "training" in config:
        config["training"] = {stage: log for stage, log in config["training"].items() if stage != "projection"}
    version = int(config.get("projection", {}).get("version", 1)) + 1
    told = {"version": version, "replaces": bundle.fingerprint, "m": m, "seed": seed, "fitted_on": dict(fitted_on)}
    networks = {name: tensor for name, tensor in bundle.tensors.items() if not name.startswith(PROJECTION)}
    return Bundle({**config, "dim": fitted.dim, "projection": told}, {**networks, **fitted.to_tensors()})
