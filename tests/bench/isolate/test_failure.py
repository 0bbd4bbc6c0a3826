"""Exceptions of a candidate as verdict, line and evidence."""

import re
import subprocess

import pytest
import torch
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from fastkernels.bench.isolate.failure import MAX_LINE, exception_line, failure
from fastkernels.results import Verdict


class UnreadableError(Exception):
    def __str__(self):
        raise RuntimeError("no")


def raised(make):
    try:
        make()
    except Exception as error:
        return failure(error, Verdict.FORWARD_ERROR, "forward")
    raise AssertionError("nothing was raised")


def test_the_evidence_begins_at_the_candidate_and_leaves_out_torch():
    class Broken(torch.nn.Module):
        def forward(self):
            return 1 / 0

    found = raised(Broken())
    assert found["verdict"] == "forward_error"
    assert found["message"] == "forward raised ZeroDivisionError: division by zero"
    assert "return 1 / 0" in found["evidence"]
    assert "_call_impl" not in found["evidence"]


def test_running_out_of_memory_is_told_apart():
    def fail():
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")

    def fail_by_type():
        raise MemoryError

    assert raised(fail)["verdict"] == raised(fail_by_type)["verdict"] == "out_of_memory"


def test_an_exception_that_cannot_be_read_and_one_without_end_are_told():
    def unreadable():
        raise UnreadableError

    def endless():
        raise ValueError("x" * 10**6)

    assert "UnreadableError" in raised(unreadable)["message"]
    assert len(raised(endless)["message"]) < MAX_LINE + 50
    assert len(raised(endless)["evidence"]) < 10_000


BUILD = """Error building extension 'silu_ext': [1/3] /usr/local/cuda/bin/nvcc -DTORCH_API_INCLUDE_EXTENSION_H -c \
/usr/lib/python3/torch/include -gencode=arch=compute_90,code=sm_90 -std=c++20 -c /tmp/x/silu.cu -o s.o
FAILED: s.o
/usr/local/cuda/bin/nvcc --generate-dependencies -DTORCH_API_INCLUDE_EXTENSION_H -Werror all-warnings -c /tmp/x/silu.cu
/tmp/x/silu.cu(7): warning #177-D: variable "j" was declared but never referenced
/tmp/x/silu.cu(12): error: identifier "foo" is undefined

1 error detected in the compilation of "/tmp/x/silu.cu".
ninja: build stopped: subcommand failed.
"""
GCC = """Error building extension 'bad_ext': [1/2] c++ -MMD -MF main.o.d -fPIC -c /tmp/ext/bad_ext/main.cpp -o main.o
FAILED: main.o
c++ -MMD -MF main.o.d -fPIC -std=c++20 -c /tmp/ext/bad_ext/main.cpp -o main.o
/tmp/ext/bad_ext/main.cpp: In function 'at::Tensor f(at::Tensor)':
/tmp/ext/bad_ext/main.cpp:2:43: error: 'foo' was not declared in this scope
    2 | torch::Tensor f(torch::Tensor x) { return foo(x); }
"""
INDUCTOR = """CppCompileError: C++ compile error

Command:
g++ /tmp/torchinductor_u/a/cabc.main.cpp -D TORCH_INDUCTOR_CPP_WRAPPER -fPIC

Output:
/tmp/torchinductor_u/a/cabc.main.cpp: In function 'void kernel(float*)':
/tmp/torchinductor_u/a/cabc.main.cpp:10:3: error: 'foo' was not declared in this scope
"""
SUBPROCESS = """backend='inductor' raised:
SubprocException: An exception occurred in a subprocess:

Traceback (most recent call last):
  File "/usr/lib/python3/torch/_inductor/compile_worker/subproc_pool.py", line 358, in do_job
triton.compiler.errors.CompilationError: at 6:8:
def triton_(in_ptr0, out_ptr0, xnumel, XBLOCK : tl.constexpr):
    x0 = xindex
        ^
NameError('xindex is not defined')

Set TORCHDYNAMO_VERBOSE=1 for the internal stack trace
"""
PTXAS = """Internal Triton PTX codegen error
`ptxas` stderr:
ptxas /tmp/tmpabc.ptx, line 41; error   : Instruction 'cp.async.bulk' requires .target sm_90 or higher
ptxas fatal   : Ptx assembly aborted due to errors
"""


@pytest.mark.parametrize(("text", "line"), [
    (BUILD, "RuntimeError: Error building extension 'silu_ext': "
            'silu.cu(12): error: identifier "foo" is undefined'),
    (GCC, "RuntimeError: Error building extension 'bad_ext': "
          "main.cpp:2:43: error: 'foo' was not declared in this scope"),
    (INDUCTOR, "RuntimeError: CppCompileError: C++ compile error: "
               "cabc.main.cpp:10:3: error: 'foo' was not declared in this scope"),
    (SUBPROCESS, "RuntimeError: backend='inductor' raised: SubprocException: An exception occurred in a subprocess: "
                 "at 6:8: NameError('xindex is not defined')"),
    (PTXAS, "RuntimeError: Internal Triton PTX codegen error: ptxas /tmp/tmpabc.ptx, line 41; error   : Instruction "
            "'cp.async.bulk' requires .target sm_90 or higher"),
    ("/usr/bin/ld: cannot find -lcublasLt\ncollect2: error: ld returned 1",
     "RuntimeError: /usr/bin/ld: cannot find -lcublasLt"),
    ("out of resource: shared memory, Required: 300000\nReducing block sizes may help",
     "RuntimeError: out of resource: shared memory, Required: 300000"),
    ("CUDA error: an illegal memory access was encountered\nCompile with `TORCH_USE_CUDA_DSA`",
     "RuntimeError: CUDA error: an illegal memory access was encountered"),
], ids=["nvcc", "gcc", "inductor", "inductor's worker", "ptxas", "linker", "no compiler", "cuda"])
def test_a_compilers_first_error_is_in_the_message(text, line):
    assert exception_line(RuntimeError(text)) == line


def test_what_a_failed_program_printed_is_looked_through():
    error = subprocess.CalledProcessError(1, ["nvcc"], stderr=b"a.cu(3): error: expected a \";\"\n1 error detected")
    assert exception_line(error).endswith(': a.cu(3): error: expected a ";"')
    outer = RuntimeError("the kernel could not be built")
    outer.__cause__ = error
    assert exception_line(outer) == 'RuntimeError: the kernel could not be built: a.cu(3): error: expected a ";"'


@triton.jit
def lacks_a_name(x):
    return x + missing  # noqa: F821


@triton.jit
def asks_for_what_is_not(pointer, n: tl.constexpr):
    offsets = tl.arange(0, n)
    tl.store(pointer + offsets, tl.dot(offsets, offsets))


@triton.jit
def calls_what_lacks_a_name(pointer, n: tl.constexpr):
    offsets = tl.arange(0, n)
    tl.store(pointer + offsets, lacks_a_name(offsets))


@pytest.mark.parametrize(("kernel", "line"), [
    (asks_for_what_is_not, r"CompilationError: at \d+:\d+: .*(rank|2D).*"),
    (calls_what_lacks_a_name, r"CompilationError: at \d+:15: NameError\('missing is not defined'\)"),
], ids=["in the kernel", "in what it calls"])
def test_tritons_error_is_in_the_message(kernel, line):
    with pytest.raises(triton.CompilationError) as caught:
        triton.compile(ASTSource(kernel, {"pointer": "*fp32"}, {(1,): 16}), target=GPUTarget("cuda", 90, 32))
    assert re.fullmatch(line, exception_line(caught.value))
