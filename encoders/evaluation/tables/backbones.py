"""Table 1, lower part: other networks as the indexing branch (section 4.3), each trained alike on a small budget."""

from __future__ import annotations

from dataclasses import replace

from encoders.backbones import TABLE, build
from encoders.errors import BundleError
from encoders.evaluation.scores import METRICS
from encoders.evaluation.tables import trial
from encoders.evaluation.tables.figures import difference, mean
from encoders.evaluation.tables.study import Budget, Study
from encoders.evaluation.tables.table import Cell, Table

FIRST = "efficientnet_lite0"  # the others are compared with it
PAPER = {  # mAP and NDCG on OI-Test-SQ
    "googlenet": (0.260, 0.486),
    "vgg11": (0.198, 0.450),
    "resnet50": (0.058, 0.340),
    "mobilenet_v2": (0.187, 0.414),
    "efficientnet_b0": (0.183, 0.434),
}


def table(study: Study, budget: Budget, names: tuple[str, ...] = (FIRST, *PAPER)) -> Table:
    """One row a trunk; those without ImageNet weights here start from chance, and say so."""
    rows: list[tuple[Cell, ...]] = []
    first = None
    for done, name in enumerate(names, start=1):
        wanted = trial.config(study, budget, name)
        weights = pretrained(name)
        scores = trial.scores(study, replace(wanted, pretrained=weights), budget)
        first = scores if first is None else first
        against = (None, None, None) if first is scores else difference(scores[:, 0], first[:, 0], study.seed)
        rows.append((
            name, TABLE[name].channels, "ImageNet" if weights else "RANDOM",
            *(mean(scores[:, i], study.seed) for i in range(len(METRICS))), *against, *PAPER.get(name, (None, None)),
        ))  # fmt: skip
        study.progress("backbones", done, len(names))
    notes = (
        f"Each row: stage 2 for {budget.epochs} epochs of {budget.views} views, photos at {budget.image_size} px; the "
        f"same f_s, D = {study.bundle.config['indexing']['channels']} after two 1 x 1 convolutions, losses and seed; "
        "the trunk is frozen but for its last layer with weights.",
        "RANDOM: no ImageNet weights could be had on this machine. Frozen layers are then as chance made them: such a "
        "row says what the weights are worth, not what the network is.",
        f"Difference, p and d_z: AP against {names[0]}, paired. The paper: on OI-Test-SQ, fine-tuned from ImageNet.",
    )
    columns = (
        "trunk", "channels", "starts from", *METRICS, f"mAP - {names[0]}'s", "p", "d_z", "paper: mAP", "paper: NDCG"
    )  # fmt: skip
    title = "Trunks of the indexing branch (Table 1, lower part)"
    return Table("backbones", title, columns, tuple(rows), notes, study.provenance("backbones", budget))


def pretrained(name: str) -> bool:
    """Whether a trunk's ImageNet weights are to be had here."""
    try:
        build(name, pretrained=True)
    except BundleError:
        return False
    return True
