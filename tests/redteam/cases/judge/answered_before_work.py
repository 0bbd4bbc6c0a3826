"""Answers a call at once and computes while the judge is busy with its own reference.

seen: first here
target: L1/rms_norm
expect: wrong_values, wrong_scale, timing_tampered, too_fast, nondeterministic, no_result
twin: own_clock
"""

import sys

import torch
from torch import nn

from fastkernels.bench.isolate.candidate_worker import CandidateService
from fastkernels.bench.isolate.protocol import send as real_send
from fastkernels.bench.isolate.slots import plan_slots

worker = sys.modules["__main__"]
called, measured = CandidateService.on_call, CandidateService.on_measure
batched = getattr(CandidateService, "on_batch", None)
SENT = []
CLAIMED = 0.5


def frame_of(name):
    frame = sys._getframe()
    while frame.f_code.co_name != name:
        frame = frame.f_back
    return frame.f_locals


def tree(x):
    return {"kind": "tensor", "leaf": 0, "device": str(x.device)}


def answer(self, slots, rest):
    """Send an answer that names these slots of the outputs' memory; False where they do not fit."""
    loop, end = frame_of("serve"), slots[-1].offset + slots[-1].extent_bytes + 2048
    if end > self.outputs._memory.view.numel():
        return False
    plain = [slot.to_dict() for slot in slots]
    real_send(loop["sock"], {"id": loop["number"], "slots": plain, "bytes": end, "ran_s": 1e-6, **rest})
    SENT.append(loop["number"])
    return True


def on_call(self, message):
    """Say that all is done, then do it: the judge makes its reference before it looks at the output."""
    self.follow(message)
    x = self.read_inputs(message)["x"]
    slots = plan_slots({"0": x}, contiguous=True)
    if "set" not in message:
        answer(self, slots, {"tree": tree(x), "aliases": [], "weights_changed": [],
                             "shapes": [[list(slots[0].shape), slots[0].dtype]]})
    return called(self, message)


def on_batch(self, message):
    """The same for a batch, where each output is put into its place as soon as it is there."""
    self.follow(message)
    batch = [self.read_inputs({"inputs": inputs}) for inputs in message["batch"]]
    slots = plan_slots({f"{number}/0": inputs["x"] for number, inputs in enumerate(batch)}, contiguous=True)
    if not answer(self, slots, {"trees": [tree(inputs["x"]) for inputs in batch]}):
        return batched(self, message)
    with torch.inference_mode():
        for slot, inputs in zip(slots, batch, strict=True):
            self.outputs.tensor(slot).copy_(self._module(**inputs))
    return {}


def on_measure(self, message):
    """Claim half of what calls take."""
    answer = measured(self, message)
    answer["samples_s"] = [sample * CLAIMED for sample in answer.get("samples_s", [])]
    return answer


def send(sock, message, *rest):
    if message.get("id") not in SENT:
        real_send(sock, message, *rest)


CandidateService.on_call, CandidateService.on_measure, worker.send = on_call, on_measure, send
CandidateService.on_batch = on_batch


def norm(x, weight, eps):
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps) * weight.float()).to(x.dtype)


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))
        self.eps = eps

    def forward(self, x, residual=None):
        return norm(x, self.weight, self.eps)
