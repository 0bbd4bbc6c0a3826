"""Ranks on GPUs, as far as a CPU can show it: devices, backend, environment and what the sandbox leaves open."""

import gc
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from fastkernels.bench.isolate import arena, landlock, namespaces, rank_baseline, rank_peers, sandbox, worker
from fastkernels.bench.isolate.files import ARENAS
from fastkernels.bench.isolate.rank_baseline import GroupBaseline, KnownParts
from fastkernels.bench.isolate.rank_peers import Peers
from fastkernels.bench.isolate.sandbox import Sandbox, among_ranks
from fastkernels.bench.isolate.tree import rebuild


class FakeGroup:
    """A group of two ranks whose sums are what the test says."""

    size, sum = 2, 2.0

    def all_reduce(self, x):
        return x * self.sum


@pytest.fixture
def joined(monkeypatch):
    """Has a rank join without any peers; gives what torch.distributed was asked for."""
    asked, ones = {}, torch.ones

    def start(backend, **options):
        asked.update(options, backend=backend, environment=dict(rank_peers.os.environ))

    def ones_on(count, device):
        asked["exchanged on"] = device
        return ones(count)

    monkeypatch.setattr(rank_peers, "os", SimpleNamespace(environ={"NCCL_NVLS_ENABLE": "1"}))
    monkeypatch.setattr(rank_peers.dist, "TCPStore", lambda *place, **_: place)
    monkeypatch.setattr(rank_peers.dist, "init_process_group", start)
    monkeypatch.setattr(rank_peers, "ProcessGroup", FakeGroup)
    monkeypatch.setattr(torch, "ones", ones_on)
    return asked


def test_gpus_are_joined_by_nccl_over_loopback_alone(joined):
    device = torch.device("cuda:1")
    assert isinstance(Peers().join(1, 2, 1234, device), FakeGroup)
    assert (joined["backend"], joined["device_id"], joined["exchanged on"]) == ("nccl", device, device)
    assert (joined["rank"], joined["world_size"], joined["store"]) == (1, 2, ("127.0.0.1", 1234, 2))
    assert joined["environment"] == {
        "NCCL_SOCKET_IFNAME": "lo", "NCCL_IB_DISABLE": "1", "NCCL_RAS_ENABLE": "0", "NCCL_RUNTIME_CONNECT": "0",
        "NCCL_NVLS_ENABLE": "0", "TORCH_SYMM_MEM_DISABLE_MULTICAST": "1"}


def test_a_cpu_s_ranks_are_joined_by_gloo(joined):
    Peers().join(1, 2, 1234, torch.device("cpu"))
    assert (joined["backend"], joined["device_id"]) == ("gloo", None)
    assert joined["environment"] == {"GLOO_SOCKET_IFNAME": "lo", "NCCL_NVLS_ENABLE": "1"}


def test_ranks_that_do_not_exchange_have_not_joined(joined, monkeypatch):
    monkeypatch.setattr(FakeGroup, "sum", 1.0)
    with pytest.raises(RuntimeError, match="the sum of 1 over 2 ranks is 1"):
        Peers().join(1, 2, 1234, torch.device("cuda:1"))


def test_a_candidate_s_process_has_its_gpu_as_the_current_one_before_it_uses_cuda(monkeypatch):
    done = []

    def opened(device, fds):
        done.append(("opened", device))
        return fds

    monkeypatch.setattr(torch.cuda, "set_device", lambda device: done.append(("current", device)))
    monkeypatch.setattr(arena, "open_arenas", opened)
    monkeypatch.setattr(gc, "freeze", lambda: None)
    worker.open_service("candidate", "cuda:1", [0] * ARENAS)
    assert done == [("current", torch.device("cuda:1")), ("opened", torch.device("cuda:1"))]
    done.clear()
    worker.open_service("candidate", "cpu", [0] * ARENAS)
    assert done == [("opened", torch.device("cpu"))]


def test_the_judge_has_a_rank_s_gpu_as_the_current_one_while_it_serves_the_rank(monkeypatch):
    done = []

    @contextmanager
    def current(device):
        done.append(("enter", device.index))
        yield
        done.append(("leave", device.index))

    def opened(device, fds):
        done.append((device.index, fds))
        return fds

    monkeypatch.setattr(rank_baseline, "current", current)
    monkeypatch.setattr(rank_baseline, "open_arenas", opened)
    monkeypatch.setattr(rank_baseline.RankBaseline, "on_where", lambda self, _: {"at": (str(self.device), len(done))},
                        raising=False)
    group = GroupBaseline("cuda", list(range(2 * ARENAS)))
    assert done == [("enter", 0), (0, [0, 1, 2, 3]), ("leave", 0), ("enter", 1), (1, [4, 5, 6, 7]), ("leave", 1)]
    done.clear()
    assert group.handle({"do": "where", "rank": 1}) == {"at": ("cuda:1", 1)}
    assert done == [("enter", 1), ("leave", 1)]


def test_parts_of_another_dtype_are_rounded_before_they_are_summed():
    group = KnownParts(0, 2)
    group.parts = [torch.tensor([[1.0]]), torch.tensor([[2**-8 + 2**-17]])]
    x = torch.zeros(1, 1, dtype=torch.bfloat16)
    assert group.all_reduce(x) is x
    assert x.item() == 1.0, "the part is 2^-8 in bfloat16, half a step, and more in float32"
    gathered = group.all_gather(x)
    assert (gathered.dtype, gathered.tolist()) == (torch.bfloat16, [[1.0, 2**-8]])
    wide = torch.zeros(1, 1, dtype=torch.float64)
    group.parts = [part.bfloat16() for part in group.parts]
    assert group.all_reduce(wide).item() == 1.0 + 2**-8


@pytest.mark.parametrize("tcp", [True, False])
def test_ranks_on_cuda_may_use_tcp_and_no_one_else(monkeypatch, tcp):
    found = {}
    monkeypatch.setattr(namespaces, "enter_tree", lambda *_: None)
    monkeypatch.setattr(landlock, "restrict", lambda writable, **allowed: found.update(allowed, writable=writable))
    alone = Sandbox("auto", namespaces=False, landlock_abi=6, wants_namespaces=False)
    sandbox.confine(among_ranks(alone) if tcp else alone, "/scratch", 1, [], [])
    assert (found["tcp"], found["abstract_sockets"]) == (tcp, True)
    assert {"/scratch", "/dev/null"} <= set(found["writable"])
    assert not {"/dev", "/proc"} & set(found["writable"])
    assert ("/dev/shm" in found["writable"]) is tcp  # where NCCL's ranks meet
    assert replace(among_ranks(alone), tcp=False) == alone


def test_an_output_on_another_gpu_is_not_where_it_belongs():
    with FakeTensorMode():
        own = torch.empty(2, device="cuda:1")
        where = [rebuild({"kind": "tensor", "leaf": 0, "device": name}, [own], set()).device.type
                 for name in ("cuda:1", "cuda:0", "meta")]
    assert where == ["cuda", "meta", "meta"]
