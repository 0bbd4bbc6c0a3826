"""Which functions of a module run when its operator is built and called on a CPU."""

import ast
from collections import defaultdict
from collections.abc import Iterator

ROOTS = ("forward", "forward_native", "process_weights_after_loading")
"""Methods that are called from outside."""

BUILDS = ("__init__", "_build", "_build_projections", "make_sinks")
"""Methods that put a module together. What they call runs as well; their own lines are left to mutants written by hand,
since most generic changes there give weights of other shapes and would say nothing of a judge."""

NOT_CALLED = (
    "forward_cuda", "work", "strided_inputs", "donates", "canonical", "rounding_error", "constant_error", "_sizes",
    "_errors", "_sum_of_errors", "allowed_experts", "weight_loader", "bias_loader", "load", "_set_loaders",
    "_load_w13", "_load_w2", "_load_w2_bias", "_rows", "kv_cache_shapes", "tie_weights",
    "make_expert_params_mapping", "w13_weight", "w2_weight", "block_size", "group_size", "topk_method", "is_v3",
)  # fmt: skip
"""What only CUDA, the harness or the loader of checkpoints calls, chooses a tile's size, or checks arguments."""

Function = ast.FunctionDef


def functions_on_cpu(tree: ast.Module) -> Iterator[tuple[str, Function]]:
    """Yield (name, function) of everything that a call on a CPU may run, in order of the file.

    Where several classes have a method of one name, the class's stands before it.
    """
    known: dict[str, list[Function]] = defaultdict(list)
    for _, name, function in _functions(tree):
        known[name].append(function)
    seen: set[str] = set()
    wanted = [name for name in known if name in ROOTS or name in BUILDS or any(map(_is_property, known[name]))]
    while wanted:
        name = wanted.pop()
        if name in seen or name not in known or name in NOT_CALLED:
            continue
        seen.add(name)
        for function in known[name]:
            for node in ast.walk(function):
                if isinstance(node, ast.Name):
                    wanted.append(node.id)
                elif isinstance(node, ast.Attribute):
                    wanted.append(node.attr)
    for owner, name, function in _functions(tree):
        if name in seen and name not in BUILDS and not _is_kernel(function):
            yield f"{owner}.{name}" if owner and len(known[name]) > 1 else name, function


def _functions(tree: ast.Module) -> Iterator[tuple[str, str, Function]]:
    """Yield (class or '', name, function)."""
    for node in tree.body:
        if isinstance(node, Function):
            yield "", node.name, node
        elif isinstance(node, ast.ClassDef):
            yield from ((node.name, part.name, part) for part in node.body if isinstance(part, Function))


def _is_kernel(function: Function) -> bool:
    return any("jit" in ast.unparse(decorator) or "register_fake" in ast.unparse(decorator)
               for decorator in function.decorator_list)


def _is_property(function: Function) -> bool:
    return any(isinstance(decorator, ast.Name) and decorator.id == "property" for decorator in function.decorator_list)
