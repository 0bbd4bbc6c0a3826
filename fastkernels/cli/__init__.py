"""The fastkernels command."""
