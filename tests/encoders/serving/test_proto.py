"""The protocol never changes but by additions: compared with its first form, which lies beside this file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto

from encoders.serving import encoder_pb2
from tests.encoders.serving.breaking import breaking

SNAPSHOT = Path(__file__).with_name("encoder.v1.json")
PROTO = Path(encoder_pb2.__file__).with_name("encoder.proto")
AGAIN = "python -c 'from tests.encoders.serving import test_proto; test_proto.write()'"


def here() -> FileDescriptorProto:
    found = FileDescriptorProto()
    encoder_pb2.DESCRIPTOR.CopyToProto(found)
    return found


def first() -> FileDescriptorProto:
    return json_format.Parse(SNAPSHOT.read_text(), FileDescriptorProto())


def write() -> None:
    """Take what there is now as the first version: after an addition."""
    SNAPSHOT.write_text(json_format.MessageToJson(here(), indent=1) + "\n")


def message(file: FileDescriptorProto, name: str) -> DescriptorProto:
    return next(one for one in file.message_type if one.name == name)


def field(file: FileDescriptorProto, name: str, of: str) -> FieldDescriptorProto:
    return next(one for one in message(file, of).field if one.name == name)


def test_nothing_of_the_first_version_has_changed():
    assert breaking(first(), here()) == []


def test_what_is_added_is_in_the_snapshot_from_then_on():
    """So that the next change cannot take it away: after an addition write the snapshot anew, with `AGAIN`."""
    assert breaking(here(), first()) == [], AGAIN


def renumber(file: FileDescriptorProto) -> None:
    field(file, "fingerprint", "Model").number = 99


def retype(file: FileDescriptorProto) -> None:
    field(file, "dim", "Model").type = FieldDescriptorProto.TYPE_FLOAT


def rename(file: FileDescriptorProto) -> None:
    field(file, "dim", "Model").name = "dimension"


def repeat(file: FileDescriptorProto) -> None:
    field(file, "dim", "Model").label = FieldDescriptorProto.LABEL_REPEATED


def remove(file: FileDescriptorProto) -> None:
    del message(file, "Model").field[0]


def leave_the_oneof(file: FileDescriptorProto) -> None:
    field(file, "encoded", "Image").ClearField("oneof_index")


def remove_message(file: FileDescriptorProto) -> None:
    file.message_type.remove(message(file, "Explanation"))


def renumber_reason(file: FileDescriptorProto) -> None:
    message(file, "Fault").enum_type[0].value[1].number = 9


def remove_lane(file: FileDescriptorProto) -> None:
    del next(enum for enum in file.enum_type if enum.name == "Lane").value[2]


def remove_call(file: FileDescriptorProto) -> None:
    del file.service[0].method[0]


def stop_streaming(file: FileDescriptorProto) -> None:
    next(method for method in file.service[0].method if method.name == "StreamImages").server_streaming = False


def take_another(file: FileDescriptorProto) -> None:
    file.service[0].method[0].input_type = ".compsketch.v1.ProjectRequest"


def move(file: FileDescriptorProto) -> None:
    file.package = "compsketch.v2"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (renumber, ["Model.fingerprint = 2 is gone", "Model.fingerprint has another number, 99"]),
        (retype, ["Model.dim = 3 is now another field, dim"]),
        (rename, ["Model.dim = 3 is now another field, dimension"]),
        (repeat, ["Model.dim = 3 is now another field, dim"]),
        (remove, ["Model.name = 1 is gone"]),
        (leave_the_oneof, ["Image.encoded = 1 is now another field, encoded"]),
        (remove_message, ["message Explanation is gone"]),
        (renumber_reason, ["Fault.Reason.REASON_INVALID = 1 is gone or another"]),
        (remove_lane, ["Lane.LANE_BULK = 2 is gone or another"]),
        (remove_call, ["Encoder.GetModels is gone"]),
        (stop_streaming, ["Encoder.StreamImages gives something else"]),
        (take_another, ["Encoder.GetModels takes something else"]),
        (move, ["package compsketch.v1 is now compsketch.v2"]),
    ],
)
def test_the_check_catches(change: Callable[[FileDescriptorProto], None], says: list[str]):
    changed = here()
    change(changed)
    assert breaking(here(), changed) == says


def test_additions_are_no_breaking_change():
    more = here()
    message(more, "Model").field.add(name="new", number=50, type=FieldDescriptorProto.TYPE_STRING)
    more.message_type.add(name="New")
    next(enum for enum in more.enum_type if enum.name == "Lane").value.add(name="LANE_NEW", number=3)
    more.service[0].method.add(name="New", input_type=".compsketch.v1.New", output_type=".compsketch.v1.New")
    assert breaking(here(), more) == []


def test_the_generated_code_is_that_of_the_proto_file():
    """By the numbers: `make proto` writes it anew."""

    def numbers(messages: list[DescriptorProto]) -> Iterator[tuple[str, int]]:
        for one in messages:
            yield from ((field.name, field.number) for field in one.field)
            yield from ((value.name, value.number) for enum in one.enum_type for value in enum.value)
            yield from numbers(one.nested_type)

    file = here()
    generated = [*numbers(file.message_type), *((v.name, v.number) for enum in file.enum_type for v in enum.value)]
    written = re.findall(r"^\s*(?:[\w. ]+ )?(\w+) = (\d+);", PROTO.read_text(), re.MULTILINE)
    assert Counter(generated) == Counter((name, int(number)) for name, number in written)
