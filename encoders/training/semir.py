"""SemIR, the baseline of section 4.3, trained as a peer: SSBIR's stages 2 and 3 with names in place of sketches.

Its stage 1 is a sentence model that is not trained. All the rest is SSBIR's own: the photos and their views, how
layouts are drawn from them, the losses and the number of steps; f_t and the image side are trained anew for it. So
where the two differ it is by what they know: SemIR is told an object's class and nothing else; SSBIR has to read it off
the strokes, and has what else they tell.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from encoders.semir import MODEL, sentence_vectors
from encoders.training import projection, spatial
from encoders.training.checkpoints import read_whole, write_whole
from encoders.training.data import read_training_set
from encoders.training.loop import Work
from encoders.training.processes import first_alone, team

DESCRIPTION = "SemIR, a baseline: asked with the names of objects at their boxes, not with sketches of them."


def train(second: spatial.Config, third: projection.Config, work: Work) -> Path:
    """Run SemIR's stages in the folder ``semir`` of ``work.out``, going on from where they were.

    Args:
        second: SSBIR's stage 2, whose sketches' part it has no use for.
        third: SSBIR's stage 3.
        work: SSBIR's; views of photos that are in its folder are used, not computed again.

    Returns:
        Folder of the bundle, for `encoders.semir.SemirEncoder`.

    Raises:
        CompsketchError: The sentence model is not installed.
    """
    own = replace(work, out=work.out / "semir")
    names = own.out / "names.pt"
    with team(work.device):
        with first_alone() as first:
            if first:
                own.out.mkdir(parents=True, exist_ok=True)
                embed_names(read_training_set(work.data).vocabulary, names)
                _share_views(work.out, own.out)
        spatial.train(second, own, names)
        with first_alone() as first:
            if first:
                named = replace(third, name=f"{third.name}-semir", description=DESCRIPTION)
                projection.train(named, second, own, names)
    return own.out / "bundle"


def embed_names(vocabulary: list[str], path: Path) -> None:
    """Write the sentence vectors of class names, unless they are there: what `sources` takes for a stage 1.

    Raises:
        CompsketchError: The sentence model is not installed.
        DataError: What is there is damaged, or no such file.
    """
    if not path.exists() or read_whole(path, "vocabulary", "names", "model")["vocabulary"] != vocabulary:
        save_names(path, vocabulary, torch.from_numpy(sentence_vectors(tuple(vocabulary))), MODEL)


def save_names(path: Path, vocabulary: list[str], names: torch.Tensor, model: str) -> None:
    """Write names' unit vectors (K, C) and the name of the model that they are of."""
    write_whole(path, {"vocabulary": vocabulary, "names": names, "model": model})


def _share_views(theirs: Path, ours: Path) -> None:
    """Link what the image side's frozen layers made of the photos, once it is whole: it is the same for both."""
    for boxes in theirs.glob("views-*.npz"):
        for path in (boxes, boxes.with_suffix(".npy")):
            if not (ours / path.name).exists():
                (ours / path.name).symlink_to(path.resolve())
