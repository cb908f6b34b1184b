"""How much the parts of ``benchmarks/gpu.py`` do: on a card, and in its rehearsal on a CPU.

The rehearsal runs the same code on networks, minibatches and runs so small that all parts together end within 120
seconds on two ordinary cores. It finds what would fail on a card before there is one; its figures say nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CARD", "REHEARSAL", "Sizes"]


@dataclass(frozen=True)
class Sizes:
    """What the parts do.

    :param networks: by the name of a part of steps, the network whose steps it times.
    :param batches: rows of a step.
    :param contenders: that are timed, in this order, by the name of the part.
    :param compiled: rows of a step up to which networks of images are compiled, too: each takes minutes.
    :param seconds: that a contender is timed for.
    :param copied: numbers of the copy by which the rate of bytes is measured.
    :param side: rows and columns of the product by which that of operations is measured.
    :param precisions: of these products.
    :param roofline: network, rows of a step, and contender.
    :param remembered: network and rows of a step of whose ``remembering`` contenders the memory is measured.
    :param fits: seeds and epochs of the fits that are compared.
    :param mnist: random images that stand in for MNIST's, and epochs; None for as many as the results' row has.
    :param cifar: random images that stand in for CIFAR-10's, and epochs.
    :param residual: precision and depth of the residual networks that see them.
    """

    networks: dict[str, str]
    batches: tuple[int, ...]
    contenders: dict[str, tuple[str, ...]]
    compiled: int
    seconds: float
    copied: int
    side: int
    precisions: tuple[str, ...]
    roofline: tuple[tuple[str, int, str], ...]
    remembered: tuple[tuple[str, int], ...]
    remembering: tuple[str, ...]
    fits: tuple[int, int]
    mnist: tuple[int, int | None]
    cifar: tuple[int, int]
    residual: tuple[tuple[str, int], ...]


_ALL = (
    "dense",
    "traced, graphs",
    "eager",
    "stock Pyro",
    "traced",
    "traced, graphs, bf16",
    "traced, graphs, tf32",
    "compiled, graphs",
    "compiled",
    "compiled, graphs, tf32",
    "compiled, graphs, bf16",
)
# CUDA graphs and TF32 are a card's.
_PLAIN = ("dense", "eager", "stock Pyro", "traced")

CARD = Sizes(
    networks={"mlp": "mlp", "lenet": "lenet", "resnet20": "resnet20"},
    batches=(128, 1024, 8192),
    contenders={"mlp": _ALL, "lenet": _ALL, "resnet20": _ALL},
    compiled=128,
    seconds=1.0,
    copied=2**28,
    side=8192,
    precisions=("full", "tf32", "bf16"),
    roofline=(
        ("mlp", 128, "compiled, graphs"),
        ("mlp", 1024, "compiled, graphs"),
        ("mlp", 8192, "compiled, graphs"),
        ("lenet", 1024, "traced, graphs"),
        ("resnet20", 128, "traced, graphs"),
    ),
    remembered=(("mlp", 1024), ("lenet", 1024), ("resnet20", 128), ("resnet20", 1024)),
    remembering=("dense", "stock Pyro", "eager", "traced, graphs", "traced, graphs, bf16"),
    fits=(6, 300),
    mnist=(60_000, None),
    cifar=(50_000, 3),
    residual=(
        ("bf16", 20),
        ("bf16", 32),
        ("full", 20),
        ("full", 32),
        ("tf32", 20),
        ("tf32", 32),
    ),
)

REHEARSAL = Sizes(
    networks={"mlp": "mlp", "lenet": "lenet", "resnet20": "resnet8"},
    batches=(16,),
    # Compilation comes last, because it takes as long as all other steps.
    contenders={
        "mlp": (*_PLAIN, "traced, bf16", "compiled"),
        "lenet": _PLAIN,
        "resnet20": _PLAIN,
    },
    compiled=0,
    seconds=0.2,
    copied=2**24,
    side=1024,
    precisions=("full", "bf16"),
    roofline=(("mlp", 16, "traced"),),
    remembered=(("mlp", 1024),),
    remembering=("traced",),
    fits=(3, 10),
    mnist=(512, 2),
    cifar=(32, 2),
    residual=(("full", 8), ("bf16", 8)),
)
