"""`compsketch doctor`: what is set up, what works, and for what does not the way out.

Nothing is created or changed, here or on the server, and no secret is said. A check that fails does not keep the
others from being made; those that need what failed are left out, and say so.
"""

from __future__ import annotations

from collections.abc import Iterator

from compsketch_milvus.doctor.checks import Check, State
from compsketch_milvus.doctor.machine import check_disk, check_encoder, check_extras, check_settings
from compsketch_milvus.doctor.milvus import check_collection, check_milvus

__all__ = ["Check", "State", "diagnose"]


def diagnose(
    *, uri: str | None = None, token: str | None = None, collection: str | None = None, encoder: str | None = None
) -> Iterator[Check]:
    """Check everything, one thing after the other, from this machine to the collection.

    Args:
        uri: Milvus' address or a Milvus Lite file; None takes the setting, as with the others.
        token: token or user:password.
        collection: name of the collection of photos.
        encoder: name or folder of an encoder bundle, or the address of an encoder service.
    """
    flags = {"uri": uri, "token": token, "collection": collection, "encoder": encoder}
    settings = yield from check_settings(flags)
    yield from check_extras()
    if settings is None:
        for name in ("encoder", "milvus", "collection"):
            yield Check(name, State.SKIPPED, "the settings have to be right first")
        return
    vectors = yield from check_encoder(settings)
    yield from check_disk(settings)
    client = yield from check_milvus(settings)
    if client is None:
        yield Check("collection", State.SKIPPED, "Milvus has to answer first")
        return
    try:
        yield from check_collection(client, settings, vectors)
    finally:
        client.close()
