"""Training steps on a device: the contenders of ``benchmarks/gpu.py``, how they are timed, and what bounds them.

Networks are the perceptron 784-400-400-10 ("mlp"), LeNet on 1 x 28 x 28 ("lenet") and residual networks on 3 x 32 x 32
("resnet20"), with SS-GHS. Contenders are "dense", the deterministic network, "stock Pyro", and ours: "eager", "traced"
or "compiled", with ", graphs" (CUDA graphs: the step and the optimizer's are replayed by one call each) and with
", tf32" or ", bf16".
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from math import prod
from typing import Any

import pyro
import torch
from deterministic import DeterministicResNet, adam_step
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import pyro_ssbnn as ss
from pyro_ssbnn.inference.cuda_graph import records
from pyro_ssbnn.inference.optimizer import optimizer_of
from pyro_ssbnn.inference.step import STEPS, TracedStep
from pyro_ssbnn.isolation import isolated, tf32

__all__ = ["Setting", "bounds_of", "network", "rates_of", "synchronize", "time_step"]

NUM_DATA, CLASSES = 50_000, 10
KINDS = {"eager": "eager", "traced": "trace", "compiled": "compile"}
Step = Callable[[Tensor, Tensor], object]


def shape_of(name: str) -> tuple[int, int, int]:
    """Shape of a network's images."""
    return (3, 32, 32) if name.startswith("resnet") else (1, 28, 28)


def network(name: str) -> Any:
    """The model that all Bayesian contenders share."""
    shared: dict[str, Any] = {
        "prior": ss.SSGHS(inclusion=1e-3),
        "likelihood": ss.CategoricalLikelihood(CLASSES),
    }
    if name == "mlp":
        return ss.MLP(784, [400, 400], **shared)
    if name == "lenet":
        return ss.LeNet(shape_of(name), **shared)
    return ss.ResNet(shape_of(name), _depth(name), **shared).train()


class Setting:
    """A network, a number of rows and a device, and random images to step on."""

    def __init__(self, name: str, batch: int, device: torch.device) -> None:
        self.name, self.batch, self.device = name, batch, device
        self.x = torch.randn(batch, prod(shape_of(name)), device=device)
        self.y = torch.randint(CLASSES, (batch,), device=device)


def dense(setting: Setting) -> Step:
    """The deterministic network with fused Adam, eagerly: what a PyTorch user writes."""
    shape, pool = shape_of(setting.name), nn.MaxPool2d(2)
    kind = "resnet" if setting.name.startswith("resnet") else setting.name
    plain = {
        "mlp": lambda: nn.Sequential(
            nn.Linear(784, 400), nn.SiLU(), nn.Linear(400, 400), nn.SiLU(), nn.Linear(400, 10)
        ),
        "lenet": lambda: nn.Sequential(
            nn.Unflatten(1, shape), nn.Conv2d(shape[0], 20, 5), nn.SiLU(), pool,
            nn.Conv2d(20, 50, 5), nn.SiLU(), pool, nn.Flatten(),
            nn.Linear(800, 800), nn.SiLU(), nn.Linear(800, 500), nn.SiLU(), nn.Linear(500, 10),
        ),
        "resnet": lambda: nn.Sequential(
            nn.Unflatten(1, shape), DeterministicResNet(depth=_depth(setting.name))
        ),
    }  # fmt: skip
    return adam_step(plain[kind]().to(setting.device))


def _depth(name: str) -> int:
    return int(name.removeprefix("resnet"))


def stock(setting: Setting) -> Step:
    """What a Pyro user writes, on the same model and guide."""
    pyro.clear_param_store()
    model = network(setting.name).to(setting.device)
    guide = ss.StructuredGuide(model).to(setting.device)
    elbo = pyro.infer.TraceMeanField_ELBO()
    svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 1e-3}), elbo)
    return lambda x, y: svi.step(x, y, num_data=NUM_DATA)


def ours(setting: Setting, kind: str, graphs: bool = False, precision: str = "full") -> Step:
    """The step of ``fit``, with its optimizer."""
    if graphs and not records(setting.device):
        raise ValueError(f"{setting.device.type} has no CUDA graphs")
    model = network(setting.name).to(setting.device)
    guide = ss.StructuredGuide(model).to(setting.device)
    options = ss.TrainingOptions(cuda_graphs=graphs)
    local = options.draws_locally(model.description)
    elbo = ss.AnalyticELBO(local_reparameterization=local)
    step = STEPS[kind](model, guide, elbo, NUM_DATA, None, precision == "bf16")
    if isinstance(step, TracedStep):
        step.replays = graphs
    optimizer = optimizer_of(guide, options, NUM_DATA, setting.device)
    weight = torch.ones((), device=setting.device)
    step.prepare(setting.x, setting.y)

    def run(x: Tensor, y: Tensor) -> None:
        step(x, y, weight)
        optimizer.step()

    run.step = step  # type: ignore[attr-defined]
    return run


def contender(name: str, setting: Setting) -> Step:
    """The step of a contender."""
    if name == "dense":
        return dense(setting)
    if name == "stock Pyro":
        return stock(setting)
    kind, *how = name.split(", ")
    return ours(setting, KINDS[kind], "graphs" in how, "bf16" if "bf16" in how else "full")


def synchronize(device: torch.device) -> None:
    """Wait for what the device was asked to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def _surroundings(name: str, setting: Setting) -> Iterator[None]:
    """As in ``fit``; dense and stock Pyro run in torch's own settings."""
    if name == "dense":
        yield
    elif name == "stock Pyro":
        with pyro.validation_enabled(False):
            yield
    else:
        with isolated(0, setting.x, grad=True), tf32(True) if "tf32" in name else nullcontext():
            yield


def time_step(name: str, setting: Setting, seconds: float) -> dict[str, Any]:
    """Milliseconds a step (median over blocks of steps), images a second, and the seconds before the second step."""
    torch.manual_seed(0)
    with _surroundings(name, setting):
        start = time.perf_counter()
        step = contender(name, setting)
        step(setting.x, setting.y)
        synchronize(setting.device)
        first = time.perf_counter() - start
        for _ in range(3):
            step(setting.x, setting.y)
        synchronize(setting.device)
        blocks: list[float] = []
        count, end = 1, time.perf_counter() + seconds
        while len(blocks) < 3 or (time.perf_counter() < end and len(blocks) < 30):
            start = time.perf_counter()
            for _ in range(count):
                step(setting.x, setting.y)
            synchronize(setting.device)
            spent = time.perf_counter() - start
            if spent < 0.02 and count < 200:  # too short to be timed
                count *= 2
                continue
            blocks.append(spent / count)
            if setting.device.type == "cpu" and time.perf_counter() > end:
                break
    median = statistics.median(blocks)
    return {
        "network": setting.name, "batch": setting.batch, "step": name, "ms": 1e3 * median,
        "images a second": setting.batch / median, "first call s": first,
    }  # fmt: skip


def rates_of(
    device: torch.device, copied: int, size: int, precision: str = "full"
) -> dict[str, float]:
    """What the device does at most, measured: bytes a second of a copy, operations a second of a product.

    :param copied: numbers of the copy.
    :param size: rows and columns of the product.
    """
    values = torch.ones(copied, device=device)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a = torch.randn(size, size, device=device, dtype=dtype)
    target = torch.empty_like(values)
    with tf32(precision == "tf32"):
        return {
            "bytes a second": 8 * len(values) / _best(lambda: target.copy_(values), device),
            "operations a second": 2 * size**3 / _best(lambda: a @ a, device),
        }


def _best(work: Callable[[], object], device: torch.device) -> float:
    times = []
    for _ in range(6):
        synchronize(device)
        start = time.perf_counter()
        work()
        synchronize(device)
        times.append(time.perf_counter() - start)
    return min(times)


def bounds_of(setting: Setting) -> dict[str, float]:
    """Operations of a step's products, and bytes that a step cannot do without, however well it is fused.

    Bytes are those that the graph is given and gives back, those that products, convolutions, batch norms and random
    draws read and write, and Adam's seven passes over the parameters.
    """
    with isolated(0, setting.x, grad=True):
        step = ours(setting, "trace").step  # type: ignore[attr-defined]
        graph = step._run
        inputs = [setting.x, setting.y, torch.ones((), device=setting.device), *step._state]
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            outputs = graph(*inputs)
    parameters = [p for p in step.guide.parameters() if p.requires_grad]
    total = sum(map(_bytes, [*inputs, *outputs])) + 7 * sum(map(_bytes, parameters))
    for node in graph.graph.nodes:
        if node.op == "call_function" and any(w in str(node.target) for w in _APART):
            tensors = [*node.all_input_nodes, node]
            total += sum(_bytes(n.meta.get("val")) for n in tensors if not _is_given(n))
    return {"operations": counter.get_total_flops(), "bytes": total}


_APART = ("mm", "convolution", "batch_norm", "normal_", "randn", "rand", "bernoulli", "max_pool")


def _is_given(node: Any) -> bool:
    return node.op == "placeholder"


def _bytes(value: Any) -> int:
    if isinstance(value, list | tuple):
        return sum(map(_bytes, value))
    return value.numel() * value.element_size() if isinstance(value, Tensor) else 0
