"""Builders of manifests: the sets' own files, as they are distributed, to the parquet that training and evaluation read."""
