"""Runs `forward_cuda` on CPU tensors in Triton's interpreter; needs TRITON_INTERPRET=1, speaks over stdin and stdout.

A request and an answer are a length in 8 bytes and a torch.save payload. `replace` edits the source first, so that a
test can see what a wrong kernel does.
"""

import importlib.util
import io
import sys
import tempfile
import traceback
from pathlib import Path

import torch


def receive(stream):
    header = stream.read(8)
    if len(header) < 8:
        return None
    return torch.load(io.BytesIO(stream.read(int.from_bytes(header, "big"))), weights_only=False)


def send(stream, payload):
    buffer = io.BytesIO()
    torch.save(payload, buffer)
    stream.write(len(buffer.getvalue()).to_bytes(8, "big") + buffer.getvalue())
    stream.flush()


def load(source, replace, folder):
    text = Path(source).read_text()
    for old, new in replace:
        if old not in text:
            raise AssertionError(f"{source} does not hold {old!r}")
        text = text.replace(old, new)
    path = Path(tempfile.mkstemp(dir=folder, suffix=".py")[1])
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def nan_memory(*args, **kwargs):
    """Fresh memory is full of NaN (integers: -7), so that an element that no program writes shows."""
    tensor = EMPTY(*args, **kwargs)
    return tensor.fill_(float("nan") if tensor.is_floating_point() else -7)


def nan_like(tensor, **kwargs):
    return nan_memory(tensor.shape, dtype=kwargs.get("dtype", tensor.dtype))


EMPTY = torch.empty


def answer(request, folder):
    module = load(request["source"], request["replace"], folder)
    for name, value in request["settings"].items():
        if not hasattr(module, name):
            raise AssertionError(f"{request['source']} has no {name}")
        setattr(module, name, value)
    op = getattr(module, request["class"])(**request["init"])
    op.load_state_dict(request["state"])
    torch.empty, torch.empty_like = nan_memory, nan_like
    try:
        outputs = op.forward_cuda(**request["inputs"])
    finally:
        torch.empty, torch.empty_like = EMPTY, EMPTY_LIKE
    return outputs, request["inputs"]


EMPTY_LIKE = torch.empty_like


def main():
    torch.set_num_threads(1)
    stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr
    with torch.inference_mode(), tempfile.TemporaryDirectory() as folder:
        while (request := receive(stdin)) is not None:
            try:
                send(stdout, ("done", answer(request, folder)))
            except Exception:
                send(stdout, ("error", traceback.format_exc()))


if __name__ == "__main__":
    main()
