"""Reading and generating manifests; no torch."""
