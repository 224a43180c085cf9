"""`compsketch upgrade` and `alias`: another encoder under the name that readers use, and back."""

from __future__ import annotations

import pytest


@pytest.fixture
def program(program, toy, monkeypatch):
    """`compsketch` with two encoders of different networks: `first`, the default one, and `second`."""
    encoders = {"first": toy.ToyEncoder(), "second": toy.ToyEncoder(grid=2, fingerprint="toy-2222abcd")}
    monkeypatch.setattr(
        "compsketch_milvus.encoder.connect",
        lambda spec=None, **options: encoders.get(spec, encoders["first"]),
    )
    return program


def test_from_a_collection_of_its_own_name_to_another_encoder_and_back(program, photos) -> None:
    assert program.json("ingest", photos)["indexed"] == 4
    program.refused(
        "'photos' is the name of a collection.*`compsketch alias photos photos_1 --rename`", "alias", "photos"
    )
    renamed = program.json("alias", "photos", "photos_1", "--rename")
    first = {"name": "toy", "fingerprint": "toy-0000000000000000"}
    assert renamed == {"alias": "photos", "collection": "photos_1", "before": None, "count": 4, "encoder": first}
    program.refused("'photos' is an alias already, of 'photos_1'", "alias", "photos", "photos_3", "--rename")

    answer = program.json("upgrade", "photos", "--to", "second")
    assert answer.pop("seconds") > 0
    second = {"name": "toy", "fingerprint": "toy-2222abcd"}
    assert answer == {
        "old": "photos_1", "new": "photos_2222abcd", "rows": 4, "there": 0, "projected": 0, "encoded": 4, "pruned": 0,
        "missing": [], "missing_dropped": 0, "alias": "photos", "before": "photos_1", "encoder": second,
    }  # fmt: skip
    shown = program.json("alias", "photos")
    assert shown == {"alias": "photos", "collection": "photos_2222abcd", "before": None, "count": 4, "encoder": second}
    program.refused("there is nothing to upgrade", "upgrade", "photos", "--to", "second")

    program("delete", "--collection", "photos", "--filter", 'source like "%left%"', "--encoder", "second")
    assert program("alias", "photos", "photos_1") == 0
    assert program.out == "photos names photos_1, until now photos_2222abcd: 4 photos, encoder toy\n"
    assert "photos_2222abcd has 3 photos" in program.err
    assert program.json("info", "--collection", "photos")["encoder"] == first


def test_what_cannot_be_read_keeps_readers_where_they_are_unless_it_may_be_missing(program, photos) -> None:
    program("ingest", photos, "--collection", "photos_1")
    program("alias", "photos", "photos_1")
    (photos / "left.png").unlink()
    assert program("upgrade", "photos", "--to", "second") == 1
    assert "left.png: no such file" in program.err.lower()
    assert "photos was left as it is: " in program.err
    assert "--allow-missing 1\n" in program.err
    assert program.json("alias", "photos")["collection"] == "photos_1"
    assert program("upgrade", "photos", "--to", "second", "--allow-missing", 1) == 0
    assert "photos now names photos_2222abcd" in program.out
    assert "back to it: compsketch alias photos photos_1" in program.err


def test_without_an_alias_the_new_collection_is_made_and_nobody_is_led_to_it(program, photos) -> None:
    program("ingest", photos)
    answer = program.json("upgrade", "photos", "--to", "second", "--into", "new")
    assert (answer["new"], answer["encoded"], answer["alias"]) == ("new", 4, None)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("upgrade", "photos", "--to", "first"), "which encoder 'toy' .* made: there is nothing to upgrade"),
        (("upgrade", "nowhere", "--to", "second"), "collection 'nowhere' does not exist"),
        (("upgrade", "photos", "--to", "second", "--alias", "photos"), "'photos' is the name of a collection"),
        (("alias", "mine", "nowhere"), "collection 'nowhere' does not exist"),
        (("alias", "photos", "--rename"), "--rename: give the name"),
        (("alias", "my photos", "photos"), "alias 'my photos': use letters"),
    ],
)
def test_what_cannot_be_is_refused(program, photos, arguments, words) -> None:
    program("ingest", photos)
    program.refused(words, *arguments)
