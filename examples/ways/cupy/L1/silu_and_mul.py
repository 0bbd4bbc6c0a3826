"""silu_and_mul as a cupy.RawKernel, launched on torch's current stream."""

import cupy
import torch
from torch import nn

KERNEL = cupy.RawKernel(r"""
// bfloat16 is the upper half of a float; cupy's compiler has no header for it
__device__ float widened(unsigned short half) { return __uint_as_float(static_cast<unsigned>(half) << 16); }

__device__ unsigned short rounded(float value) {
    const unsigned bits = __float_as_uint(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fc0;  // NaN stays one
    return (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;    // to the nearest, ties to even
}

extern "C" __global__ void silu_and_mul(const unsigned short* x, unsigned short* out, int width) {
    const unsigned short* gate = x + static_cast<long long>(blockIdx.x) * 2 * width;
    unsigned short* row = out + static_cast<long long>(blockIdx.x) * width;
    for (int i = blockIdx.y * blockDim.x + threadIdx.x; i < width; i += gridDim.y * blockDim.x) {
        const float g = widened(gate[i]);
        row[i] = rounded(g / (1.0f + expf(-g)) * widened(gate[width + i]));
    }
}
""", "silu_and_mul")


class SiluAndMul(nn.Module):
    """silu(x[..., :D]) * x[..., D:], in float32 inside. x: [..., 2 * D] bfloat16 -> [..., D], in new memory."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Activate the rows."""
        x, width = x.contiguous(), x.shape[-1] // 2
        out = torch.empty((*x.shape[:-1], width), dtype=x.dtype, device=x.device)
        grid = (out.numel() // width, -(-width // 1024))
        with cupy.cuda.ExternalStream(torch.cuda.current_stream(x.device).cuda_stream):
            KERNEL(grid, (256,), (x.data_ptr(), out.data_ptr(), cupy.int32(width)))
        return out
