"""Builders of manifests: the sets' own files, as distributed, to the parquet that training and evaluation read."""
