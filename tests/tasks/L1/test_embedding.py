"""embedding against a one-hot product, its kernel in the interpreter and compiled, and its count of work."""

import pytest
import torch

from fastkernels.tasks.baseline.L1.embedding import Embedding, embedding_kernel


def embedding(rows, width, dtype=torch.float32):
    return Embedding(rows, width, dtype).requires_grad_(False)


def expected(op, ids):
    one_hot = torch.nn.functional.one_hot(ids.long(), op.num_embeddings).double()
    return (one_hot @ op.weight.double()).to(op.weight.dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(1,), (3,), (2, 5)])
@pytest.mark.parametrize("index", [torch.int32, torch.int64])
def test_native_looks_rows_up(dtype, shape, index):
    op, ids = embedding(20, 33, dtype), torch.randint(20, shape).to(index)
    assert torch.equal(op(ids), expected(op, ids))


def test_the_row_beside_is_another_result():
    op, ids = embedding(20, 33), torch.randint(19, (3,))
    assert not torch.equal(op(ids + 1), expected(op, ids))


@pytest.mark.parametrize(("width", "dtype"), [(33, torch.float32), (4096, torch.bfloat16), (3584, torch.float16)])
@pytest.mark.parametrize("index", [torch.int32, torch.int64])
def test_kernel_in_the_interpreter(interpreter, width, dtype, index):
    op, ids = embedding(50, width, dtype), torch.randint(50, (1, 5)).to(index)
    init = {"num_embeddings": 50, "embedding_dim": width, "dtype": dtype}
    output, _ = interpreter(op, init, {"input_ids": ids})
    assert torch.equal(output, expected(op, ids))


@pytest.mark.parametrize("mutation", [("col < WIDTH", "col < WIDTH - 1"), ("row * WIDTH", "(row + 1) * WIDTH")])
def test_a_wrong_kernel_is_found(interpreter, mutation):
    op, ids = embedding(50, 33), torch.randint(49, (5,))
    init = {"num_embeddings": 50, "embedding_dim": 33}
    output, _ = interpreter(op, init, {"input_ids": ids}, replace=(mutation,))
    assert not torch.equal(output, expected(op, ids))


def test_work_counts_each_different_row_once():
    op, ids = embedding(20, 32), torch.tensor([3, 3, 4])
    assert op.work({"input_ids": ids}, (op(ids),)).bytes == 3 * 8 + 3 * 32 * 4 + 2 * 32 * 4


def test_kernel_compiles_for_hopper_with_16_byte_accesses(compile_for_hopper):
    types = {"ids_ptr": "*i64", "weight_ptr": "*bf16", "out_ptr": "*bf16"}
    ptx = compile_for_hopper(embedding_kernel, types, {"WIDTH": 4096, "BLOCK": 2048}, num_warps=4).ptx
    assert "ld.global.v4.b32" in ptx
    assert "st.global.v4.b32" in ptx


@pytest.mark.gpu
@pytest.mark.parametrize(("rows", "width"), [(128256, 4096), (1000, 33), (128256, 16384)])
@pytest.mark.parametrize("tokens", [1, 513])
def test_cuda_agrees(rows, width, tokens):
    with torch.device("cuda"):
        op, ids = embedding(rows, width, torch.bfloat16), torch.randint(rows, (tokens,))
        ids[-1] = rows - 1  # the last element of the largest table lies past 2^31 bytes
        assert torch.equal(op(ids), op.weight[ids])
