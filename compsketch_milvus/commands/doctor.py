"""The command `compsketch doctor`."""

from __future__ import annotations

import typer

from compsketch_milvus.commands.opening import EncoderSpec, Json, Name
from compsketch_milvus.commands.token import Token, Uri
from compsketch_milvus.terminal import FAILURES, command, emit

__all__ = ["doctor"]


@command
def doctor(
    uri: Uri = None,
    collection: Name = None,
    token: Token = None,
    encoder: EncoderSpec = None,
    as_json: Json = False,
) -> int:
    """Check what is set up: settings, encoder, Milvus, login, TLS, collection; say the way out of what is not right.

    Nothing is created or changed, and nothing secret is printed. Exit status 1 if a check failed.
    """
    from compsketch_milvus.doctor import State, diagnose

    checks = []
    for check in diagnose(uri=uri, token=token, collection=collection, encoder=encoder):
        checks.append(check)
        if not as_json:
            typer.echo(f"{check.state.value:<8} {check.name:<13} {check.message}")
            if check.remedy:
                typer.echo(f"{'':<23}-> {check.remedy}")
    counts = {state.value: sum(check.state is state for check in checks) for state in State}
    emit({"checks": [check.to_dict() for check in checks], **counts}, as_json, lambda: None)
    return FAILURES if counts[State.FAILED.value] else 0
