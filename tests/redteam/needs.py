"""What a case may need of the machine, and why it is not there."""

import subprocess
import sys

from fastkernels.bench.kernels.settings import cuda_missing, too_few_gpus

_SANDBOX = """
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
if libc.syscall(444, None, 0, 1) < 1:
    sys.exit("no Landlock")
NEWUSER, NEWPID, NEWIPC, NEWNET = 0x10000000, 0x20000000, 0x08000000, 0x40000000
if libc.unshare(NEWUSER | NEWPID | NEWIPC | NEWNET) != 0:
    sys.exit("no user namespaces")
"""
"""Asks the kernel, in a process of its own, for what a sandbox is made of (444 is landlock_create_ruleset)."""


def available(device: str) -> dict[str, str]:
    """By need: why it is not there; empty where it is."""
    return {"cpu": "" if device == "cpu" else "needs --device cpu", "cuda": _cuda(device),
            "ranks": too_few_gpus(2, device), "sandbox": _sandbox()}


def _cuda(device: str) -> str:
    return cuda_missing() or "" if device == "cuda" else "needs --device cuda"


def _sandbox() -> str:
    if sys.platform != "linux":
        return "no Linux sandbox on this system"
    done = subprocess.run([sys.executable, "-c", _SANDBOX], capture_output=True, text=True, timeout=60, check=False)
    return "" if done.returncode == 0 else done.stderr.strip() or "no sandbox"
