"""silu_and_mul as CUDA in a string, built by load_inline; launched without a stream, so on CUDA's default stream."""

import torch
from torch import nn
from torch.utils.cpp_extension import load_inline

SOURCE = """
#include <cuda_bf16.h>

// One row a block along x; blocks along y share its columns.
__global__ void silu_and_mul_kernel(const __nv_bfloat16* x, __nv_bfloat16* out, int width) {
    const __nv_bfloat16* gate = x + int64_t(blockIdx.x) * 2 * width;
    const __nv_bfloat16* up = gate + width;
    __nv_bfloat16* row = out + int64_t(blockIdx.x) * width;
    for (int i = blockIdx.y * blockDim.x + threadIdx.x; i < width; i += gridDim.y * blockDim.x) {
        const float g = __bfloat162float(gate[i]);
        row[i] = __float2bfloat16(g / (1.0f + expf(-g)) * __bfloat162float(up[i]));
    }
}

torch::Tensor silu_and_mul(torch::Tensor x) {
    TORCH_CHECK(x.is_cuda() && x.is_contiguous() && x.scalar_type() == torch::kBFloat16, "bfloat16 rows on a GPU");
    const int width = x.size(-1) / 2;
    auto sizes = x.sizes().vec();
    sizes.back() = width;
    auto out = torch::empty(sizes, x.options());
    const dim3 grid(out.numel() / width, (width + 1023) / 1024);
    silu_and_mul_kernel<<<grid, 256>>>(
        reinterpret_cast<const __nv_bfloat16*>(x.data_ptr()), reinterpret_cast<__nv_bfloat16*>(out.data_ptr()), width);
    return out;
}
"""
extension = load_inline(name="example_silu_and_mul_inline", cpp_sources="torch::Tensor silu_and_mul(torch::Tensor x);",
                        cuda_sources=SOURCE, functions=["silu_and_mul"])


class SiluAndMul(nn.Module):
    """silu(x[..., :D]) * x[..., D:], in float32 inside. x: [..., 2 * D] bfloat16 -> [..., D], in new memory."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Activate the rows."""
        return extension.silu_and_mul(x.contiguous())
