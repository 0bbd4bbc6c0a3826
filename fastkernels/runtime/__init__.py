"""Names that task files may import from the harness: base class, device, forward context."""
