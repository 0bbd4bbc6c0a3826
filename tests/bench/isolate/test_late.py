"""How long the device is kept busy while a call is queued whose inputs arrive late."""

import pytest
import torch

from fastkernels.bench.isolate.late import CYCLES_PER_S, arrive_late, busy_cycles


@pytest.mark.parametrize(("queued_s", "busy_s"), [(0.0, 2e-3), (5e-5, 2e-3), (1e-3, 4e-3), (2e-3, 8e-3), (1.0, 10e-3)])
def test_the_device_is_busy_while_a_call_is_queued(queued_s, busy_s):
    assert busy_cycles(queued_s) == pytest.approx(busy_s * CYCLES_PER_S)


def test_on_a_cpu_nothing_happens():
    x = torch.arange(4.0)
    assert arrive_late({"x": x}, torch.device("cpu"), 0.0) == {}
    assert x.tolist() == [0, 1, 2, 3]


@pytest.mark.gpu
def test_on_cuda_inputs_arrive_behind_what_the_stream_has_before():
    x = torch.arange(4.0, device="cuda")
    given = arrive_late({"x": x}, torch.device("cuda"), 1e-3)
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        early = x.clone()
    side.synchronize()
    assert early.tolist() == [3, 0, 1, 2]
    torch.cuda.synchronize()
    assert x.tolist() == [0, 1, 2, 3]
    del given
