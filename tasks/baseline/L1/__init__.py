"""Single-kernel operators."""
