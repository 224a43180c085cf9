"""From the source that a collection keeps of a photo back to the photo."""

from __future__ import annotations

from pathlib import Path

from compsketch_milvus.records import ImageRecord
from compsketch_milvus.sources.access import Access
from compsketch_milvus.sources.archives import container
from compsketch_milvus.sources.naming import file_record
from compsketch_milvus.sources.remote import is_url, url_record
from compsketch_milvus.sources.stream import member
from encoders.errors import ImageError

__all__ = ["stored_record"]


def stored_record(source: str, access: Access) -> ImageRecord:
    """The photo that a source names: a file, a member of an archive, a row of a manifest, or a URL.

    Raises:
        ImageError: the source is a relative path, of which nobody knows what it is relative to.
        SourceError: an archive or a manifest cannot be read.
    """
    if is_url(source) and not container(source):
        return url_record(source, {}, access)
    if container(source) and not Path(source).exists():
        return next(member(source, access))
    if not Path(source).is_absolute():
        raise ImageError(f"{source}: no absolute path; ingest the photo again")
    return file_record(Path(source))
