"""The gradients of a step of every stage, by one process or by several that torchrun starts.

torchrun --nproc-per-node 2 gradients.py OUT
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from encoders.indexing import IndexingConfig
from encoders.objects import ObjectConfig, ObjectEncoder
from encoders.training import msbir, objects, spatial
from encoders.training.batches import Batch
from encoders.training.processes import distribute, per_process, rank, team

B, C, K = 8, 8, 5
CPU = torch.device("cpu")


def own(*parts: Tensor) -> list[Tensor]:
    """This process' rows of what all of them see."""
    first = rank() * per_process(len(parts[0]))
    return [part[first : first + per_process(len(part))] for part in parts]


def encoders(share_late: bool) -> ObjectEncoder:
    torch.manual_seed(0)
    return ObjectEncoder(ObjectConfig(dim=C, hidden=16, sketch_size=32, crop_size=32, share_late=share_late), K)


def pictures(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (B, 32, 32, *shape), dtype=np.uint8))


def classes(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, K, (B, *shape)))


def noise(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(B, *shape)).astype(np.float32))


def boxes(seed: int, count: int) -> Tensor:
    low = np.random.default_rng(seed).uniform(0, 0.5, (B, count, 2))
    return torch.from_numpy(np.concatenate([low, low + 0.4], axis=2).astype(np.float32))


def of_objects() -> tuple[nn.Module, dict[str, Tensor]]:
    model = distribute(objects.Branches(encoders(share_late=False), pooled=True).eval(), CPU)
    batch = objects.Batch(*own(pictures(1), classes(2), noise(3, 1280), classes(4)))
    return model, objects.losses(model, batch, objects.Config())


def of_msbir() -> tuple[nn.Module, dict[str, Tensor]]:
    model = distribute(msbir.Branches(encoders(share_late=True), pooled=False).eval(), CPU)
    batch = msbir.Batch(*own(pictures(1), classes(2), pictures(3, 3), classes(4)))
    return model, msbir.draw_together(model, batch, msbir.Config(), "triplet")


def of_spatial() -> tuple[nn.Module, dict[str, Tensor]]:
    torch.manual_seed(0)
    weights = spatial.Weights(con=0.5, cells=1.0, asked_cells=0.5)
    config = spatial.Config(
        indexing=IndexingConfig(image_size=64, hidden=16, channels=C), widths=(8, 8), weights=weights, pretrained=False
    )
    model = distribute(spatial.Model(config, C, K).eval(), CPU)
    cells = torch.from_numpy(np.random.default_rng(2).integers(0, B, (B, 31, 31)))
    features, cells, *rest = own(
        noise(1, 192, 2, 2), cells, boxes(3, 6), classes(4, 6), boxes(3, 6)[:, :4], classes(4, 6)[:, :4]
    )
    return model, spatial.losses(model, Batch(features, cells, noise(5, C), *rest), config)


def gradients() -> dict[str, Tensor]:
    """Of all stages' weights, by stage and name, and the losses.

    Batch norms stay as they are: over processes they sum on GPUs only.
    """
    torch.set_num_threads(1)
    found = {}
    for name, stage in (("objects", of_objects), ("msbir", of_msbir), ("spatial", of_spatial)):
        model, terms = stage()
        torch.stack(list(terms.values())).sum().backward()
        found.update({f"{name} {term}": value.detach() for term, value in terms.items()})
        for weight, parameter in getattr(model, "module", model).named_parameters():
            if parameter.grad is not None:
                found[f"{name}.{weight}"] = parameter.grad.clone()
    return found


if __name__ == "__main__":
    with team("cpu"):
        torch.save(gradients(), Path(sys.argv[1]) / f"gradients-{rank()}.pt")
