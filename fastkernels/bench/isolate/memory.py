"""Memory limits of a worker process and the traces that running out of memory leaves."""

import resource
from pathlib import Path

SHARE = 0.5
"""Part of the available memory that a candidate's process may take when no limit is given."""

_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "Cannot allocate memory", "bad_alloc", "MemoryError",
                  "STATUS_ALLOC_FAILED", "ERROR_OUT_OF_MEMORY", "cudaErrorMemoryAllocation")


def default_limit_bytes() -> int:
    """Half of the memory that is available now."""
    import psutil

    return int(psutil.virtual_memory().available * SHARE)


def limit_data(limit_bytes: int) -> None:
    """Let this process take at most `limit_bytes` more private memory than it has; allocations beyond it fail.

    RLIMIT_DATA counts private writable mappings, so neither the shared arena nor libraries count. For CPU only: CUDA
    reserves far more address space than it uses.
    """
    taken = _status_bytes("VmData")
    if taken is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (taken + limit_bytes, taken + limit_bytes))


def tells_out_of_memory(text: str) -> bool:
    """Return whether an error text or a dying process's last words say that memory ran out."""
    return any(words in text for words in _OUT_OF_MEMORY)


def kernel_oom_kills() -> int:
    """Processes that the kernel's OOM killer has ended since boot; 0 where the kernel does not say."""
    return _number(Path("/proc/vmstat"), "oom_kill") or 0


def _status_bytes(name: str) -> int | None:
    kib = _number(Path("/proc/self/status"), f"{name}:")
    return None if kib is None else kib * 1024


def _number(path: Path, key: str) -> int | None:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None  # not Linux
    return next((int(line.split()[1]) for line in lines if line.split()[:1] == [key]), None)
