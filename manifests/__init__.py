"""Manifests and model configs: data only."""
