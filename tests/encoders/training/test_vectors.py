"""What objects are painted with: each kind of vectors, and how a mixture draws of them."""

import numpy as np
import pytest

from encoders.errors import CompsketchError
from encoders.training.vectors import CropVectors, MixedVectors, Mixture, NameVectors, SketchVectors

C, K = 8, 4


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


RNG = np.random.default_rng(0)
SKETCHES = SketchVectors.build(unit(RNG.normal(size=(10, C))), np.array([0, 0, 0, 1, 1, 1, 1, 2, 2, 2]), K)
NAMES = NameVectors(unit(RNG.normal(size=(K, C))))
CROPS = CropVectors.build(unit(RNG.normal(size=(3, C))), np.array([5, 0, 2]))  # crops 1, 3 and 4 were too small
KINDS = np.array([0, 1, 2, 3] * 50)  # nobody drew class 3
NUMBERS = np.array([0, 1, 2, 3, 4, 5, 6, 7] * 25)


def drawn(**parts: float) -> np.ndarray:
    """What a mixture without noise paints those objects with."""
    shares = {"sketch": 0.0, "name": 0.0, "both": 0.0, "crop": 0.0, "noise": 0.0, **parts}
    mixed = MixedVectors(Mixture(**shares), SKETCHES, NAMES, CROPS)
    return mixed.draw(KINDS, NUMBERS, np.random.default_rng(1))


def test_sketches_are_of_the_class():
    able = SKETCHES.paints(KINDS, NUMBERS)
    assert able.tolist() == [kind != 3 for kind in KINDS]
    vectors = SKETCHES.draw(KINDS[able], NUMBERS[able], np.random.default_rng(0))
    for kind, vector in zip(KINDS[able], vectors, strict=True):
        assert (SKETCHES.vectors[SKETCHES.by_class[kind]] == vector).all(axis=1).any()
    assert len(np.unique(vectors, axis=0)) == 10  # every sketch has its turn


def test_a_name_is_its_class():
    assert NAMES.paints(KINDS, NUMBERS).all()
    assert np.array_equal(NAMES.draw(KINDS, NUMBERS, np.random.default_rng(0)), NAMES.vectors[KINDS])


def test_a_crop_is_the_objects_own():
    assert CROPS.paints(np.zeros(8, int), np.arange(8)).tolist() == [n in (0, 2, 5) for n in range(8)]
    own = CROPS.draw(np.zeros(3, int), np.array([0, 2, 5]), np.random.default_rng(0))
    assert np.array_equal(own, CROPS.vectors[[1, 2, 0]])


def test_there_may_be_no_crops_at_all():
    none = CropVectors.build(np.zeros((0, C)), np.zeros(0, int))
    assert not none.paints(np.zeros(2, int), np.array([0, 7])).any()


def test_each_part_of_a_mixture_paints_what_it_says():
    plain, both, crops = drawn(sketch=1), drawn(both=1), drawn(crop=1)
    assert np.allclose(drawn(name=1), NAMES.vectors[KINDS])
    for kind, number, sketched, summed, cropped in zip(KINDS, NUMBERS, plain, both, crops, strict=True):
        own = SKETCHES.vectors[SKETCHES.by_class[kind]]
        if len(own):
            assert np.isclose(own @ sketched, 1).any()
            assert np.isclose(unit(own + NAMES.vectors[kind]) @ summed, 1).any()
        else:  # nobody drew it: its name stands for it
            assert np.allclose([sketched, summed], NAMES.vectors[kind])
        if number in (0, 2, 5):
            assert np.allclose(cropped, CROPS.vectors[CROPS.row[number]])
        else:
            assert np.allclose(cropped, NAMES.vectors[kind])


def test_parts_come_as_often_as_they_say():
    vectors = drawn(sketch=0.25, name=0.25, crop=0.5)
    able = (KINDS != 3) & np.isin(NUMBERS, (0, 2, 5))
    crops = np.isclose(vectors[able] @ CROPS.vectors.T, 1).any(axis=1).mean()
    names = np.isclose((vectors[able] * NAMES.vectors[KINDS[able]]).sum(axis=1), 1).mean()
    assert crops == pytest.approx(0.5, abs=0.15)
    assert names == pytest.approx(0.25, abs=0.15)


def test_noise_turns_a_sketch_and_nothing_else():
    noisy, plain = drawn(sketch=1, noise=0.5), drawn(sketch=1)
    assert np.allclose(np.linalg.norm(noisy, axis=1), 1)
    own = SKETCHES.vectors
    assert not np.isclose(noisy[KINDS != 3] @ own.T, 1).any(axis=1).all()
    assert np.array_equal(noisy[KINDS == 3], plain[KINDS == 3])
    assert np.allclose(drawn(crop=0.5, name=0.5, noise=0.5), drawn(crop=0.5, name=0.5))


def test_crops_alone_leave_out_objects_without_one():
    """With other parts an object without a crop is painted with its name; alone, as the paper has it, not at all."""
    alone = MixedVectors(Mixture(0, 0, 0, crop=1), SKETCHES, NAMES, CROPS)
    share = MixedVectors(Mixture(0.3, 0.2, 0.2, crop=0.3), SKETCHES, NAMES, CROPS)
    assert np.array_equal(alone.paints(KINDS, NUMBERS), CROPS.paints(KINDS, NUMBERS))
    assert share.paints(KINDS, NUMBERS).all()


def test_without_crops_a_mixture_never_looks_at_them():
    mixed = MixedVectors(Mixture(), SKETCHES, NAMES)
    one, other = (mixed.draw(KINDS, numbers, np.random.default_rng(3)) for numbers in (NUMBERS, NUMBERS + 100))
    assert np.array_equal(one, other)


@pytest.mark.parametrize(
    "parts", [{"crop": 0.5}, {"sketch": 0.2, "name": 0.2, "both": 0.2}, {"sketch": 1, "name": -0.25}]
)
def test_parts_that_are_no_whole_are_refused(parts):
    with pytest.raises(CompsketchError, match="have to add up to 1"):
        Mixture(**parts)
