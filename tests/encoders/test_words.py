"""Labels and the words of a vocabulary that they mean."""

import pytest

from encoders.errors import CompsketchError
from encoders.words import Words

WORDS = Words(["Cat", "couch", "motorbike"], "tiny", "Or draw it.")


@pytest.mark.parametrize(
    ("label", "row"), [("cat", 0), (" CAT ", 0), ("couch", 1), ("sofa", 1), ("motorcycle", 2), ("zebra", None)]
)
def test_a_label_means_a_word_by_its_name_or_by_the_class_map(label, row):
    assert WORDS.find(label) == row


def test_a_label_that_is_nearly_a_word_is_answered_with_it():
    with pytest.raises(CompsketchError, match=r"^label 'motorbik' is no word that encoder 'tiny' knows; did you mean "):
        WORDS.row("motorbik")


def test_a_label_like_no_word_is_answered_with_how_many_there_are_and_a_way_out():
    with pytest.raises(CompsketchError, match=r"it knows 3 words\. Or draw it\.$"):
        WORDS.row("xylophone")
