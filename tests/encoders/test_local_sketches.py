"""What a bundle makes of sketches: strokes, words and weights, against the equations run one by one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from encoders.errors import CompsketchError
from encoders.local import LocalEncoder
from encoders.query import query_tensor
from encoders.sketch import Sketch, SketchObject
from tests.encoders.tiny import DIM, LOOP, VOCABULARY, ZIGZAG, C, D, by_hand, cosines, sketch

# --- strokes ---


def test_encode_sketches_is_f_s_equation_1_f_t_and_the_projection(encoder, plain):
    sketches = [sketch(), Sketch(90, 90, (SketchObject(LOOP),))]
    flat, stored = encoder.embed_sketches(sketches), encoder.encode_sketches(sketches)
    assert flat.shape == (2, 49 * D)
    assert stored.shape == (2, DIM)
    assert stored.dtype == np.float32
    assert np.allclose(np.linalg.norm(stored, axis=1), 1, atol=1e-6)
    expected = [by_hand(*plain, drawn) for drawn in sketches]
    assert cosines(flat, np.stack([row for row, _ in expected])).min() > 0.99999
    assert cosines(stored, np.stack([row for _, row in expected])).min() > 0.99999


def test_a_sketch_alone_is_as_in_company(encoder):
    together = encoder.encode_sketches([sketch(), Sketch(90, 90, (SketchObject(ZIGZAG),))])
    assert np.allclose(encoder.encode_sketches([sketch()])[0], together[0], atol=1e-5)


def with_networks_of(encoder: LocalEncoder, folder: Path) -> LocalEncoder:
    """A second encoder, which remembers nothing yet; compiling its networks again would take seconds."""
    fresh = LocalEncoder.open(str(folder), device="cpu")
    fresh.__dict__.update(_sketched=encoder._sketched, _spatial=encoder._spatial)
    return fresh


def test_objects_are_encoded_once(encoder, tiny_bundle):
    fresh, seen = with_networks_of(encoder, tiny_bundle), []
    run = encoder._sketched
    fresh.__dict__["_sketched"] = lambda batch: (seen.append(len(batch)), run(batch))[1]
    twice = Sketch(200, 120, (SketchObject(ZIGZAG), SketchObject(ZIGZAG, bbox=(100, 0, 180, 90)), SketchObject(LOOP)))
    first = fresh.encode_sketches([twice])
    assert seen == [2]  # the zigzag stands in two boxes, and is one drawing
    assert np.array_equal(fresh.encode_sketches([twice]), first)
    assert seen == [2]
    moved = [[[x + 1 for x in xs], ys] for xs, ys in LOOP]
    fresh.encode_sketches([Sketch(200, 120, (SketchObject(ZIGZAG), SketchObject(moved)))])
    assert seen == [2, 1]  # only what is new


def test_only_so_many_objects_are_remembered(encoder, tiny_bundle, monkeypatch):
    monkeypatch.setattr("encoders.local.CACHED_OBJECTS", 3)
    fresh = with_networks_of(encoder, tiny_bundle)
    items = [SketchObject(([[0, 10, length], [0, 10, 0]],)) for length in range(20, 26)]
    vectors = fresh.embed_objects(items)
    assert len(fresh._remembered) == 3
    assert np.allclose(fresh.embed_objects(items), vectors, atol=1e-3)


def test_one_in_place_of_a_list_is_told_how(encoder):
    with pytest.raises(CompsketchError, match=r"found one str; write \[photo\]"):
        encoder.encode_images("a.jpg")
    with pytest.raises(CompsketchError, match=r"found one Sketch; write \[sketch\]"):
        encoder.encode_sketches(Sketch(10, 10, (SketchObject([[[1, 5], [1, 5]]]),)))


def test_nothing_in_nothing_out(encoder):
    for vectors, width in (
        (encoder.encode_images([]), DIM),
        (encoder.embed_images([]), 49 * D),
        (encoder.embed_photo_objects([]), C),
        (encoder.encode_sketches([]), DIM),
        (encoder.encode_sketches([], words=True), DIM),
        (encoder.embed_sketches([]), 49 * D),
        (encoder.embed_objects([]), C),
        (encoder.embed_canvas([]), C),
    ):
        assert vectors.shape == (0, width)
        assert vectors.dtype == np.float32


def test_embed_canvas_is_f_s_of_all_strokes_as_one_drawing(encoder):
    whole = SketchObject((*ZIGZAG, *LOOP))
    assert np.array_equal(encoder.embed_canvas([sketch()]), encoder.embed_objects([whole]))


# --- words ---


def test_words_mix_the_labels_vector_into_the_drawings(encoder, plain):
    names = plain[0].objects.class_vectors().numpy()
    drawn = encoder.embed_objects(sketch().objects)
    labelled = sketch(labels=("dog", None))
    assert np.array_equal(encoder.embed_objects(labelled.objects), drawn)  # only where they are asked for
    mixed = encoder.embed_objects(labelled.objects, words=True)
    expected = drawn[0] + names[VOCABULARY.index("dog")]
    assert np.allclose(mixed[0], expected / np.linalg.norm(expected), atol=1e-6)
    assert np.array_equal(mixed[1], drawn[1])
    assert encoder.encode_sketches([labelled], words=True)[0] @ encoder.encode_sketches([labelled])[0] < 0.999


@pytest.mark.parametrize(
    ("label", "word"),
    [
        ("dog", "dog"),
        (" Dog ", "dog"),
        ("cat", "Cat"),
        ("motorcycle", "motorbike"),  # one of COCO's names for it
        ("Boat", "sailboat"),
    ],
)
def test_a_label_is_found_in_any_case_and_by_the_class_map(encoder, label, word):
    assert np.array_equal(encoder.word_vector(label), encoder.word_vector(word))
    assert np.array_equal(encoder.word_vector(label), encoder._class_vectors[VOCABULARY.index(word)])


def test_an_unknown_label_is_answered_with_near_names(encoder):
    with pytest.raises(CompsketchError, match=r"label 'motorbik' is no word .*'tiny' knows; did you mean motorbike\?"):
        encoder.encode_sketches([sketch(labels=("motorbik", None))], words=True)
    with pytest.raises(CompsketchError, match=r"label 'quark' .* it knows 4 words\. Or use strokes without words"):
        encoder.word_vector("quark")
    with pytest.raises(CompsketchError, match="label 'bus'"):  # in the class map, but not in this vocabulary
        encoder.word_vector("bus")


def test_a_word_over_a_box_paints_the_class_vector(encoder, plain):
    word = Sketch(200, 120, (SketchObject((), "dog", (40, 30, 150, 110)),))
    name = plain[0].objects.class_vectors()[VOCABULARY.index("dog")].numpy()
    assert np.array_equal(encoder.embed_objects(word.objects)[0], name)
    tensor = torch.from_numpy(query_tensor(name[None], word.boxes))[None]
    expected = plain[0].spatial(tensor).flatten(1).detach().numpy()
    for words in (False, True):
        assert cosines(encoder.embed_sketches([word], words=words), expected).min() > 0.99999
    drawn = sketch(("dog", "cat"))
    assert np.array_equal(encoder.encode_sketches([drawn.without_strokes()])[0],
                          encoder.encode_sketches([drawn.without_strokes()], words=True)[0])  # fmt: skip


def test_strokes_and_words_mix_in_one_sketch(encoder):
    mixed = Sketch(200, 120, (SketchObject((), "dog", (0, 0, 90, 110)), *sketch(("quark", None)).objects))
    vectors = encoder.embed_objects(mixed.objects)
    assert np.array_equal(vectors[0], encoder.word_vector("dog"))
    assert np.array_equal(vectors[1:], encoder.embed_objects(mixed.objects[1:]))  # "quark" is a note
    with pytest.raises(CompsketchError, match="label 'quark' is no word"):
        encoder.encode_sketches([Sketch(9, 9, (SketchObject((), "quark", (0, 0, 5, 5)),))])
    with pytest.raises(CompsketchError, match="no ink"):
        encoder.embed_canvas([sketch(("dog", "cat")).without_strokes()])


# --- weights ---


def reweighed(drawn: Sketch, *weights: float) -> Sketch:
    return replace(drawn, objects=tuple(replace(o, weight=w) for o, w in zip(drawn.objects, weights, strict=True)))


def test_equal_weights_are_the_sketch_itself_bit_for_bit(encoder):
    assert np.array_equal(encoder.embed_sketches([reweighed(sketch(), 2, 2)]), encoder.embed_sketches([sketch()]))


def test_weights_and_negatives_are_the_equations(encoder, plain):
    drawn = sketch()
    both, first, second = (
        by_hand(*plain, replace(drawn, objects=objects))[0]
        for objects in (drawn.objects, drawn.objects[:1], drawn.objects[1:])
    )
    against = np.linalg.norm(first) * second / np.linalg.norm(second)
    expected = [0.25 * both + 0.75 * first, first - 0.5 * against]
    found = encoder.embed_sketches([reweighed(drawn, 4, 1), reweighed(drawn, 1, -2)])
    assert np.allclose(found, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_an_object_that_is_not_wanted_is_no_ink_of_the_canvas(encoder):
    drawn = sketch()
    alone = replace(drawn, objects=drawn.objects[:1])
    assert np.array_equal(encoder.embed_canvas([reweighed(drawn, 1, -1)]), encoder.embed_canvas([alone]))


def test_a_trace_shows_the_paper_s_steps(encoder, tiny_bundle, spans):
    fresh = with_networks_of(encoder, tiny_bundle)
    fresh.encode_sketches([sketch()])
    assert [span.name for span in spans.all] == ["raster", "f_s", "f_t", "projection"]
    spans.clear()
    fresh.encode_sketches([sketch()])
    assert [span.name for span in spans.all] == ["f_t", "projection"]  # its objects are remembered
