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
