# mypy: ignore-errors
"""The trusted worker's own kernels: one compares outputs, one watches the device's clock."""

from fastkernels.runtime.jit import tl, triton

BLOCK = 4096
"""Elements that one program compares."""


@triton.jit
def _at(e, n1, n2, n3, s0, s1, s2, s3):
    """Offset of element e of a tensor of sizes [any, n1, n2, n3]."""
    i3, e = e % n3, e // n3
    i2, e = e % n2, e // n2
    return (e // n1) * s0 + (e % n1) * s1 + i2 * s2 + i3 * s3


@triton.jit
def compare(got, due, off, elements, relative, absolute, n1, n2, n3, g0, g1, g2, g3, d0, d1, d2, d3,
             BLOCK: tl.constexpr, LIKE: tl.constexpr, FLAT: tl.constexpr):
    """Elements of call program_id(0) that are outside, added to off[call]. got, due: addresses of each call's output.

    FLAT: both are dense in the same order; else element by element by their strides g and d.
    """
    call = tl.program_id(0)
    at = tl.program_id(1).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < elements
    in_got = at if FLAT else _at(at, n1, n2, n3, g0, g1, g2, g3)
    in_due = at if FLAT else _at(at, n1, n2, n3, d0, d1, d2, d3)
    x = tl.load(tl.load(got + call).to(tl.pointer_type(LIKE)) + in_got, mask=inside, other=0)
    y = tl.load(tl.load(due + call).to(tl.pointer_type(LIKE)) + in_due, mask=inside, other=0)
    if LIKE.is_int():
        wrong = x != y
    else:
        x, y = x.to(tl.float32), y.to(tl.float32)
        wrong = ~((tl.abs(x - y) <= relative * tl.abs(y) + absolute) | (x == y) | ((x != x) & (y != y)))
    count = tl.sum((wrong & inside).to(tl.int32))
    if count > 0:
        tl.atomic_add(off + call, count)


@triton.jit
def watch(out, duration):
    """out[0]: the longest time between two looks at the device's clock within `duration`, nanoseconds."""
    start = tl.inline_asm_elementwise("mov.u64 $0, %globaltimer;", "=l", [], dtype=tl.int64, is_pure=False, pack=1)
    last = start
    worst = start * 0
    while last - start < duration:
        now = tl.inline_asm_elementwise("mov.u64 $0, %globaltimer;", "=l", [], dtype=tl.int64, is_pure=False, pack=1)
        worst = tl.maximum(worst, now - last)
        last = now
    tl.store(out, worst)


def dtypes():
    """Triton's dtype by the name of torch's."""
    names = ("bfloat16", "float16", "float32", "float64", "int64", "int32", "int16", "int8", "uint8")
    return {f"torch.{name}": getattr(tl, name) for name in names} | {"torch.bool": tl.int8}
