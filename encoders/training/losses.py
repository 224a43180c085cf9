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
