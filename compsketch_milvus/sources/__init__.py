"""Where photos come from: folders, manifests, archives, other machines and collections, each as a stream of records."""

from compsketch_milvus.sources.stream import ARCHIVES, MANIFESTS, SUFFIXES, Source, is_countable, iterate, member

__all__ = ["ARCHIVES", "MANIFESTS", "SUFFIXES", "Source", "is_countable", "iterate", "member"]
