"""A partial sum is read from shared memory that the kernel clears first.

target: L1/rms_norm
needs: cuda
options: --fk-no-timing
"""

import ctypes

import torch
from torch import nn

WORDS = 4096
PTX = """
.version 6.3
.target sm_75
.address_size 64

.visible .entry look(.param .u64 flag)
{
    .reg .pred %empty, %past;
    .reg .b32 %at, %place, %base, %word, %step;
    .reg .b64 %flag;
    .shared .align 16 .b8 pool[16384];
    ld.param.u64 %flag, [flag];
    cvta.to.global.u64 %flag, %flag;
    mov.u32 %at, %tid.x;
    mov.u32 %step, %ntid.x;
    mov.u32 %base, pool;
NEXT:
    shl.b32 %place, %at, 2;
    add.u32 %place, %place, %base;
    st.volatile.shared.u32 [%place], 0;
    ld.volatile.shared.u32 %word, [%place];
    setp.eq.u32 %empty, %word, 0;
    @!%empty st.global.u32 [%flag], 1;
    add.u32 %at, %at, %step;
    setp.lt.u32 %past, %at, 4096;
    @%past bra NEXT;
    ret;
}
"""


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))
        self.eps = eps
        self._driver, self._function = ctypes.CDLL("libcuda.so.1"), None

    def forward(self, x, residual=None):
        flag = torch.zeros(1, dtype=torch.int32, device=x.device)
        self._look(flag, 256)
        wide = x.float()
        output = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight.float()
        return (output + flag).to(x.dtype)

    def _look(self, flag, blocks):
        """Set the flag where shared memory holds anything but zeros."""
        if self._function is None:
            module, self._function = ctypes.c_void_p(), ctypes.c_void_p()
            self._check(self._driver.cuModuleLoadData(ctypes.byref(module), ctypes.c_char_p(PTX.encode())))
            self._check(self._driver.cuModuleGetFunction(ctypes.byref(self._function), module, b"look"))
        place = ctypes.c_uint64(flag.data_ptr())
        arguments = (ctypes.c_void_p * 1)(ctypes.addressof(place))
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        shape = map(ctypes.c_uint, (blocks, 1, 1, 256, 1, 1, 0))
        self._check(self._driver.cuLaunchKernel(self._function, *shape, stream, arguments, None))

    def _check(self, status):
        if status:
            raise RuntimeError(f"the driver says {status}")
