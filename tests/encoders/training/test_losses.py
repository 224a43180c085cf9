"""Eq. 5, 6 and 7 against a transcription in numpy, the two contrasts against slow loops."""

import numpy as np
import pytest
import torch

from encoders.evaluation.relevance import Gallery, relevances
from encoders.training.batches import pad
from encoders.training.losses import (
    cell_classes,
    contrastive,
    in_batch,
    l_ce,
    l_cells,
    l_con,
    l_sim,
    relevance,
    towards,
    triplet,
)

B, F, K = 5, 12, 7


def rows(seed: int, count: int = B, width: int = F) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(count, width)))


def unit(x: torch.Tensor) -> torch.Tensor:
    return x / x.norm(dim=1, keepdim=True)


def cos(a, b) -> float:
    a, b = np.asarray(a), np.asarray(b)
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def softmax_log(row) -> np.ndarray:
    row = np.asarray(row)
    return row - row.max() - np.log(np.exp(row - row.max()).sum())


def test_equation_5_is_one_minus_the_mean_cosine():
    query, image = rows(0), rows(1)
    expected = np.mean([1 - cos(q, i) for q, i in zip(query, image, strict=True)])
    assert float(l_sim(query, image)) == pytest.approx(expected)
    assert float(l_sim(query, 3 * query)) == pytest.approx(0, abs=1e-12)  # length does not matter
    assert float(l_sim(query, -query)) == pytest.approx(2)


def test_equation_6_is_cross_entropy_with_the_likelihoods_scaled_to_one():
    logits = rows(2, width=K)
    likelihood = torch.tensor(np.random.default_rng(3).integers(0, 2, (B, K)), dtype=torch.float64)
    likelihood[:, 0] = 1  # no photo without a class
    expected = np.mean([
        -sum(c[k] / sum(c) * softmax_log(row)[k] for k in range(K))
        for row, c in zip(logits.numpy(), likelihood.numpy(), strict=True)
    ])  # fmt: skip
    assert float(l_ce(logits, likelihood)) == pytest.approx(expected)
    assert float(l_ce(logits, 5 * likelihood)) == pytest.approx(expected)


def test_a_photo_without_a_class_adds_nothing_to_equation_6():
    assert float(l_ce(rows(2, width=K), torch.zeros(B, K, dtype=torch.float64))) == 0


def test_equation_7_with_similarities_asks_the_positive_nearer_than_the_negative():
    query, image, negative = rows(4), rows(5), rows(6)
    expected = np.mean([
        max(0.0, 0.3 - cos(q, i) + cos(q, n)) for q, i, n in zip(query, image, negative, strict=True)
    ])  # fmt: skip
    assert float(l_con(query, image, negative)) == pytest.approx(expected)


def test_equation_7_read_as_printed_would_pull_the_query_to_the_irrelevant_photo():
    """`[m + cos(Q, I) - cos(Q, I_neg)]_+`, the printed signs with a similarity: zero where the query is all wrong."""
    image, negative = torch.eye(2, dtype=torch.float64)
    query = {"right": image[None], "wrong": negative[None]}
    printed = {name: max(0.0, 0.3 + cos(q[0], image) - cos(q[0], negative)) for name, q in query.items()}
    ours = {name: float(l_con(q, image[None], negative[None])) for name, q in query.items()}
    assert printed == {"right": pytest.approx(1.3), "wrong": 0}
    assert ours == {"right": 0, "wrong": pytest.approx(1.3)}


def test_a_step_down_equation_7_brings_the_query_to_its_photo():
    query, image, negative = unit(rows(7)).requires_grad_(), unit(rows(8)), unit(rows(9))
    l_con(query, image, negative, margin=2.0).backward()  # a margin that every row violates
    moved = (query - 0.1 * query.grad).detach()
    for old, new, own, other in zip(query.detach(), moved, image, negative, strict=True):
        assert cos(new, own) - cos(new, other) > cos(old, own) - cos(old, other)


def test_equation_7_leaves_alone_what_keeps_the_margin():
    query = unit(rows(7)).requires_grad_()
    loss = l_con(query, query.detach(), -query.detach())
    loss.backward()
    assert float(loss.detach()) == 0
    assert not query.grad.any()


def slow_towards(logits: np.ndarray, relevance: np.ndarray, floor: float = 0.3) -> float:
    losses = []
    for row, relevant in zip(logits, relevance, strict=True):
        target = [max(0.0, r - floor) for r in relevant]
        losses.append(-sum(t / sum(target) * log for t, log in zip(target, softmax_log(row), strict=True)))
    return float(np.mean(losses))


def overlapping(count: int) -> torch.Tensor:
    """Relevance in [0, 1], not symmetric, 1 on the diagonal."""
    relevance = np.random.default_rng(10).random((count, count))
    np.fill_diagonal(relevance, 1)
    return torch.from_numpy(relevance)


def test_towards_is_a_loop_over_queries():
    logits, relevance = rows(11, width=B), overlapping(B)
    assert float(towards(logits, relevance)) == pytest.approx(slow_towards(logits.numpy(), relevance.numpy()))
    assert float(towards(logits, relevance, 0.8)) == pytest.approx(slow_towards(logits.numpy(), relevance.numpy(), 0.8))


def test_what_is_relevant_no_more_than_the_floor_is_a_negative():
    logits = rows(12, width=3)
    low = torch.tensor([[1.0, 0.3, 0.0]], dtype=torch.float64).expand(B, 3)
    none = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64).expand(B, 3)
    assert float(towards(logits, low)) == float(towards(logits, none))


def test_in_batch_contrasts_both_ways():
    query, image, relevance = unit(rows(13)), unit(rows(14)), overlapping(B)
    logits = np.array([[cos(q, i) / 0.07 for i in image] for q in query])
    there = slow_towards(logits, relevance.numpy())
    back = slow_towards(logits.T, relevance.numpy().T)
    assert float(in_batch(query, image, relevance)) == pytest.approx((there + back) / 2)


def test_a_cell_shows_what_covers_it_and_nothing_in_the_rest():
    boxes = torch.tensor([[[0.0, 0.0, 0.5, 0.5], [0.0, 0.0, 0.25, 1.0], [0.9, 0.9, 1.0, 1.0]]])
    target = cell_classes(boxes, torch.tensor([[2, 0, -1]]), count=3, cells=2)
    # Upper left: class 2 covers all of it, class 0, in a box as large, half of it; lower left: class 0 half of it.
    assert target[0, :, 0, 0].tolist() == pytest.approx([1 / 3, 0, 2 / 3, 0], abs=1e-6)
    assert target[0, :, 1, 0].tolist() == pytest.approx([0.5, 0, 0, 0.5], abs=1e-6)
    assert target[0, :, 0, 1].tolist() == [0, 0, 0, 1]
    assert target[0, :, 1, 1].tolist() == [0, 0, 0, 1]  # the third box is padding


def test_of_two_boxes_over_a_cell_the_smaller_counts_more():
    boxes = torch.tensor([[[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.5, 0.5]]])
    target = cell_classes(boxes, torch.tensor([[0, 1]]), count=2, cells=2)
    assert target[0, :, 0, 0].tolist() == pytest.approx([1 / 3, 2 / 3, 0], abs=1e-6)
    assert target[0, :, 1, 1].tolist() == pytest.approx([1, 0, 0], abs=1e-6)


def test_classes_of_cells_add_up_to_one_for_any_boxes():
    rng = np.random.default_rng(21)
    corners = np.sort(rng.uniform(0, 1, (6, 5, 2, 2)), axis=2).reshape(6, 5, 4).astype(np.float32)
    target = cell_classes(torch.from_numpy(corners), torch.from_numpy(rng.integers(-1, 4, (6, 5))), count=4)
    assert target.shape == (6, 5, 7, 7)
    assert bool((target >= -1e-6).all())
    torch.testing.assert_close(target.sum(dim=1), torch.ones(6, 7, 7))


def test_the_loss_of_cells_is_the_mean_cross_entropy_of_all_cells():
    rng = np.random.default_rng(22)
    logits = rng.normal(size=(2, 3, 7, 7))
    target = rng.random((2, 3, 7, 7))
    target /= target.sum(axis=1, keepdims=True)
    slow = [
        -(target[b, :, y, x] * (logits[b, :, y, x] - np.log(np.exp(logits[b, :, y, x]).sum()))).sum()
        for b in range(2)
        for y in range(7)
        for x in range(7)
    ]
    assert float(l_cells(torch.from_numpy(logits), torch.from_numpy(target))) == pytest.approx(np.mean(slow))


def slow_triplet(anchor, anchor_class, other, other_class, margin: float) -> float:
    losses = []
    for a, kind in zip(anchor, anchor_class, strict=True):
        same = [cos(a, o) for o, k in zip(other, other_class, strict=True) if k == kind]
        rest = [cos(a, o) for o, k in zip(other, other_class, strict=True) if k != kind]
        if same and rest:
            losses.append(max(0.0, margin - min(same) + max(rest)))
    return float(np.mean(losses)) if losses else 0.0


def test_triplet_takes_the_hardest_pair_of_each_anchor_that_has_one():
    anchor, other = unit(rows(15)), unit(rows(16, 9))
    kinds, others = torch.tensor([0, 1, 2, 1, 9]), torch.tensor([0, 0, 1, 1, 2, 2, 2, 3, 0])  # nothing shows a 9
    expected = slow_triplet(anchor.numpy(), kinds.tolist(), other.numpy(), others.tolist(), 0.2)
    assert float(triplet(anchor, kinds, other, others)) == pytest.approx(expected)


@pytest.mark.parametrize("classes", [[8, 8], [0, 0]], ids=["no photo of the class", "no photo of another class"])
def test_a_batch_without_triplets_costs_nothing_and_can_be_stepped(classes):
    anchor = unit(rows(17, 2)).requires_grad_()
    loss = triplet(anchor, torch.tensor(classes), unit(rows(18, 3)), torch.tensor([0, 0, 0]))
    loss.backward()
    assert float(loss.detach()) == 0
    assert not anchor.grad.any()


def test_contrastive_is_hadsells_of_distances():
    one, other, same = unit(rows(19)), unit(rows(20)), torch.tensor([True, False, True, False, False])
    expected = []
    for a, b, alike in zip(one.numpy(), other.numpy(), same.tolist(), strict=True):
        distance = float(np.linalg.norm(a - b))
        expected.append(distance**2 if alike else max(0.0, 1.2 - distance) ** 2)
    assert float(contrastive(one, other, same, margin=1.2)) == pytest.approx(np.mean(expected) / 2)


def test_contrastive_can_be_stepped_where_a_pair_is_one_point():
    one = unit(rows(21)).requires_grad_()
    contrastive(one, one.detach().clone(), torch.tensor([True, False, False, True, True])).backward()
    assert torch.isfinite(one.grad).all()


def test_relevance_on_the_device_is_that_of_the_queries():
    """Eq. 9 as evaluation has it; queries and photos of various lengths."""
    rng = np.random.default_rng(22)

    def layouts(most: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
        counts = rng.integers(1, most + 1, B)
        low = [rng.uniform(0, 0.6, (n, 2)) for n in counts]
        boxes = [np.concatenate([start, start + rng.uniform(0.1, 0.4, start.shape)], axis=1) for start in low]
        return [box.astype(np.float32) for box in boxes], [rng.integers(0, 3, n) for n in counts]

    (asked, kinds), (boxes, classes) = layouts(4), layouts(7)
    owners = np.repeat(np.arange(B), [len(row) for row in boxes])
    gallery = Gallery.build(np.concatenate(boxes), owners, [str(kind) for kind in np.concatenate(classes)], B)
    queries = [(row, [str(kind) for kind in its]) for row, its in zip(asked, kinds, strict=True)]
    expected = [found.of(np.arange(B)) for found in relevances(queries, gallery)]
    found = relevance(*pad(asked, kinds, 4), *pad(boxes, classes, 9))
    assert np.allclose(found.numpy(), expected, atol=1e-6)
    assert 0 < float(found.max()) <= 1
