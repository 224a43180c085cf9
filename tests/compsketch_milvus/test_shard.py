"""A worker's share: every photo belongs to exactly one worker, on every machine the same."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compsketch_milvus.errors import SourceError
from compsketch_milvus.shard import Shard

ids = st.lists(st.text(min_size=1, max_size=32), unique=True)


@given(ids, st.integers(1, 20), st.randoms(use_true_random=False))
def test_the_shards_are_the_whole_and_none_is_in_two_whatever_the_order(names, count, shuffled: random.Random):
    shares = [[name for name in names if Shard(index, count).holds(name)] for index in range(1, count + 1)]
    assert sorted(name for share in shares for name in share) == sorted(names)
    shuffled.shuffle(names)
    assert [{name for name in names if Shard(index, count).holds(name)} for index in range(1, count + 1)] == [
        set(share) for share in shares
    ]


def test_a_share_is_the_same_on_every_machine():
    names = ("a", "b", "ä", "5f0c", "\udcff")
    assert [next(i for i in range(1, 6) if Shard(i, 5).holds(name)) for name in names] == [1, 2, 3, 4, 1]


def test_shares_are_about_equal():
    names = [f"{number:032x}" for number in range(4000)]
    assert all(900 < sum(map(Shard(index, 4).holds, names)) < 1100 for index in range(1, 5))


def test_it_is_written_as_i_of_n():
    assert Shard.parse("2/3") == Shard(2, 3)


@pytest.mark.parametrize("text", ["0/3", "4/3", "1/0", "1", "a/b", "-1/2", "1/2/3", "", "²/3"])
def test_what_is_no_shard_is_refused_by_name(text):
    with pytest.raises(SourceError, match=r"shard .*give I/N with 1 <= I <= N, such as 2/3"):
        Shard.parse(text)
