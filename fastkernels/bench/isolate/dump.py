"""Writes one call that went wrong for a person to look at: inputs, what was expected and given, and a script."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

CALL = "call.pt"
SCRIPT = "show.py"

_TEXT = '''\
"""{title}: python {script}"""
from pathlib import Path

import torch

call = torch.load(Path(__file__).with_name("{call}"), weights_only=True)  # and scenario, draw, inputs, weights
print(call["title"])
for name, (atol, rtol) in call["tolerances"].items():
    given, expected = call["given"].get(name), call["expected"][name].double()
    if given is None or given.shape != expected.shape:
        print(f"{{name}}: expected {{list(expected.shape)}}, given {{given if given is None else list(given.shape)}}")
        continue
    error = (given.double() - expected).abs() / (atol + rtol * expected.abs())
    at = tuple(map(int, torch.unravel_index(error.nan_to_num(nan=float("inf")).argmax(), error.shape)))
    over = int((~(error <= 1)).sum())
    print(f"{{name}}{{list(at)}}: expected {{expected[at]:.6g}}, given {{given[at]:.6g}}, error ratio "
          f"{{error[at]:.3g}}; {{over}} of {{error.numel()}} over atol {{atol:g}} + rtol {{rtol:g}} |expected|")
'''


def write_call(folder: Path, title: str, call: Mapping[str, Any]) -> Path:
    """Write `call` and the script that shows its worst element; the script's path.

    call: `expected`, `given` and `tolerances` by name, `inputs`, `weights` and more; tensors of any device.
    """
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(_on_cpu({"title": title, **call}), folder / CALL)
    script = folder / SCRIPT
    plain = title.replace("\\", "/").replace('"', "'")
    script.write_text(_TEXT.format(title=plain, script=SCRIPT, call=CALL), encoding="utf-8", errors="backslashreplace")
    return script


def _on_cpu(value: Any) -> Any:
    """The same with every tensor on the CPU in memory of its own size; what is no plain data as text."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, Mapping):
        return {str(key): _on_cpu(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_on_cpu(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
