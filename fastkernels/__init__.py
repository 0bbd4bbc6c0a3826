"""pytest-fastkernels: grades kernels for large language models on the shapes of real models."""

from fastkernels._mount import mount

__version__ = "0.1.0"

mount()
