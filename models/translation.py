"""Nodes of a traced module as operations: one translation for each kind of module, function and method."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from pyro_ssbnn.models.applied import Convolution, Dense, Norm
from pyro_ssbnn.models.following import INPUT
from pyro_ssbnn.models.operations import (
    POOLS,
    Concatenation,
    Elementwise,
    Mean,
    Permutation,
    Pool,
    Product,
    Reshape,
    Slice,
    Sum,
)
from pyro_ssbnn.models.tracing import Graph
from pyro_ssbnn.structure.geometry import ConvolutionGeometry

__all__ = ["translate"]

_SAME = ("contiguous", "clone", "detach", "float", "double", "dropout", "dropout2d", "stochastic_depth")
_SHAPES = ("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze")
_ELEMENTWISE = {
    nn.Identity: ("identity", ()),
    nn.ReLU: ("relu", ()),
    nn.ReLU6: ("relu6", ()),
    nn.SiLU: ("silu", ()),
    nn.GELU: ("gelu", ("approximate",)),
    nn.ELU: ("elu", ("alpha",)),
    nn.CELU: ("celu", ("alpha",)),
    nn.SELU: ("selu", ()),
    nn.LeakyReLU: ("leaky_relu", ("negative_slope",)),
    nn.Sigmoid: ("sigmoid", ()),
    nn.Tanh: ("tanh", ()),
    nn.Softplus: ("softplus", ("beta", "threshold")),
    nn.Softsign: ("softsign", ()),
    nn.Hardswish: ("hardswish", ()),
    nn.Hardsigmoid: ("hardsigmoid", ()),
    nn.Hardtanh: ("hardtanh", ("min_val", "max_val")),
    nn.Mish: ("mish", ()),
}
_POOLS = {
    nn.MaxPool1d: ("max_pool1d", ("kernel_size", "stride", "padding", "dilation", "ceil_mode")),
    nn.MaxPool2d: ("max_pool2d", ("kernel_size", "stride", "padding", "dilation", "ceil_mode")),
    nn.AvgPool1d: ("avg_pool1d", ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")),
    nn.AvgPool2d: ("avg_pool2d", ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")),
    nn.AdaptiveAvgPool1d: ("adaptive_avg_pool1d", ("output_size",)),
    nn.AdaptiveAvgPool2d: ("adaptive_avg_pool2d", ("output_size",)),
    nn.AdaptiveMaxPool1d: ("adaptive_max_pool1d", ("output_size",)),
    nn.AdaptiveMaxPool2d: ("adaptive_max_pool2d", ("output_size",)),
    nn.Upsample: ("interpolate", ("size", "scale_factor", "mode", "align_corners")),
}
_DROPPED = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout)
_FUNCTION_OPTIONS = {
    "elu": ("alpha",),
    "gelu": ("approximate",),
    "hardtanh": ("min_val", "max_val"),
    "leaky_relu": ("negative_slope",),
    "softplus": ("beta", "threshold"),
}
_PLAIN = ("relu", "relu6", "selu", "sigmoid", "silu", "tanh", "softsign", "hardswish", "hardsigmoid", "mish")
_ARITHMETIC = ("add", "sub", "mul", "truediv", "iadd", "isub", "imul", "itruediv", "div", "pow", "neg")


def translate(graph: Graph) -> None:
    """Make steps of all nodes of a graph, in place.

    :raises ConfigurationError: for a node without a translation, with its name.
    """
    targets = [node.target for node in graph.nodes if node.op == "call_module"]
    for node in graph.nodes:
        if node.op == "placeholder" and node in graph.moving:
            graph.rename(node, INPUT)
        elif node.op == "output":
            _output(graph, node)
        elif node in graph.moving and node not in graph.names:
            if node.op == "call_module":
                _module(graph, node, targets)
            else:
                _function(graph, node)


def _module(graph: Graph, node: fx.Node, targets: list[Any]) -> None:
    module = graph.module.get_submodule(str(node.target))
    (x,) = (a for a in node.all_input_nodes if a in graph.moving)
    if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
        if targets.count(node.target) > 1:
            raise graph.refuse(node, "it is used more than once; give each use a layer of its own.")
        layer = _dense if isinstance(module, nn.Linear) else _convolution
        layer(graph, node, x, module)
    elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        dims = len(graph.shape(node)) - 1
        options = _norm_options(graph, node, module)
        graph.emit(node, Norm(str(node.target), dims, **options), x)
    elif isinstance(module, _DROPPED) or type(module).__name__ == "StochasticDepth":
        graph.notes.append((str(node.target), "removed", f"{type(module).__name__} is for training"))
        graph.same(node, x)
    elif isinstance(module, nn.Flatten | nn.Unflatten):
        _reshape(graph, node, x)
    else:
        for table, of in ((_ELEMENTWISE, _activation), (_POOLS, _pool)):
            for cls in type(module).__mro__:
                if cls in table:
                    function, names = table[cls]
                    options = {n: getattr(module, n) for n in names}
                    of(graph, node, x, function, options)
                    return
        known = "dense layers, convolutions, batch norms, activations, pooling, dropout"
        raise graph.refuse(
            node, f"{type(module).__name__} has no translation; known are {known}, sums and concatenations."
        )


def _function(graph: Graph, node: fx.Node) -> None:
    name = str(getattr(node.target, "__name__", node.target)).strip("_")
    moving = [a for a in node.all_input_nodes if a in graph.moving]
    if name in _SAME:
        graph.same(node, moving[0])
    elif name in _SHAPES:
        _reshape(graph, node, moving[0])
    elif name in _ARITHMETIC:
        _arithmetic(graph, node, name, moving)
    elif name in ("cat", "concat", "concatenate"):
        _concatenation(graph, node)
    elif name in _PLAIN or name in _FUNCTION_OPTIONS:
        options = _arguments(graph, node, _FUNCTION_OPTIONS.get(name, ()))
        _activation(graph, node, moving[0], name, options)
    elif name in POOLS:
        names = next(names for function, names in _POOLS.values() if function == name)
        _pool(graph, node, moving[0], name, _arguments(graph, node, names))
    elif name == "mean":
        _mean(graph, node, moving[0])
    elif name in ("permute", "transpose"):
        _permutation(graph, node, name, moving[0])
    elif name in ("chunk", "split"):
        graph.names[node] = graph.names[moving[0]]  # its parts are taken one by one
    elif name == "getitem":
        _getitem(graph, node)
    else:
        raise graph.refuse(node, f"the {node.op.partition('_')[2]} {name} has no translation.")


def _dense(graph: Graph, node: fx.Node, x: fx.Node, module: nn.Linear) -> None:
    rank = len(graph.shape(x))
    norm, options = _norm_behind(graph, node) if rank == 1 else (None, {})
    what = Dense(
        str(node.target), module.out_features, norm and str(norm.target), **options, rank=rank
    )
    _emit_layer(graph, node, what, x, norm)


def _convolution(graph: Graph, node: fx.Node, x: fx.Node, module: nn.Conv1d | nn.Conv2d) -> None:
    dims = len(module.kernel_size)
    if module.padding_mode != "zeros":
        raise graph.refuse(node, f"padding_mode={module.padding_mode!r} has no translation; zeros has.")
    padding: Any = module.padding
    if isinstance(padding, str):
        reach = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        if padding == "same" and any(r % 2 for r in reach):
            raise graph.refuse(node, "padding='same' of an even kernel is not the same on both sides.")
        padding = tuple(r // 2 if padding == "same" else 0 for r in reach)
    given = {
        "kernel_size": module.kernel_size,
        "stride": module.stride,
        "padding": padding,
        "dilation": module.dilation,
    }
    if dims == 1:
        given = {k: (0 if k == "padding" else 1, *v) for k, v in given.items()}
    geometry = ConvolutionGeometry(**given)  # type: ignore[arg-type]
    norm, options = _norm_behind(graph, node)
    what = Convolution(
        str(node.target),
        module.out_channels,
        norm and str(norm.target),
        **options,
        geometry=asdict(geometry),
        groups=module.groups,
        dims=dims,
    )
    _emit_layer(graph, node, what, x, norm)


def _emit_layer(
    graph: Graph, node: fx.Node, what: Dense | Convolution, x: fx.Node, norm: fx.Node | None
) -> None:
    graph.emit(node, what, x)
    if norm is not None:
        graph.same(norm, node)


def _norm_behind(graph: Graph, node: fx.Node) -> tuple[fx.Node | None, dict[str, float]]:
    """The batch norm that alone reads a layer, and its options."""
    (user, *others) = node.users
    if others or user.op != "call_module":
        return None, {}
    module = graph.module.get_submodule(str(user.target))
    if not isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        return None, {}
    return user, _norm_options(graph, user, module)


def _norm_options(graph: Graph, node: fx.Node, module: Any) -> dict[str, float]:
    if not module.track_running_stats or module.momentum is None:
        raise graph.refuse(node, "a batch norm needs running statistics, with a momentum.")
    return {"eps": module.eps, "momentum": module.momentum}


def _activation(
    graph: Graph, node: fx.Node, x: fx.Node, function: str, options: dict[str, Any]
) -> None:
    if function == "identity":
        graph.same(node, x)
    else:
        graph.emit(node, Elementwise(function, options), x)


def _pool(graph: Graph, node: fx.Node, x: fx.Node, function: str, options: dict[str, Any]) -> None:
    dims = len(graph.shape(x)) - 1
    options = {k: list(v) if isinstance(v, tuple) else v for k, v in options.items()}
    graph.emit(node, Pool(function, {k: v for k, v in options.items() if v is not None}, dims), x)


def _reshape(graph: Graph, node: fx.Node, x: fx.Node) -> None:
    before, after = graph.shape(x), graph.shape(node)
    if before == after:
        graph.same(node, x)
    else:
        graph.emit(node, Reshape(len(before), after), x)


def _mean(graph: Graph, node: fx.Node, x: fx.Node) -> None:
    given = _arguments(graph, node, ("dim", "keepdim"))
    dims, rank = given.get("dim"), len(graph.shape(x))
    dims = (dims,) if isinstance(dims, int) else dims
    if dims is None or any(d % (rank + 1) == 0 for d in dims):
        raise graph.refuse(node, "a mean over the rows has no translation.")
    dims = tuple(d % (rank + 1) - rank - 1 for d in dims)
    graph.emit(node, Mean(dims, bool(given.get("keepdim", False))), x)


def _permutation(graph: Graph, node: fx.Node, name: str, x: fx.Node) -> None:
    rank = len(graph.shape(x)) + 1
    args = [a for a in node.args[1:]] + list(node.kwargs.values())
    args = list(args[0]) if isinstance(args[0], tuple | list) else args
    order = list(range(rank))
    if name == "transpose":
        a, b = (graph.constant(d) % rank for d in args)
        order[a], order[b] = order[b], order[a]
    else:
        order = [graph.constant(d) % rank for d in args]
    if order[0] != 0:
        raise graph.refuse(node, "the rows must stay first.")
    graph.emit(node, Permutation(tuple(d - 1 for d in order[1:])), x)


def _concatenation(graph: Graph, node: fx.Node) -> None:
    parts: Sequence[Any] = node.args[0] if node.args else node.kwargs["tensors"]  # type: ignore[assignment]
    dim = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
    rank = len(graph.shape(node)) + 1
    if graph.constant(dim) % rank == 0:
        raise graph.refuse(node, "rows cannot be put beside each other.")
    if not all(part in graph.moving for part in parts):
        raise graph.refuse(node, "a tensor that does not depend on the input has no translation here.")
    graph.emit(node, Concatenation(graph.constant(dim) % rank - rank), *parts)


def _arithmetic(graph: Graph, node: fx.Node, name: str, moving: list[fx.Node]) -> None:
    name = name if name in ("isub", "itruediv", "iadd", "imul") else f"i{name}"
    operands = [node.args[0], *node.args[1:], *node.kwargs.values()]
    if len([o for o in operands if isinstance(o, fx.Node) and o in graph.moving]) == 2:
        shapes = [graph.shape(o) for o in operands[:2]]  # type: ignore[arg-type]
        if name in ("iadd", "isub"):
            graph.emit(node, Sum((1, 1 if name == "iadd" else -1)), *operands[:2])  # type: ignore[arg-type]
        elif name == "imul" and len(shapes[0]) == len(shapes[1]):
            graph.emit(node, Product(), *operands[:2])  # type: ignore[arg-type]
        else:
            raise graph.refuse(node, f"{name[1:]} of two tensors has no translation.")
        return
    if name == "ineg":
        graph.emit(node, Elementwise("multiply", {"value": -1.0}), moving[0])
        return
    first = isinstance(operands[0], fx.Node) and operands[0] in graph.moving
    other = graph.constant(operands[1] if first else operands[0])
    if isinstance(other, Tensor) and other.numel() == 1 and other.ndim <= len(graph.shape(node)):
        other = other.item()
    if not isinstance(other, int | float):
        raise graph.refuse(node, "a tensor that does not depend on the input has no translation here.")
    known = {
        "iadd": ("add", other),
        "isub": ("add", -other) if first else ("subtract_from", other),
        "imul": ("multiply", other),
        "itruediv": ("divide", other) if first else None,
        "idiv": ("divide", other) if first else None,
        "ipow": ("power", other) if first else None,
    }[name]
    if known is None:
        raise graph.refuse(node, f"{name[1:]} by a tensor has no translation.")
    graph.emit(node, Elementwise(known[0], {"value": known[1]}), moving[0])


def _getitem(graph: Graph, node: fx.Node) -> None:
    of, index = node.args
    assert isinstance(of, fx.Node)
    if isinstance(graph.values[of], tuple | list):  # a part of chunk or split
        parts, place = graph.values[of], graph.constant(index)
        x = next(a for a in of.all_input_nodes if a in graph.moving)
        whole, part = graph.values[x].shape, parts[place].shape
        dim = next((d for d in range(1, len(whole)) if whole[d] != part[d]), None)
        if dim is None:
            graph.same(node, x)
            return
        start = sum(p.shape[dim] for p in parts[:place])
        what = Slice(dim - len(whole), start, start + part[dim])
        graph.emit(node, what, x)
        return
    index = index if isinstance(index, tuple) else (index,)
    rank = len(graph.shape(of)) + 1
    if Ellipsis in index:
        at = index.index(Ellipsis)
        index = (*index[:at], *[slice(None)] * (rank - len(index) + 1), *index[at + 1 :])
    chosen = [(d, i) for d, i in enumerate(index) if i != slice(None)]
    if len(chosen) != 1 or chosen[0][0] == 0 or not isinstance(chosen[0][1], int | slice):
        raise graph.refuse(node, "only one dimension, not that of the rows, can be indexed, by a number or a slice.")
    dim, place = chosen[0]
    size = graph.values[of].shape[dim]
    if isinstance(place, int):
        graph.emit(node, Slice(dim - rank, place % size), of)
    else:
        start, stop, step = place.indices(size)
        graph.emit(node, Slice(dim - rank, start, stop, step), of)


def _output(graph: Graph, node: fx.Node) -> None:
    """Several tensors of the output are put beside each other."""
    found = node.args[0]
    parts = list(found.values() if isinstance(found, dict) else found) if isinstance(found, tuple | list | dict) else [found]
    if not all(isinstance(part, fx.Node) and part in graph.moving for part in parts):
        raise graph.refuse(node, "the module must return a tensor, or several, that depend on its input.")
    if len(parts) == 1 and graph.steps and graph.names[parts[0]] == graph.steps[-1]["name"]:
        return
    shapes = [graph.shape(part) for part in parts]
    if any(len(shape) != 1 for shape in shapes):
        raise graph.refuse(node, f"outputs must be [N, K]; got {[['N', *shape] for shape in shapes]}.")
    record = {
        "name": "outputs",
        "of": [graph.names[part] for part in parts],
        "shape": [sum(shape[0] for shape in shapes)],
        "does": Concatenation(-1).to_config(),
    }
    graph.steps.append(record)


def _arguments(graph: Graph, node: fx.Node, names: Sequence[str]) -> dict[str, Any]:
    """Arguments of a function or method behind its first, those of these names that are given."""
    given = dict(zip(names, node.args[1:], strict=False)) | dict(node.kwargs)
    return {name: graph.constant(given[name]) for name in names if name in given}
