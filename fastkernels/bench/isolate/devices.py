"""Names of devices: `cpu`, `cuda`, or one GPU of several such as `cuda:1`; no torch."""


def kind_of(device: str) -> str:
    """`cpu` or `cuda`."""
    return device.partition(":")[0]


def device_of(rank: int, kind: str) -> str:
    """Where one rank of several runs: on the GPU of its number, or on the CPU that all share."""
    return f"cuda:{rank}" if kind == "cuda" else kind
