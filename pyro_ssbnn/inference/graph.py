"""A computation as a graph of plain tensor operations: recorded, tidied, compiled.

Recording keeps what was computed on tensors, and nothing of the Python around it. Tidying changes no result, not by a
bit, and no random draw. The compiler fuses operations, which changes results by rounding.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx

from pyro_ssbnn.isolation import random_state, set_random_state

__all__ = ["compiled", "has_compiler", "recorded"]

_aten = torch.ops.aten

_LARGEST_CONSTANT = 10_000  # elements: larger ones are made anew at every step, and not kept
_ALIASES = {_aten.detach.default, _aten.alias.default, _aten.lift_fresh_copy.default}
_VIEWS = {_aten.expand.default, _aten.view.default, _aten._unsafe_view.default}
_EMPTY = {_aten.empty.memory_format, _aten.new_empty.default, _aten.empty_like.default}
# Torch binds functions of these names directly, at half the cost of the general way to an operation.
_BOUND = """
    add addcmul addmm bmm cat clamp clamp_min div exp ge gt lgamma log log1p logit mm mul neg pow reciprocal rsqrt
    select sigmoid sqrt squeeze stack sub sum t tanh transpose unsqueeze where
""".split()  # noqa: SIM905
# What depends on the shape, dtype and device of its arguments alone.
_FILLED = {
    _aten.arange.default,
    _aten.full_like.default,
    _aten.new_full.default,
    _aten.new_ones.default,
    _aten.new_zeros.default,
    _aten.ones_like.default,
    _aten.scalar_tensor.default,
    _aten.zeros_like.default,
}


def recorded(function: Callable[..., Any], inputs: Sequence[Tensor]) -> GraphModule:
    """Record what a function of tensors computes; random numbers and changed inputs are put back afterwards.

    :param function: its control flow must not depend on values of tensors.
    :raises Exception: whatever the function raises, or torch where it reads a tensor's value.
    """
    device = inputs[0].device
    random, before = random_state(device), [value.clone() for value in inputs]
    try:
        graph = make_fx(function)(*inputs)
    finally:
        set_random_state(random, device)
        for value, old in zip(inputs, before, strict=True):
            if not torch.equal(value, old):
                value.copy_(old)
    _tidy(graph)
    return graph


def compiled(graph: GraphModule, inputs: Sequence[Tensor]) -> Callable[..., list[Tensor]]:
    """Compile a graph, or load what an earlier call, also of another process, left in torch's compiler cache.

    The cache is keyed by the graph itself, by torch, the machine and the number of threads. It is the folder
    ``TORCHINDUCTOR_CACHE_DIR``, by default ``torchinductor_<user>`` where temporary files are, and holds code that is
    run: as with ``torch.compile``, it must belong to the user.

    :raises Exception: whatever the compiler raises.
    """
    from torch._inductor import list_options, standalone_compile  # seconds of imports

    device = inputs[0].device
    known = set(list_options())  # they come and go with torch's versions
    options = {k: v for k, v in _compiler_options(device).items() if k in known}
    random = random_state(device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of its internals
        # Not torch.compile, which would check at every step that its inputs are still alike; training guarantees it.
        function = standalone_compile(
            graph, list(inputs), dynamic_shapes="from_graph", options={"config_patches": options}
        )
    set_random_state(random, device)
    return function


def has_compiler(device: torch.device) -> bool:
    """Whether torch's compiler finds here what it needs for a device: a C++ compiler on the CPU, Triton on CUDA."""
    if device.type == "cpu":
        name = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
        return shutil.which(name) is not None
    return device.type == "cuda" and importlib.util.find_spec("triton") is not None


def _compiler_options(device: torch.device) -> dict[str, Any]:
    # Torch's own generators are vectorised (the compiler's are not), and the draws are those of the graph as it is.
    options: dict[str, Any] = {"fallback_random": True}
    if device.type == "cpu":
        # One C++ file: the compiler reads torch's headers once, not once for each of dozens of kernels, and what is
        # called from it costs no Python. Headers are not precompiled (hundreds of megabytes), and the processor's
        # vector instructions, which torch has looked up, not tried out again. No pool of compiling processes either.
        options |= {
            "cpp_wrapper": True,
            "cpp_wrapper_build_separate": True,
            "cpp_cache_precompile_headers": False,
            "cpp.vec_isa_ok": True,
            "cpp.threads": torch.get_num_threads(),
            "compile_threads": 1,
        }
    return options


def _tidy(graph: GraphModule) -> None:
    """Fold constants, compute nothing twice, drop what nobody reads, take the short way to torch's functions.

    Graphs that write into their inputs are left as they are, because then the order of reading matters.
    """
    nodes = graph.graph.nodes
    written = {node.args[0] for node in nodes if _writes(node)}
    if all(isinstance(node, Node) and node.target in _EMPTY for node in written):
        _fold(graph, written)
        _merge(graph, written)
        graph.graph.eliminate_dead_code(_must_stay)
    for node in nodes:
        if isinstance(node.target, torch._ops.OpOverload):
            name = node.target.overloadpacket.__name__
            node.target = getattr(torch, name) if name in _BOUND else node.target
    graph.recompile()


def _must_stay(node: Node) -> bool:
    return node.op in ("placeholder", "output") or _is_random(node) or _writes(node)


def _writes(node: Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def _is_random(node: Node) -> bool:
    target = node.target
    return (
        isinstance(target, torch._ops.OpOverload)
        and torch.Tag.nondeterministic_seeded in target.tags
    )


def _fold(graph: GraphModule, written: set[Any]) -> None:
    """Put constants in the place of what depends on no input, and leave out views that change nothing."""
    constant: dict[Node, Tensor] = {}
    for node in list(graph.graph.nodes):
        if node.op == "get_attr":
            constant[node] = getattr(graph, node.target)
        if node.op != "call_function" or node in written or _writes(node) or _is_random(node):
            continue
        sources = node.all_input_nodes
        if not isinstance(
            node.meta.get("val"), Tensor
        ):  # several at once, or a gradient nobody asked for
            continue
        if node.target in _ALIASES or (node.target in _VIEWS and _same_layout(node, sources[0])):
            node.replace_all_uses_with(sources[0])
        elif node.meta["val"].numel() <= _LARGEST_CONSTANT and (
            node.target in _FILLED or (sources and all(s in constant for s in sources))
        ):
            constant[node] = _evaluated(node, constant)
    for index, (node, value) in enumerate(constant.items()):
        if node.op == "get_attr" or all(user in constant for user in node.users):
            continue
        name = f"_folded_{index}"
        graph.register_buffer(name, value, persistent=False)
        with graph.graph.inserting_before(node):
            node.replace_all_uses_with(graph.graph.get_attr(name))


def _same_layout(a: Node, b: Node) -> bool:
    first, second = a.meta["val"], b.meta["val"]
    return first.shape == second.shape and first.stride() == second.stride()


def _evaluated(node: Node, constant: dict[Node, Tensor]) -> Tensor:
    def value(source: Node) -> Tensor:
        if source in constant:
            return constant[source]
        like = source.meta["val"]  # only shape, dtype and device count
        return torch.empty_strided(like.shape, like.stride(), dtype=like.dtype, device=like.device)

    args, kwargs = torch.fx.map_arg((node.args, node.kwargs), value)
    return node.target(*args, **kwargs)  # type: ignore[operator]


def _merge(graph: GraphModule, written: set[Any]) -> None:
    """Compute what is computed several times once."""
    seen: dict[Any, Node] = {}
    for node in list(graph.graph.nodes):
        if node.op != "call_function" or node in written or _writes(node) or _is_random(node):
            continue
        key = repr((node.target, node.args, node.kwargs))  # nodes by their names, which are unique
        if key in seen:
            node.replace_all_uses_with(seen[key])
            graph.graph.erase_node(node)
        else:
            seen[key] = node
