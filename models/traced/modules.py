"""Modules of a traced module as operations."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from torch import fx, nn

from pyro_ssbnn.models.traced.attention import Attention, Projection
from pyro_ssbnn.models.traced.fixed import Embedding, LayerNorm, Norm
from pyro_ssbnn.models.traced.functions import POOL_OPTIONS, activation, pool, reshape
from pyro_ssbnn.models.traced.graph import Graph, step_name
from pyro_ssbnn.models.traced.layers import Convolution, Dense
from pyro_ssbnn.structure.geometry import ConvolutionGeometry

__all__ = ["is_module", "translate_module"]

_ELEMENTWISE: dict[type[nn.Module], tuple[str, tuple[str, ...]]] = {
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
_POOLS: dict[type[nn.Module], str] = {
    nn.MaxPool1d: "max_pool1d",
    nn.MaxPool2d: "max_pool2d",
    nn.AvgPool1d: "avg_pool1d",
    nn.AvgPool2d: "avg_pool2d",
    nn.AdaptiveAvgPool1d: "adaptive_avg_pool1d",
    nn.AdaptiveAvgPool2d: "adaptive_avg_pool2d",
    nn.AdaptiveMaxPool1d: "adaptive_max_pool1d",
    nn.AdaptiveMaxPool2d: "adaptive_max_pool2d",
    nn.Upsample: "interpolate",
}
_DROPPED = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout)


_FUNCTIONS: dict[str, tuple[type[nn.Module], ...]] = {
    "batch_norm": (nn.BatchNorm1d, nn.BatchNorm2d),
    "conv1d": (nn.Conv1d,),
    "conv2d": (nn.Conv2d,),
    "layer_norm": (nn.LayerNorm,),
    "linear": (nn.Linear,),
}
"""What modules with a ``forward`` of their own call on their tensors, by name."""


def is_module(graph: Graph, node: fx.Node) -> bool:
    """Whether a node is the call of a module, or of its function on its tensors."""
    return _called(graph, node)[1] is not None


def _called(graph: Graph, node: fx.Node) -> tuple[str, Any]:
    """The path of the module that a node calls, and the module.

    A subclass with a ``forward`` of its own, such as a norm with its activation, is seen as the function that this
    calls; the module is the one that owns the weight.
    """
    if node.op == "call_module":
        return str(node.target), graph.module.get_submodule(str(node.target))
    kinds = _FUNCTIONS.get(getattr(node.target, "__name__", ""), ())
    for tensor in node.all_input_nodes if kinds else ():
        path, _, name = str(tensor.target).rpartition(".")
        if tensor.op == "get_attr" and name in ("weight", "running_mean"):
            module = graph.module.get_submodule(path)
            if isinstance(module, kinds):
                return path, module
    return "", None


def translate_module(graph: Graph, node: fx.Node) -> None:
    """A step of a call of a module.

    :raises ConfigurationError: for one without a translation.
    """
    path, module = _called(graph, node)
    if isinstance(module, nn.MultiheadAttention):
        _attention(graph, node, module)
        return
    (x,) = (a for a in node.all_input_nodes if a in graph.moving)
    if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
        _require_one_use(graph, node)
        if isinstance(module, nn.Linear):
            _dense(graph, node, x, module)
        else:
            _convolution(graph, node, x, module)
    elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        dims = len(graph.shape(node)) - 1
        options = _norm_options(graph, node, module)
        graph.emit(node, Norm(path, dims, **options), x)
    elif isinstance(module, nn.LayerNorm):
        over = tuple(module.normalized_shape)
        graph.emit(node, LayerNorm(path, over, module.eps), x)
    elif isinstance(module, nn.Embedding):
        graph.emit(node, Embedding(str(node.target), tuple(module.weight.shape)), x)
    elif isinstance(module, _DROPPED) or type(module).__name__ == "StochasticDepth":
        graph.notes.append(
            (str(node.target), "removed", f"{type(module).__name__} is for training")
        )
        graph.same(node, x)
    elif isinstance(module, nn.Flatten | nn.Unflatten):
        reshape(graph, node, x)
    else:
        _function_of(graph, node, x, module)


def _attention(graph: Graph, node: fx.Node, module: nn.MultiheadAttention) -> None:
    """Queries, keys and values as layers of heads, attention, and the layer that reads it."""
    _require_one_use(graph, node)
    names = ("query", "key", "value")
    given: dict[str, Any] = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
    masked = given.get("is_causal") or any(
        given.get(name) is not None for name in ("key_padding_mask", "attn_mask")
    )
    plain = module._qkv_same_embed_dim and module.batch_first and len(node.args) <= len(names)
    if masked or not plain or module.bias_k is not None or module.add_zero_attn:
        raise graph.refuse(
            node, "attention has a translation with batch_first=True, one width, and without masks."
        )
    path, base, width = str(node.target), step_name(node.name), module.head_dim
    shapes = {name: graph.shape(given[name]) for name in names}
    for name in names:
        what = Projection(path, module.num_heads, rank=2, part=name, width=width)
        graph.step(f"{base}_{name}", shapes[name], what, [graph.names[given[name]]])
    read = [f"{base}_{name}" for name in names]
    graph.step(f"{base}_heads", shapes["query"], Attention(width), read)
    out = Dense(f"{path}.out_proj", module.embed_dim, rank=2)
    graph.step(f"{base}_out", shapes["query"], out, [f"{base}_heads"])
    graph.rename(node, f"{base}_out")


def _function_of(graph: Graph, node: fx.Node, x: fx.Node, module: nn.Module) -> None:
    """A module without weights, as the function that it is."""
    for cls in type(module).__mro__:
        if cls in _ELEMENTWISE:
            function, names = _ELEMENTWISE[cls]
            activation(graph, node, x, function, {n: getattr(module, n) for n in names})
            return
        if cls in _POOLS:
            names = POOL_OPTIONS[_POOLS[cls]]
            pool(graph, node, x, _POOLS[cls], {n: getattr(module, n) for n in names})
            return
    known = "dense layers, convolutions, norms, attention, activations, pooling, dropout"
    raise graph.refuse(
        node,
        f"{type(module).__name__} has no translation; known are {known}, sums and concatenations.",
    )


def _require_one_use(graph: Graph, node: fx.Node) -> None:
    path, _ = _called(graph, node)
    if sum(_called(graph, n)[0] == path for n in graph.nodes) > 1:
        raise graph.refuse(node, "it is used more than once; give each use a layer of its own.")


def _dense(graph: Graph, node: fx.Node, x: fx.Node, module: nn.Linear) -> None:
    rank = len(graph.shape(x))
    norm, options = _norm_behind(graph, node) if rank == 1 else (None, {})
    what = Dense(
        _called(graph, node)[0],
        module.out_features,
        None if norm is None else _called(graph, norm)[0],
        **options,
        rank=rank,
    )
    _emit_layer(graph, node, what, x, norm)


def _convolution(graph: Graph, node: fx.Node, x: fx.Node, module: nn.Conv1d | nn.Conv2d) -> None:
    dims = len(module.kernel_size)
    if module.padding_mode != "zeros":
        raise graph.refuse(
            node, f"padding_mode={module.padding_mode!r} has no translation; zeros has."
        )
    padding: Any = module.padding
    if isinstance(padding, str):
        reach = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        if padding == "same" and any(r % 2 for r in reach):
            raise graph.refuse(
                node, "padding='same' of an even kernel is not the same on both sides."
            )
        padding = tuple(r // 2 if padding == "same" else 0 for r in reach)
    given = {
        "kernel_size": module.kernel_size,
        "stride": module.stride,
        "padding": padding,
        "dilation": module.dilation,
    }
    if dims == 1:
        given = {k: (0 if k == "padding" else 1, *v) for k, v in given.items()}
    geometry = ConvolutionGeometry(**given)
    norm, options = _norm_behind(graph, node)
    what = Convolution(
        _called(graph, node)[0],
        module.out_channels,
        None if norm is None else _called(graph, norm)[0],
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
    (user, *others) = (n for n in node.users if n in graph.moving)
    _, module = _called(graph, user)
    if others or not isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        return None, {}
    _require_one_use(graph, user)
    return user, _norm_options(graph, user, module)


def _norm_options(graph: Graph, node: fx.Node, module: Any) -> dict[str, float]:
    if not module.track_running_stats or module.momentum is None:
        raise graph.refuse(node, "a batch norm needs running statistics, with a momentum.")
    return {"eps": module.eps, "momentum": module.momentum}
