"""What of the user's environment worker processes are given, and where libraries keep what they write; no torch.

Nothing else is passed on: a candidate must not find keys of services among its variables, nor in those of a trusted
worker, which a process of the same user can read on CUDA.
"""

import os
import re
import site
from collections.abc import Iterable, Mapping
from pathlib import Path

_NAMES = frozenset({
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "PWD", "LANG", "LANGUAGE", "TZ", "TERM", "TMPDIR",
    "NO_COLOR", "COLUMNS", "LINES", "VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "GLIBC_TUNABLES", "MAX_JOBS",
    "CC", "CXX", "CPP", "AR", "LD", "CFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS", "NVCCFLAGS", "CPATH",
    "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH", "LIBRARY_PATH", "COMPILER_PATH", "GCC_EXEC_PREFIX", "CUDAHOSTCXX",
    "HF_HOME", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "TOKENIZERS_PARALLELISM", "MPLBACKEND", "MPLCONFIGDIR"})
"""Variables that Python, compilers and libraries work by."""

_BEGINNINGS = (
    "FASTKERNELS_", "PYTHON", "LD_", "LC_", "XDG_", "CUDA", "NVIDIA_", "NVCC_", "NV_", "NCCL_", "GLOO_", "CUDNN_",
    "CUBLAS", "CUTLASS_", "CUTE_", "CUPTI_", "KINETO_", "TORCH", "PYTORCH_", "INDUCTOR_", "AOT_", "ATEN_", "C10_",
    "TRITON_", "PTXAS_", "LLVM_", "MLIR_", "DISABLE_MMA_", "OMP_", "KMP_", "GOMP_", "MKL_", "OPENBLAS_", "BLIS_",
    "ONEDNN_", "DNNL_", "MALLOC_", "NUMEXPR_", "NUMBA_", "CUPY_", "XLA_", "JAX_", "TVM_", "TILELANG_", "HELION_",
    "QUACK_", "DG_", "FLAGGEMS_", "FLASHINFER_", "FLASH_ATTENTION_", "VLLM_", "SGLANG_", "LIGER_", "XFORMERS_",
    "NINJA_", "CCACHE_", "CMAKE_")
"""Beginnings of further ones."""

_SECRET = re.compile(r"TOKEN(?!IZ)|KEY|SECRET|PASSW|PASSPHRASE|CREDENTIAL|COOKIE|(?:^|_)(?:AUTH|PAT|PWD)(?:_|$)")
"""In a name: what it holds is nobody's business, whatever the name begins with."""

_BUILDS = {
    "TRITON_CACHE_DIR": "triton", "TORCHINDUCTOR_CACHE_DIR": "inductor", "TORCH_EXTENSIONS_DIR": "extensions",
    "CUDA_CACHE_PATH": "cuda", "CUPY_CACHE_DIR": "cupy", "NUMBA_CACHE_DIR": "numba", "FLAGGEMS_CACHE_DIR": "flaggems",
    "TILELANG_CACHE_DIR": "tilelang", "TVM_CACHE_DIR": "tvm", "DG_JIT_CACHE_DIR": "deep_gemm",
    "QUACK_CACHE_DIR": "quack", "CUTE_DSL_CACHE_DIR": "cute", "HELION_CACHE_DIR": "helion", "CCACHE_DIR": "ccache"}
"""Variables that name where compiled code is kept, by folder; a user's own value names one that cannot be written."""

_CACHES = {
    "TRITON_HOME": "home", "FLASHINFER_WORKSPACE_BASE": "home", "TORCH_HOME": "home/.cache/torch",
    "HF_HOME": "home/.cache/huggingface", "MPLCONFIGDIR": "home/.config/matplotlib", "VLLM_CACHE_ROOT": "vllm_cache",
    "VLLM_CONFIG_ROOT": "vllm_config"}
"""The same for other things, below the scratch directory."""

_HOME = {"HOME": "home", "XDG_CACHE_HOME": "home/.cache", "XDG_CONFIG_HOME": "home/.config",
         "XDG_DATA_HOME": "home/.local/share", "XDG_STATE_HOME": "home/.local/state", "XDG_RUNTIME_DIR": "run"}
"""The same for those whose folders are there from the start."""


def allowed(environment: Mapping[str, str], named: Iterable[str] = ()) -> dict[str, str]:
    """The part of an environment that every worker may see, with what is asked for by name."""
    asked = frozenset(named)
    return {name: value for name, value in environment.items() if name in asked or _is_allowed(name)}


def looks_secret(name: str) -> bool:
    """Whether a variable's name says that it holds a key or the like."""
    return name != "PWD" and _SECRET.search(name.upper()) is not None


def scratch_environment(scratch: str, builds: str | None = None) -> dict[str, str]:
    """Variables that send what libraries write into the scratch directory; makes the home directory in it.

    builds: where what is compiled goes instead. Packages that lie below the user's own home stay importable:
    PYTHONUSERBASE names their place.
    """
    own = {name: os.path.join(scratch, folder) for name, folder in (_HOME | _CACHES).items()}
    own |= {name: os.path.join(builds or scratch, folder) for name, folder in _BUILDS.items()}
    for name in _HOME:
        Path(own[name]).mkdir(mode=0o700, parents=True, exist_ok=True)
    base = site.getuserbase()
    return {**own, "TMPDIR": scratch, **({"PYTHONUSERBASE": base} if os.path.isdir(base) else {})}


def _is_allowed(name: str) -> bool:
    return (name in _NAMES or name.startswith(_BEGINNINGS)) and not looks_secret(name)
