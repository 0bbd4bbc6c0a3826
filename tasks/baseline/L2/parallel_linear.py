"""Linear layers that are sharded over the tensor parallel ranks by columns or by rows."""

from collections.abc import Sequence

import torch
from torch import nn

from fastkernels.runtime.parallel import divide, tp_group
from fastkernels.runtime.weights import set_weight_loader

from ..L1.allreduce import AllReduce
from ..L1.linear import Linear

QKV_PARTS = ("q", "k", "v")
Output = torch.Tensor | tuple[torch.Tensor, None]


class ReplicatedLinear(Linear):
    """y = x @ weight.T + bias, whole on every rank.

    x: [T, input_size] -> ([T, output_size], None), or the tensor alone without return_bias. vLLM's second result is the
    bias that it was told not to add (skip_bias_add); here it always is added.
    """

    def __init__(
        self, input_size: int, output_size: int, bias: bool = True, params_dtype: torch.dtype | None = None,
        prefix: str = "", *, return_bias: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(input_size, output_size, bias, params_dtype)
        self.prefix = prefix
        self.return_bias = return_bias

    def forward(self, x: torch.Tensor) -> Output:
        """One call of L1's linear."""
        y = super().forward(x)
        return (y, None) if self.return_bias else y


class ColumnParallelLinear(Linear):
    """y = x @ weight.T + bias; a rank holds an equal share of the rows of weight, that is, of the columns of y.

    x: [T, input_size] -> ([T, output_size / tp], None), with gather_output [T, output_size]; the tensor alone without
    return_bias.
    """

    def __init__(
        self, input_size: int, output_size: int, bias: bool = True, gather_output: bool = False,
        params_dtype: torch.dtype | None = None, prefix: str = "", *, return_bias: bool = True,
    ) -> None:  # fmt: skip
        self._build(input_size, [output_size], bias, gather_output, params_dtype, prefix, return_bias)

    def _build(
        self, input_size: int, output_sizes: Sequence[int], bias: bool, gather_output: bool,
        dtype: torch.dtype | None, prefix: str, return_bias: bool,
    ) -> None:  # fmt: skip
        """Build a layer whose output is several parts side by side, of which every rank holds an equal share."""
        group = tp_group()
        sizes = [divide(size, group.size, f"{prefix or type(self).__name__}: output size") for size in output_sizes]
        super().__init__(input_size, sum(sizes), bias, dtype)
        self.tp_group = group
        self.prefix = prefix
        self.output_sizes = list(output_sizes)
        self.gather_output = gather_output
        self.return_bias = return_bias
        for parameter in self.parameters(recurse=False):
            rest = tuple(parameter.shape[1:])
            set_weight_loader(
                parameter, self.weight_loader, lambda part=None, rest=rest: (sum(self._parts(part)), *rest)
            )

    def _parts(self, part: int | None) -> list[int]:
        """Size of one part in the checkpoint, of all of them without `part`."""
        return self.output_sizes if part is None else [self.output_sizes[part]]

    def weight_loader(self, parameter: nn.Parameter, tensor: torch.Tensor, part: int | None = None) -> None:
        """Copy this rank's rows of one part's weight or bias; without `part`, of all, one after the other."""
        if part is None:
            for place, rows in enumerate(tensor.split(self.output_sizes)):
                self.weight_loader(parameter, rows, place)
            return
        size = self.output_sizes[part] // self.tp_group.size
        start = sum(self.output_sizes[:part]) // self.tp_group.size
        parameter[start : start + size].copy_(tensor.narrow(0, self.tp_group.rank * size, size))

    def forward(self, x: torch.Tensor) -> Output:
        """One call of L1's linear; then the ranks' parts are joined where gather_output says so."""
        y = super().forward(x)
        if self.gather_output and self.tp_group.size > 1:
            y = self.tp_group.all_gather(y)
        return (y, None) if self.return_bias else y


class MergedColumnParallelLinear(ColumnParallelLinear):
    """Several column-parallel layers with one input as one product, such as gate and up projection.

    x: [T, input_size] -> ([T, sum(output_sizes) / tp], None); the parts lie side by side, each one this rank's share.
    The loader's shard is the part's place in output_sizes, and empty for checkpoints that hold the parts as one tensor.
    """

    def __init__(
        self, input_size: int, output_sizes: Sequence[int], bias: bool = True, gather_output: bool = False,
        params_dtype: torch.dtype | None = None, prefix: str = "", *, return_bias: bool = True,
    ) -> None:  # fmt: skip
        self._build(input_size, output_sizes, bias, gather_output, params_dtype, prefix, return_bias)


class QKVParallelLinear(Linear):
    """The projections of attention as one product; heads are shared out, key and value heads repeated where too few.

    x: [T, hidden_size] -> ([T, (heads + 2 * kv_heads) * head_size], None) of this rank's heads, in the order q, k, v.
    The loader's shard is "q", "k" or "v", and empty for checkpoints that hold the three as one tensor (Phi-3).
    """

    def __init__(
        self, hidden_size: int, head_size: int, total_num_heads: int, total_num_kv_heads: int | None = None,
        bias: bool = True, params_dtype: torch.dtype | None = None, prefix: str = "", *, return_bias: bool = True,
    ) -> None:  # fmt: skip
        group = tp_group()
        total_kv_heads = total_num_kv_heads or total_num_heads
        where = prefix or type(self).__name__
        heads = divide(total_num_heads, group.size, f"{where}: query heads")
        replicas = 1
        if group.size > total_kv_heads:
            replicas = divide(group.size, total_kv_heads, f"{where}: ranks for each key and value head")
        local_kv_heads = divide(total_kv_heads * replicas, group.size, f"{where}: key and value heads")
        super().__init__(hidden_size, (heads + 2 * local_kv_heads) * head_size, bias, params_dtype)
        self.tp_group = group
        self.prefix = prefix
        self.head_size = head_size
        self.total_num_heads = total_num_heads
        self.total_num_kv_heads = total_kv_heads
        self.num_heads = heads
        self.num_kv_heads = local_kv_heads
        self.num_kv_head_replicas = replicas
        self.return_bias = return_bias
        for parameter in self.parameters(recurse=False):
            rest = tuple(parameter.shape[1:])
            set_weight_loader(parameter, self.weight_loader, lambda part=None, rest=rest: (self._rows(part), *rest))

    def _rows(self, part: str | None) -> int:
        """Rows of one part in the checkpoint, of all three without `part`."""
        if part is None:
            return sum(self._rows(name) for name in QKV_PARTS)
        return (self.total_num_heads if part == "q" else self.total_num_kv_heads) * self.head_size

    def weight_loader(self, parameter: nn.Parameter, tensor: torch.Tensor, part: str | None = None) -> None:
        """Copy this rank's heads of one part's weight or bias; without `part`, of all three, one after the other."""
        if part is None:
            sizes = [self._rows(name) for name in QKV_PARTS]
            for name, rows in zip(QKV_PARTS, tensor.split(sizes), strict=True):
                self.weight_loader(parameter, rows, name)
            return
        q, kv = self.num_heads * self.head_size, self.num_kv_heads * self.head_size
        start, size = {"q": (0, q), "k": (q, kv), "v": (q + kv, kv)}[part]
        share = self.tp_group.rank if part == "q" else self.tp_group.rank // self.num_kv_head_replicas
        parameter[start : start + size].copy_(tensor.narrow(0, share * size, size))

    def forward(self, x: torch.Tensor) -> Output:
        """One call of L1's linear."""
        y = super().forward(x)
        return (y, None) if self.return_bias else y


class RowParallelLinear(Linear):
    """y = sum over ranks of x @ weight.T, plus bias; a rank holds an equal share of the columns of weight.

    x: [T, input_size / tp], or [T, input_size] without input_is_parallel -> ([T, output_size], None), the same on every
    rank; without reduce_results this rank's part of the sum. Rank 0 adds the bias: the others' is zeros.
    """

    def __init__(
        self, input_size: int, output_size: int, bias: bool = True, input_is_parallel: bool = True,
        params_dtype: torch.dtype | None = None, reduce_results: bool = True, prefix: str = "", *,
        return_bias: bool = True,
    ) -> None:  # fmt: skip
        group = tp_group()
        local = divide(input_size, group.size, f"{prefix or type(self).__name__}: input size")
        super().__init__(local, output_size, bias, params_dtype)
        self.tp_group = group
        self.prefix = prefix
        self.input_is_parallel = input_is_parallel
        self.reduce_results = reduce_results
        self.return_bias = return_bias
        self.all_reduce = AllReduce()
        set_weight_loader(self.weight, self.weight_loader, lambda: (output_size, input_size))
        if self.bias is not None:
            set_weight_loader(self.bias, self.bias_loader, lambda: (output_size,))

    def weight_loader(self, parameter: nn.Parameter, tensor: torch.Tensor) -> None:
        """Copy this rank's columns of the weight."""
        size = parameter.shape[1]
        parameter.copy_(tensor.narrow(1, self.tp_group.rank * size, size))

    def bias_loader(self, parameter: nn.Parameter, tensor: torch.Tensor) -> None:
        """Copy the bias on rank 0, so that the sum over ranks holds it once."""
        parameter.copy_(tensor if self.tp_group.rank == 0 else torch.zeros_like(tensor))

    def forward(self, x: torch.Tensor) -> Output:
        """One call of L1's linear and one of L1's all-reduce."""
        if not self.input_is_parallel:
            x = x.chunk(self.tp_group.size, dim=-1)[self.tp_group.rank]
        y = super().forward(x)
        if self.reduce_results:
            y = self.all_reduce(y)
        return (y, None) if self.return_bias else y
