"""Tries a sandbox out before anything is graded: what holds in it, and whether CUDA works there; no torch.

`python -m` this module confines itself as a candidate's worker does. On CUDA a process outside exports memory as a
trusted worker does, and the confined one opens and writes it.
"""

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastkernels.bench.isolate import landlock, seccomp
from fastkernels.bench.isolate.sandbox import ALL, Sandbox, confine, decode, encode
from fastkernels.env import cache_dir

TIMEOUT_S = 30.0

CUDA_NAMESPACES: tuple[tuple[str, ...], ...] = (ALL, ("pid", "mount"), ("mount",))
"""What is tried on CUDA, in this order: legacy IPC may need common PIDs, sockets of one network, files in /dev/shm."""

_KEPT = 1 << 1
"""CAP_DAC_OVERRIDE, which root's candidate keeps."""


def find_on_cpu(mode: str) -> Sandbox:
    """All that there is; without namespaces where the kernel refuses them."""
    whole = Sandbox(mode, True, landlock.abi())
    found = try_out(whole)
    if isinstance(found, dict):
        return replace(whole, observed=found)
    bare = replace(whole, namespaces=False, problem=found, seccomp=seccomp.available())
    observed = try_out(bare)
    return replace(bare, observed=observed if isinstance(observed, dict) else {})


def find_on_cuda(mode: str) -> Sandbox:
    """The first of `cuda_levels` in which memory can be shared with a process outside; remembered for this uptime."""
    path = _memory_of_cuda()
    try:
        return replace(decode(path.read_text()), mode=mode)
    except (OSError, ValueError, TypeError, KeyError):  # not yet tried, or by another version
        pass
    found = first_that_works(cuda_levels(mode), lambda level: try_out(level, "--cuda"))
    if found.observed:  # else nothing worked, as without a driver or with a full GPU: another time it may
        _remember(path, encode(found))
    return found


def cuda_levels(mode: str) -> list[Sandbox]:
    """Sandboxes for CUDA, the strictest first."""
    bare = Sandbox(mode, False, landlock.abi(), wants_namespaces=False, kinds=(), seccomp=seccomp.available())
    return [*(replace(bare, namespaces=True, kinds=kinds) for kinds in CUDA_NAMESPACES), bare,
            replace(bare, whole_dev=True)]


def first_that_works(levels: Sequence[Sandbox], attempt: Callable[[Sandbox], "dict[str, bool] | str"]) -> Sandbox:
    """The first level that an attempt does not refuse, with why those before it were; if all were, the last but one."""
    problems: list[str] = []
    for level in levels:
        found = attempt(level)
        if isinstance(found, dict):
            return replace(level, observed=found, problem="; ".join(problems))
        problems.append(f"{'+'.join(level.own) or 'no namespaces'}: {found}")
    return replace(levels[-2], problem="; ".join(problems))


def try_out(sandbox: Sandbox, *words: str) -> "dict[str, bool] | str":
    """What a process under a sandbox observes, or why there can be none."""
    from fastkernels.bench.isolate.launch import worker_environment

    scratch = tempfile.mkdtemp(prefix="fastkernels-probe-")
    command = [sys.executable, "-P", "-m", "fastkernels.bench.isolate.sandbox_probe", encode(sandbox), scratch, *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
                              env=worker_environment(), stdin=subprocess.DEVNULL)
        if done.returncode == 0:
            found: dict[str, bool] = json.loads(done.stdout)
            return found
    except subprocess.TimeoutExpired:
        return f"no answer within {TIMEOUT_S:g} s"
    except ValueError:
        return "no answer"
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]


def observe(outside: int) -> dict[str, bool]:
    """What holds for this process; outside: a process of the same user that stands for the trusted worker."""
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    bound = ["CapBnd"] if os.getuid() == 0 else []  # others need a right to lower it, and cannot use what it allows
    sets = [int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb", *bound)]
    return {"capabilities_dropped": not any(found & ~_KEPT for found in sets),
            "no_new_privileges": status.get("NoNewPrivs") == "1", "no_udp": not _works(_send_datagram),
            "environments_closed": not _works(lambda: Path(f"/proc/{outside}/environ").read_bytes()[:1] or _nothing()),
            "own_shared_memory": not _works(lambda: os.stat(f"/dev/shm/fastkernels-probe-{outside}"))}


def _main() -> None:
    sandbox, scratch, words = decode(sys.argv[1]), sys.argv[2], sys.argv[3:]
    mark = Path(f"/dev/shm/fastkernels-probe-{os.getpid()}")
    try:
        mark.touch()
        if words:
            from fastkernels.bench.isolate import cuda_probe

            found = cuda_probe.share_with(lambda: _confined(sandbox, scratch))
        else:
            found = _in_child(lambda: _confined(sandbox, scratch))
        sys.stdout.write(json.dumps(found))
    except OSError as error:
        sys.exit(str(error))
    finally:
        mark.unlink(missing_ok=True)


def _confined(sandbox: Sandbox, scratch: str) -> dict[str, bool]:
    outside = os.getppid()
    confine(sandbox, scratch, outside, [], [])
    return observe(outside)


def _in_child(work: Callable[[], Any]) -> Any:
    """What a call in a forked process returns; OSError with what it raised."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer: Any = {"found": work()}
        except OSError as error:
            answer = {"error": str(error)}
        os.write(writing, json.dumps(answer).encode())
        os._exit(0)
    os.close(writing)
    with open(reading) as file:
        text = file.read()
    os.waitpid(child, 0)
    answer = json.loads(text) if text else {"error": "the confined process has ended"}
    if "error" in answer:
        raise OSError(answer["error"])
    return answer["found"]


def _works(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except OSError:
        return False
    return True


def _nothing() -> object:
    raise OSError("empty")


def _send_datagram() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.sendto(b"", ("127.0.0.1", 9))


def _memory_of_cuda() -> Path:
    """Where what was found is kept: for this boot, kernel, user, driver and version of this file."""
    parts = [str(os.getuid()), os.uname().release]
    for path in ("/proc/sys/kernel/random/boot_id", "/proc/driver/nvidia/version", __file__):
        try:
            parts.append(Path(path).read_text())
        except OSError:
            parts.append("")
    return cache_dir() / "sandbox" / f"{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:16]}.json"


def _remember(path: Path, text: str) -> None:
    """Write it whole or not at all; a folder that cannot be written costs the next run a second."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}")
        part.write_text(text)
        part.replace(path)
    except OSError:
        return


if __name__ == "__main__":
    _main()
