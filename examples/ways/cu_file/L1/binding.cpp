// Gives silu.cu to Python: output in new memory, launched on torch's current stream.
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/extension.h>

void launch_silu_and_mul(const void* x, void* out, int64_t rows, int width, cudaStream_t stream);

torch::Tensor silu_and_mul(torch::Tensor x) {
    TORCH_CHECK(x.is_cuda() && x.is_contiguous() && x.scalar_type() == torch::kBFloat16, "bfloat16 rows on a GPU");
    auto sizes = x.sizes().vec();
    sizes.back() /= 2;
    auto out = torch::empty(sizes, x.options());
    const int64_t width = sizes.back();
    launch_silu_and_mul(x.data_ptr(), out.data_ptr(), out.numel() / width, width, c10::cuda::getCurrentCUDAStream());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    return out;
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) { m.def("silu_and_mul", &silu_and_mul); }
