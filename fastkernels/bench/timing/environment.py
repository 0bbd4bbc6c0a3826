"""What a published time must carry: machine, device, driver, clocks, versions and commit."""

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import fastkernels

_SMI_FIELDS = {
    "driver_version": "driver",
    "clocks.sm": "clock_sm_mhz",
    "clocks.max.sm": "clock_sm_max_mhz",
    "clocks.mem": "clock_memory_mhz",
    "temperature.gpu": "temperature_c",
    "power.draw": "power_w",
    "power.limit": "power_limit_w",
    "pstate": "performance_state",
}
_COMMAND_TIMEOUT_S = 10


def describe_environment(device: str) -> dict[str, Any]:
    """Plain data on the machine and on `device` (`cpu`, `cuda` or `cuda:1`); what cannot be read is None.

    Imports no torch of its own: the GPU's state comes from nvidia-smi, versions from what is loaded or installed.
    """
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"system": platform.platform(), **_cpu()},
        "gpu": _gpu(device) if device.startswith("cuda") else None,
        "versions": {"python": platform.python_version(), "fastkernels": fastkernels.__version__,
                     **_torch(), **{name: _version(name) for name in ("triton", "vllm")}},
        **_commit(Path.cwd()),
    }


def _cpu() -> dict[str, Any]:
    info = _read(Path("/proc/cpuinfo")) or ""
    model = next((line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")), None)
    governor = _read(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"))
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    return {"cpu": model or platform.processor() or None, "cores": os.cpu_count(), "usable_cores": affinity,
            "threads": _threads(), "governor": governor.strip() if governor else None, "load": _load()}


def _torch() -> dict[str, str | None]:
    """Versions of torch and of the CUDA it was built with; the latter only where this process has torch loaded."""
    torch = sys.modules.get("torch")
    if torch is None:
        return {"torch": _version("torch"), "cuda": None}
    return {"torch": str(torch.__version__), "cuda": torch.version.cuda}


def _threads() -> int | None:
    """Threads of torch's CPU operators, where this process has torch loaded."""
    torch = sys.modules.get("torch")
    return torch.get_num_threads() if torch is not None else None


def _load() -> float | None:
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _gpu(device: str) -> dict[str, Any]:
    index = device.partition(":")[2] or "0"
    fields = ["name", "memory.total", *_SMI_FIELDS]
    answer = _run(["nvidia-smi", f"--id={_visible(int(index))}", f"--query-gpu={','.join(fields)}",
                   "--format=csv,noheader,nounits"])
    values = [value.strip() for value in (answer or "").partition("\n")[0].split(",")]
    if len(values) != len(fields):
        values = [""] * len(fields)
    names = ["name", "memory_mib", *_SMI_FIELDS.values()]
    return {name: _number(value) for name, value in zip(names, values, strict=True)}


def _visible(index: int) -> str:
    """What nvidia-smi calls the device that CUDA numbers `index`."""
    visible = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return visible[index] if index < len(visible) else str(index)


def _number(text: str) -> float | str | None:
    if not text or text.startswith("["):  # [N/A], [Not Supported]
        return None
    try:
        return float(text)
    except ValueError:
        return text


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit(directory: Path) -> dict[str, Any]:
    commit = _run(["git", "-C", str(directory), "rev-parse", "HEAD"])
    changes = _run(["git", "-C", str(directory), "status", "--porcelain", "--untracked-files=no"]) if commit else None
    return {"commit": commit.strip() if commit else None, "dirty": None if changes is None else bool(changes.strip())}


def _run(command: list[str]) -> str | None:
    """Output of a command; None where it is missing, fails or takes too long."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:
        return None
