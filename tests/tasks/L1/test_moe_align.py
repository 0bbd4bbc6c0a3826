"""moe_align against lists in Python, its canonical form, kernels in the interpreter and compiled, and wrong kernels."""

import pytest
import torch
from suite import exhaustive

from fastkernels.tasks.baseline.L1 import moe_align
from fastkernels.tasks.baseline.L1.moe_align import MoeAlignBlockSize, blocks_at_most, count_kernel, moe_align_kernel


def expected(ids, block_size, experts):
    """(rows, experts of blocks, padded count) of the blocks in use, from lists."""
    flat, rows, owners = ids.flatten().tolist(), [], []
    for expert in range(experts):
        mine = [place for place, chosen in enumerate(flat) if chosen == expert]
        mine += [len(flat)] * (-len(mine) % block_size)
        rows += mine
        owners += [expert] * (len(mine) // block_size)
    return rows, owners, len(rows)


def check(outputs, ids, block_size, experts):
    rows, owners, padded = outputs
    want_rows, want_owners, want_padded = expected(ids, block_size, experts)
    assert {x.dtype for x in outputs} == {torch.int32}
    assert padded.tolist() == [want_padded], f"{padded.tolist()} is not {[want_padded]}"
    assert rows.numel() == owners.numel() * block_size >= want_padded
    assert rows[:want_padded].tolist() == want_rows, "rows differ"
    assert owners[: len(want_owners)].tolist() == want_owners, "experts differ"


def routed(tokens, experts, top_k, skewed=False):
    """Different experts for each token; skewed: all tokens choose among the first top_k + 1."""
    open_to = min(experts, top_k + 1) if skewed else experts
    return torch.stack([torch.randperm(open_to)[:top_k] for _ in range(tokens)]).to(torch.int32)


CASES = [(1, 8, 2), (3, 60, 4), (17, 128, 8), (17, 256, 8), (5, 1, 1), (40, 8, 2)]


@pytest.mark.parametrize("skewed", [False, True])
@pytest.mark.parametrize("block_size", [1, 16, 24])
@pytest.mark.parametrize(("tokens", "experts", "top_k"), CASES)
def test_native_orders_rows_by_expert(tokens, experts, top_k, block_size, skewed):
    ids = routed(tokens, experts, top_k, skewed)
    rows, owners, padded = outputs = MoeAlignBlockSize(experts)(ids, block_size)
    check(outputs, ids, block_size, experts)
    assert (rows[padded:] == ids.numel()).all()
    assert (owners[padded // block_size :] == -1).all()


def test_no_tokens():
    rows, owners, padded = MoeAlignBlockSize(8)(torch.zeros(0, 2, dtype=torch.int32), 16)
    assert (rows.numel(), owners.numel(), padded.tolist()) == (0, 0, [0])


@pytest.mark.parametrize(("choices", "experts", "size"), [(5, 8, 4), (9, 8, 4), (24, 2, 7), (8, 8, 16), (100, 3, 1)])
def test_blocks_at_most_is_the_most_that_any_routing_needs(choices, experts, size):
    def most(left, kinds):
        """Largest sum of ceil(count / size) over the ways to give `left` choices to `kinds` experts."""
        if kinds == 1:
            return -(-left // size)
        return max(-(-count // size) + most(left - count, kinds - 1) for count in range(left + 1))

    if experts <= 3:
        assert blocks_at_most(choices, experts, size) == most(choices, experts)
    for _ in range(20):
        ids = torch.randint(0, experts, (choices, 1))
        assert expected(ids, size, experts)[2] <= blocks_at_most(choices, experts, size) * size


@pytest.mark.parametrize(
    ("block_size", "skewed"), [(16, False), (24, True), *exhaustive((1, False), (1, True), (16, True), (24, False))]
)
@pytest.mark.parametrize(("tokens", "experts", "top_k"), CASES)
def test_kernel_in_the_interpreter(interpreter, tokens, experts, top_k, block_size, skewed):
    ids = routed(tokens, experts, top_k, skewed)
    inputs = {"topk_ids": ids, "block_size": block_size}
    outputs, _ = interpreter(MoeAlignBlockSize(experts), {"num_experts": experts}, inputs)
    check(outputs, ids, block_size, experts)
    want = MoeAlignBlockSize(experts).canonical(MoeAlignBlockSize(experts)(ids, block_size), inputs)
    for got, due in zip(MoeAlignBlockSize(experts).canonical(outputs, inputs), want, strict=True):
        assert torch.equal(got, due)


@pytest.mark.parametrize(("tokens", "experts", "top_k"), [(40, 8, 2), (17, 60, 4), *exhaustive((67, 128, 8))])
def test_kernels_that_count_first_in_the_interpreter(interpreter, tokens, experts, top_k):
    ids = routed(tokens, experts, top_k).to(torch.int64)
    inputs = {"topk_ids": ids, "block_size": 16}
    outputs, _ = interpreter(
        MoeAlignBlockSize(experts), {"num_experts": experts}, inputs, settings={"COUNT_CHUNK": 32}
    )
    check(outputs, ids, 16, experts)


MUTATIONS = [
    ("expert < mine", "expert <= mine"),
    ("(counts + SIZE - 1) // SIZE", "counts // SIZE + 1"),
    ("last >= my_count", "last > my_count"),
    ("place_base += tl.sum", "place_base + tl.sum"),
    ("first_block + block, mine", "first_block + block, mine + 1"),
    ("mask=hit)", "mask=hit & (at > 0))"),
    ("tl.store(padded_ptr, tl.sum(blocks) * SIZE)", "tl.store(padded_ptr, choices)"),
]


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_wrong_kernel_is_found_by_its_canonical_form(interpreter, mutation):
    op, ids = MoeAlignBlockSize(8), torch.cat((torch.zeros(16, 1), torch.arange(37)[:, None] % 7)).to(torch.int32)
    inputs = {"topk_ids": ids, "block_size": 16}
    outputs, _ = interpreter(
        op, {"num_experts": 8}, inputs, replace=(mutation,), settings={"COUNT_CHUNK": 8}
    )
    with pytest.raises(AssertionError, match=r"differ|is not"):
        check(outputs, ids, 16, 8)
    pairs = zip(op.canonical(outputs, inputs), op.canonical(op(ids, 16), inputs), strict=True)
    assert not all(torch.equal(got, due) for got, due in pairs)


def alike(op, outputs, ids, block_size):
    """Whether the canonical form takes these outputs for right."""
    inputs = {"topk_ids": ids, "block_size": block_size}
    kept = [x.clone() for x in outputs]
    due = op.canonical(op(ids, block_size), inputs)
    same = all(torch.equal(got, want) for got, want in zip(op.canonical(outputs, inputs), due, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(outputs, kept, strict=True)), "canonical changed its input"
    return same


def test_any_order_within_an_expert_and_of_blocks_is_right():
    op, ids = MoeAlignBlockSize(6), routed(33, 5, 2)
    rows, owners, padded = op(ids, 8)
    used = int(padded) // 8
    shuffled = rows.clone()
    for expert in owners[:used].unique():
        places = (owners.repeat_interleave(8) == expert).nonzero().flatten()
        shuffled[places] = rows[places[torch.randperm(places.numel())]]
    assert alike(op, (shuffled, owners, padded), ids, 8)
    order = torch.randperm(used)
    blocks, names = shuffled.view(-1, 8).clone(), owners.clone()
    blocks[:used], names[:used] = blocks[order], names[order]
    assert alike(op, (blocks.flatten(), names, padded), ids, 8)
    assert rows.numel() > padded
    rows[padded:], owners[used:] = -77, 1234
    assert alike(op, (rows, owners, padded), ids, 8)


def test_no_wrong_answer_is_taken_for_right():
    op, ids = MoeAlignBlockSize(6), routed(33, 5, 2)
    rows, owners, padded = op(ids, 8)
    first_of_last = int((owners == 4).nonzero()[0]) * 8
    wrong = []
    for place, value in [(0, int(rows[first_of_last])), (0, 66), (1, int(rows[0])), (0, -1), (0, 67)]:
        changed = rows.clone()
        changed[place] = value
        wrong.append((changed, owners, padded))
    exchanged = rows.clone()
    exchanged[0], exchanged[first_of_last] = rows[first_of_last], rows[0]
    wrong += [(exchanged, owners, padded), (rows, owners, padded + 8), (rows, owners, padded - 8)]
    wrong += [(rows, owners.roll(1), padded), (rows, torch.where(owners == 0, 5, owners), padded)]
    for outputs in wrong:
        assert not alike(op, outputs, ids, 8)


def test_kernels_compile_for_hopper(compile_for_hopper):
    names = ("ids_ptr", "counts_ptr", "sorted_ptr", "expert_ids_ptr", "padded_ptr")
    types = dict.fromkeys(names, "*i32") | {"choices": "i32", "chunks": "i32"}
    for counted, chunk in ((False, 2048), (True, 8192)):
        constants = {"SIZE": 64, "SIZE_BLOCK": 64, "EXPERTS_BLOCK": 256, "CHUNK": chunk, "COUNTED": counted}
        assert "__local_depot" not in compile_for_hopper(moe_align_kernel, types, constants, num_warps=8).ptx
    types = {name: types[name] for name in ("ids_ptr", "counts_ptr", "choices")}
    compiled = compile_for_hopper(count_kernel, types, {"EXPERTS_BLOCK": 256, "CHUNK": 2048}, num_warps=8)
    assert "__local_depot" not in compiled.ptx


def test_operator_for_torch_compile_takes_varying_token_counts(monkeypatch):
    op = MoeAlignBlockSize(8)

    class Native:
        """Takes the place of both kernels."""

        def __getitem__(self, grid):
            return self.launch

        def launch(self, ids, counts, *given, SIZE=None, **options):
            if SIZE is not None:
                for out, value in zip(given[:3], op.forward_native(ids, SIZE), strict=True):
                    out.copy_(value)

    monkeypatch.setattr(moe_align, "count_kernel", Native())
    monkeypatch.setattr(moe_align, "moe_align_kernel", Native())
    called = []

    def backend(graph, inputs):
        called.append([str(node.target) for node in graph.graph.nodes if node.op == "call_function"])
        return graph.forward

    compiled = torch.compile(op.forward_cuda, fullgraph=True, backend=backend)
    for tokens in (3, 17, 2000):
        ids = routed(tokens, 8, 2)
        check(compiled(ids, 16), ids, 16, 8)
    assert called
    assert all("fastkernels" in names[0] for names in called), "the kernels' launch is traced"


def test_work():
    op, ids = MoeAlignBlockSize(8), routed(9, 8, 2)
    work = op.work({"topk_ids": ids, "block_size": 16}, op(ids, 16))
    assert (work.bytes, work.flops) == (4 * (18 + 1 + 18 + 2), 18)


@pytest.mark.gpu
@pytest.mark.parametrize(("experts", "top_k"), [(8, 2), (128, 8), (60, 4), (256, 8), (32, 4)])
@pytest.mark.parametrize("tokens", [1, 3, 17, 128, 300, 4096])
def test_cuda_agrees(tokens, experts, top_k):
    ids = torch.rand(tokens, experts).topk(top_k).indices.to(torch.int32)
    for block_size in (16, 128):
        outputs = MoeAlignBlockSize(experts)(ids.cuda(), block_size)
        check(tuple(x.cpu() for x in outputs), ids, block_size, experts)


@pytest.mark.gpu
@pytest.mark.parametrize("tokens", [33, 1000])
def test_cuda_under_torch_compile_and_graph_capture(tokens):
    op = MoeAlignBlockSize(128)
    ids = torch.rand(tokens, 128, device="cuda").topk(8).indices.to(torch.int32)
    check(tuple(x.cpu() for x in torch.compile(op, fullgraph=True, dynamic=False)(ids, 16)), ids.cpu(), 16, 128)
    graph = torch.cuda.CUDAGraph()
    op(ids, 16)
    with torch.cuda.graph(graph):
        outputs = op(ids, 16)
    ids.fill_(5)
    graph.replay()
    check(tuple(x.cpu() for x in outputs), ids.cpu(), 16, 128)
