"""Stage 1 as in mSBIR, the paper's reference [16]: f_s and f_i in three stages of their own (section 3.1, Fig. 2a).

1. Each branch by itself as a softmax classifier, of sketches and of photos of objects; no weight is shared.
2. Contrastive on pairs of a sketch and a photo, the late layers now shared. They start from the photo branch's, which
   has seen more.
3. Triplets of an anchor sketch, a photo of its class and the hardest photo of another class in the batch.

In 2 and 3 both branches answer one cosine classifier beside it, whose rows become the vectors of the class names. The
stages' order is the reference's, as far as it is known here; their lengths and rates are not printed in the paper.
The result is that of `objects`: nothing after it can tell which of the two made it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from encoders.objects import ObjectConfig, ObjectEncoder, normalise
from encoders.training.crops import MIN_AREA, check_crops, compute_crops, crop_list
from encoders.training.data import TrainingSet, crops
from encoders.training.loop import Course, Work, adam, autocast, begin, constant, fit, generator
from encoders.training.losses import contrastive, triplet
from encoders.training.objects import Branches, SketchDraw, evenly, measure, save
from encoders.training.processes import gather, gather_all, per_process, rank


@dataclass(frozen=True)
class Config:
    """Stage 1 in its three stages.

    Attributes:
        recipe: Whose part this is.
        objects: Sizes of the encoders; the paper's by default.
        pretrained: Start from ImageNet weights.
        photos: Photos and sketches to train on at most, each; 0 for all.
        epochs: Of the three stages; an epoch sees as many sketches as there are.
        batch: Sketches a step, and as many photos, of all processes together.
        strength: Of the sketches' variation.
        photo_class_weight: How much likelier a sketch is drawn if its class has photos.
        classifier: Weight of the softmax beside the second and the third stage's own loss.
        contrast_margin: Distance at which a pair of two classes is left alone.
        triplet_margin: By which a photo of the class has to be nearer than one of another.
        learning_rate: ADAM's.
        weight_decay: ADAM's.
        seed: Of everything.
    """

    recipe: str = ""
    objects: ObjectConfig = field(
        default_factory=lambda: ObjectConfig(
            "googlenet", "googlenet", hidden=0, sketch_size=224, line_width=4.0, crop_size=224, share_late=True
        )
    )
    pretrained: bool = True
    photos: int = 0
    epochs: tuple[int, int, int] = (20, 20, 20)
    batch: int = 64
    strength: float = 1.0
    photo_class_weight: float = 3.0
    classifier: float = 1.0
    contrast_margin: float = 1.0
    triplet_margin: float = 0.2
    learning_rate: float = 1e-4
    weight_decay: float = 5e-4
    seed: int = 0


class Batch(NamedTuple):
    """Of a step: photo i goes with sketch i, where the stage pairs them."""

    pictures: Tensor  # (B, S, S) uint8 rasters
    sketch_classes: Tensor  # (B,)
    photos: Tensor  # (B, S', S', 3) uint8 crops
    photo_classes: Tensor  # (B,)


class PhotoDraw:
    """Draws crops of photos, decoded and varied each time.

    Raises:
        DataError: There are none.
    """

    def __init__(self, data: TrainingSet) -> None:
        jobs, kinds = crop_list(data)
        found = [(path, box, first + i) for path, boxes, first in jobs for i, box in enumerate(boxes)
                 if (box[2:] - box[:2]).prod() > MIN_AREA]  # fmt: skip
        check_crops(data, len(found))
        self.crops = [(path, box) for path, box, _ in found]
        self.classes = kinds[[number for _, _, number in found]]
        self.chance = evenly(self.classes)
        self.of_class = {int(kind): np.flatnonzero(self.classes == kind) for kind in np.unique(self.classes)}

    def choose(self, kind: int | None, rng: np.random.Generator) -> int:
        """A crop of a class, if it has any and one is given; else any, rare classes as well."""
        if kind in self.of_class:
            return int(rng.choice(self.of_class[kind]))
        return int(rng.choice(len(self.classes), p=self.chance))

    def pixels(self, crop: int, size: int, rng: np.random.Generator) -> np.ndarray:
        """(size, size, 3) uint8, with more or less of what is around it, mirrored or not."""
        path, box = self.crops[crop]
        (picture,) = crops(path, box[None], size, margin=float(rng.uniform(0, 0.15)))
        return picture[:, ::-1] if rng.random() < 0.5 else picture


class Steps(Dataset[Batch]):
    """The batches of an epoch, this process' part of each.

    Args:
        sketches: To draw from.
        photos: To draw from.
        config: The stage's.
        matched: Chance that a sketch's photo is of its class.
        place: Which of the three stages and which of its epochs.
    """

    def __init__(
        self, sketches: SketchDraw, photos: PhotoDraw, config: Config, matched: float, place: tuple[int, int]
    ) -> None:
        self.sketches, self.photos, self.config, self.matched, self.place = sketches, photos, config, matched, place

    def __getitem__(self, step: int) -> Batch:
        """The batch of a step."""
        config, sizes = self.config, self.config.objects
        rng = generator(config.seed, *self.place, step, rank())
        pictures, kinds = self.sketches.draw(
            per_process(config.batch), rng, sizes.sketch_size, sizes.line_width, config.strength
        )
        wanted = [int(kind) if rng.random() < self.matched else None for kind in kinds]
        chosen = [self.photos.choose(kind, rng) for kind in wanted]
        photos = np.stack([self.photos.pixels(crop, sizes.crop_size, rng) for crop in chosen])
        return Batch(pictures, kinds, torch.from_numpy(photos), torch.from_numpy(self.photos.classes[chosen]))


class Classifiers(nn.Module):
    """The first stage: each branch with a softmax classifier of its own."""

    def __init__(self, model: ObjectEncoder) -> None:
        super().__init__()
        self.model = model
        width, classes = model.shared.in_features, len(model.classes)
        self.sketch_classifier, self.photo_classifier = nn.Linear(width, classes), nn.Linear(width, classes)

    def forward(self, pictures: Tensor, photos: Tensor) -> tuple[Tensor, Tensor]:
        """A `Batch`'s pixels to logits (B, K) of both."""
        model = self.model
        spec, other = model.sketch_trunk.spec, model.photo_trunk.spec
        x = normalise(pictures, spec.mean, spec.std).contiguous(memory_format=torch.channels_last)
        y = normalise(photos, other.mean, other.std).contiguous(memory_format=torch.channels_last)
        sketched = self.sketch_classifier(model.sketch_fc(model.sketch_trunk.pooled(x)))
        return sketched, self.photo_classifier(model.photo_fc(model.photo_trunk.pooled(y)))


def classify(model: nn.Module, batch: Batch, config: Config) -> dict[str, Tensor]:
    """The first stage's terms; averages over the processes' batches are those over the whole."""
    with autocast(batch.pictures.device):
        sketched, photographed = model(batch.pictures, batch.photos)
    return {
        "sketches": functional.cross_entropy(sketched.float(), batch.sketch_classes),
        "photos": functional.cross_entropy(photographed.float(), batch.photo_classes),
    }


def draw_together(model: nn.Module, batch: Batch, config: Config, by: str) -> dict[str, Tensor]:
    """The second stage's terms, by "contrastive", or the third's, by "triplet", over the batches of all processes."""
    with autocast(batch.pictures.device):
        found = model(batch.pictures, batch.photos)
    found = gather_all(found)
    drawn, shown = gather(batch.sketch_classes), gather(batch.photo_classes)
    if by == "contrastive":
        own = contrastive(found.sketches, found.photos, drawn == shown, config.contrast_margin)
    else:
        own = triplet(found.sketches, drawn, found.photos, shown, config.triplet_margin)
    return {
        by: own,
        "sketches": config.classifier * functional.cross_entropy(found.sketch_logits.float(), drawn),
        "photos": config.classifier * functional.cross_entropy(found.photo_logits.float(), shown),
    }


def train(config: Config, work: Work) -> Path:
    """Run the three stages, going on from the last checkpoint in ``work.out`` if there is one.

    Returns:
        Path of ``objects.pt``, as `objects.train` writes it.
    """
    with begin(work, config.photos) as (device, data, unseen):
        torch.manual_seed(config.seed)
        photos, classes = PhotoDraw(data), len(data.vocabulary)
        sketches = SketchDraw(data, photos.classes, config.photo_class_weight)

        def run(stage: int, model: nn.Module, losses: Callable[..., dict[str, Tensor]], matched: float) -> Any:
            course = Course(
                name=f"msbir-{stage}",
                config=config,
                model=model,
                optimiser=adam(
                    [{"params": list(model.parameters()), "peak": config.learning_rate}],
                    config.weight_decay,
                    decoupled=False,
                ),
                batches=lambda epoch: Steps(sketches, photos, config, matched, (stage, epoch)),
                losses=lambda net, batch: losses(net, batch, config),
                measure=lambda average: {} if stage == 1 else figures(average.model, unseen, work, device),
                epochs=config.epochs[stage - 1],
                steps=max(len(sketches) // config.batch, 1),
                seed=config.seed + stage,
                ema=0.0,
                rate=constant,
            )
            return fit(course, work, device).model

        apart = ObjectEncoder(replace(config.objects, share_late=False), classes, config.pretrained)
        apart = run(1, Classifiers(apart), classify, matched=0.0)
        model = ObjectEncoder(config.objects, classes)
        model.load_state_dict(apart.state_dict())  # of what is shared, the photo branch's comes last and stays
        for stage, by, matched in ((2, "contrastive", 0.5), (3, "triplet", 1.0)):
            model.requires_grad_(True)

            def losses(net: nn.Module, batch: Batch, config: Config, by: str = by) -> dict[str, Tensor]:
                return draw_together(net, batch, config, by)

            model = run(stage, Branches(model, pooled=False), losses, matched)
        return save(work.out / "objects.pt", config, model, data.vocabulary)


def figures(model: ObjectEncoder, unseen: TrainingSet, work: Work, device: torch.device) -> dict[str, float]:
    """As `objects.measure`, of a photo trunk that learns."""
    return measure(model, unseen, compute_crops(unseen, model, work.threads, str(device), runtime="torch"))
