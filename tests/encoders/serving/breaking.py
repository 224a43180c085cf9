"""What of a protocol has changed so that programs built with it before would misread those built with it now."""

from __future__ import annotations

from collections.abc import Iterator

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)


def breaking(before: FileDescriptorProto, now: FileDescriptorProto) -> list[str]:
    """One line for each change that is not an addition."""
    found = [] if before.package == now.package else [f"package {before.package} is now {now.package}"]
    found += _messages("", before.message_type, now.message_type)
    found += _enums("", before.enum_type, now.enum_type)
    services = {one.name: one for one in now.service}
    for service in before.service:
        methods = {one.name: one for one in services[service.name].method} if service.name in services else {}
        for method in service.method:
            there = methods.get(method.name)
            if there is None:
                found.append(f"{service.name}.{method.name} is gone")
            elif (there.input_type, there.client_streaming) != (method.input_type, method.client_streaming):
                found.append(f"{service.name}.{method.name} takes something else")
            elif (there.output_type, there.server_streaming) != (method.output_type, method.server_streaming):
                found.append(f"{service.name}.{method.name} gives something else")
    return found


def _messages(outer: str, before: list[DescriptorProto], now: list[DescriptorProto]) -> Iterator[str]:
    named = {one.name: one for one in now}
    for message in before:
        there, name = named.get(message.name), outer + message.name
        if there is None:
            yield f"message {name} is gone"
            continue
        fields = {one.number: one for one in there.field}
        for field in message.field:
            found = fields.get(field.number)
            if found is None:
                yield f"{name}.{field.name} = {field.number} is gone"
            elif _meaning(message, field) != _meaning(there, found):
                yield f"{name}.{field.name} = {field.number} is now another field, {found.name}"
        old = {field.name: field.number for field in message.field}
        for field in there.field:
            if field.name in old and old[field.name] != field.number:
                yield f"{name}.{field.name} has another number, {field.number}"
        yield from _messages(f"{name}.", message.nested_type, there.nested_type)
        yield from _enums(f"{name}.", message.enum_type, there.enum_type)


def _enums(outer: str, before: list[EnumDescriptorProto], now: list[EnumDescriptorProto]) -> Iterator[str]:
    named = {one.name: {value.number: value.name for value in one.value} for one in now}
    for enum in before:
        for value in enum.value:
            if named.get(enum.name, {}).get(value.number) != value.name:
                yield f"{outer}{enum.name}.{value.name} = {value.number} is gone or another"


def _meaning(message: DescriptorProto, field: FieldDescriptorProto) -> tuple[object, ...]:
    oneof = message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else None
    return field.name, field.type, field.type_name, field.label, field.proto3_optional, oneof
