"""The losses: eq. 5, 6 and 7 of the paper, and the two that training on few photos needs beside them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def l_sim(query: Tensor, image: Tensor) -> Tensor:
    """Eq. 5, ``1 - cos(E_I(I), E_Q'(I))``, averaged over a batch of (B, F) embeddings."""
    return (1 - functional.cosine_similarity(query, image)).mean()


def l_ce(logits: Tensor, likelihood: Tensor) -> Tensor:
    """Eq. 6, cross-entropy of ``g(T_I(I))`` against the class likelihood vector c(I).

    Args:
        logits: (B, K).
        likelihood: (B, K), non-zero for the classes present; rows are scaled to sum 1.
    """
    return functional.cross_entropy(logits, likelihood / likelihood.sum(dim=1, keepdim=True).clamp_min(1e-12))


def l_con(query: Tensor, image: Tensor, negative: Tensor, margin: float = 0.3) -> Tensor:
    """Eq. 7, the positive nearer than the negative by a margin, averaged over a batch of (B, F) embeddings.

    As printed the equation takes the cosine of a difference and, read as a distance, pulls the wrong way. Its sense,
    with a similarity, is ``[m - cos(E_Q'(I), E_I(I)) + cos(E_Q'(I), E_I(I_neg))]_+``.
    """
    positive = functional.cosine_similarity(query, image)
    return (margin - positive + functional.cosine_similarity(query, negative)).clamp_min(0).mean()


def towards(logits: Tensor, relevance: Tensor, floor: float = 0.3) -> Tensor:
    """Cross-entropy of each query's ranking of photos with a target in proportion to their relevance.

    A photo that shares part of a query's layout is not a negative; what is relevant no more than ``floor`` is.

    Args:
        logits: (B, M) scaled cosines of queries and photos.
        relevance: (B, M) eq. 9, over ``floor`` at least once a row.
        floor: Relevance that counts as none.
    """
    target = (relevance - floor).clamp_min(0)
    return functional.cross_entropy(logits, target / target.sum(dim=1, keepdim=True))


def in_batch(query: Tensor, image: Tensor, relevance: Tensor, temperature: float = 0.07) -> Tensor:
    """Contrast every query of a batch with every image of it, both ways (`towards`).

    Args:
        query: (B, F) unit vectors.
        image: (B, F) unit vectors; image i is query i's own.
        relevance: (B, B) eq. 9 of query i with image j, 1 on the diagonal.
        temperature: Of the softmax.
    """
    logits = query @ image.T / temperature  # (B, B)
    return (towards(logits, relevance) + towards(logits.T, relevance.T)) / 2


def l_cells(logits: Tensor, target: Tensor) -> Tensor:
    """Eq. 6 in every cell of a map: cross-entropy of what one classifier reads there against `cell_classes`.

    Args:
        logits: (B, K + 1, 7, 7), the last for nothing.
        target: (B, K + 1, 7, 7), adding up to 1 in every cell.
    """
    return functional.cross_entropy(logits, target)


def cell_classes(boxes: Tensor, classes: Tensor, count: int, cells: int = 7) -> Tensor:
    """Which classes each cell of a map shows.

    A cell shows as much of something as its fullest box covers of it, and nothing in the rest; several boxes share
    that by what they cover, a smaller box more: it lies before the larger.

    Args:
        boxes: (B, M, 4) corners in [0, 1].
        classes: (B, M), -1 where there are fewer.
        count: K.
        cells: Along each side.

    Returns:
        (B, K + 1, cells, cells), adding up to 1 over classes, the last for nothing.
    """
    B, M, _ = boxes.shape
    edges = torch.linspace(0, 1, cells + 1, device=boxes.device)
    low, high = edges[:-1], edges[1:]
    across = (torch.minimum(boxes[..., 2:3], high) - torch.maximum(boxes[..., 0:1], low)).clamp_min(0)  # (B, M, cells)
    down = (torch.minimum(boxes[..., 3:4], high) - torch.maximum(boxes[..., 1:2], low)).clamp_min(0)
    there = (classes >= 0)[..., None, None]
    covered = (down[..., :, None] * across[..., None, :] * cells**2 * there).clamp_max(1)  # (B, M, cells, cells)
    area = (boxes[..., 2:] - boxes[..., :2]).prod(-1).clamp_min(1e-6)[..., None, None]
    share = covered / area.sqrt()
    fullest = covered.amax(dim=1, keepdim=True)  # (B, 1, cells, cells)
    share = share / share.sum(dim=1, keepdim=True).clamp_min(1e-9) * fullest
    target = torch.cat([boxes.new_zeros(B, count, cells, cells), 1 - fullest], dim=1)
    return target.scatter_add(1, classes.clamp_min(0)[..., None, None].expand(B, M, cells, cells), share)


def triplet(anchor: Tensor, anchor_class: Tensor, other: Tensor, other_class: Tensor, margin: float = 0.2) -> Tensor:
    """mSBIR's triplet (section 3.1): anchor sketch, p photo of its class, n photo of another, hardest of the batch.

    Args:
        anchor: (A, C) unit vectors, ``anchor_class`` (A,) their classes.
        other: (B, C) unit vectors, ``other_class`` (B,) their classes.
        margin: By which the cosine to p must pass the cosine to n.

    Returns:
        The mean over the anchors whose class is among the others; 0 where none is.
    """
    cosine = anchor @ other.T  # (A, B)
    same = anchor_class[:, None] == other_class[None, :]
    usable = same.any(dim=1) & (~same).any(dim=1)
    if not bool(usable.any()):
        return anchor.sum() * 0
    positive = cosine.masked_fill(~same, torch.inf).amin(dim=1)[usable]
    negative = cosine.masked_fill(same, -torch.inf).amax(dim=1)[usable]
    return (margin - positive + negative).clamp_min(0).mean()


def contrastive(one: Tensor, other: Tensor, same: Tensor, margin: float = 1.0) -> Tensor:
    """mSBIR's second stage: pairs of one class drawn together, others pushed apart until the distance is ``margin``.

    Args:
        one: (B, C) unit vectors, of sketches.
        other: (B, C) unit vectors, of photos.
        same: (B,) whether a pair is of one class.
        margin: Distance at which a pair of two classes is left alone.
    """
    squared = (2 - 2 * functional.cosine_similarity(one, other)).clamp_min(1e-12)  # the root's slope at 0 is infinite
    apart = (margin - squared.sqrt()).clamp_min(0).square()
    return torch.where(same, squared, apart).mean() / 2


def relevance(asked: Tensor, asked_classes: Tensor, boxes: Tensor, classes: Tensor) -> Tensor:
    """Eq. 9 of every query of a batch with every photo of it, where the batch is.

    Args:
        asked: (B, A, 4) boxes of the queries' objects, corners in [0, 1].
        asked_classes: (B, A) their classes, -1 where a query has fewer objects.
        boxes: (P, M, 4) boxes of the photos.
        classes: (P, M) their classes, -1 where a photo has fewer.

    Returns:
        (B, P), the mean over a query's objects of the best IoU with a box of its class.
    """
    area = (boxes[..., 2:] - boxes[..., :2]).prod(-1)  # (P, M)
    total = asked.new_zeros(len(asked), len(boxes))
    for box, kind in zip(asked.unbind(1), asked_classes.unbind(1), strict=True):  # (B, 4), (B,)
        low = torch.maximum(box[:, None, None, :2], boxes[..., :2])
        high = torch.minimum(box[:, None, None, 2:], boxes[..., 2:])
        common = (high - low).clamp_min(0).prod(-1)  # (B, P, M)
        own = (box[:, 2:] - box[:, :2]).prod(-1)[:, None, None]
        iou = common / (own + area - common).clamp_min(1e-9)
        alike = (kind[:, None, None] == classes) & (kind >= 0)[:, None, None]
        total += (iou * alike).amax(dim=2)
    return total / (asked_classes >= 0).sum(dim=1, keepdim=True)
