"""Within an epoch nothing is read from the device, and no number is sent to it: both would wait for it."""

from contextlib import contextmanager, nullcontext

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from pyro_ssbnn import (
    MLP,
    SSGHS,
    SSGL,
    SSIG,
    CategoricalLikelihood,
    GaussianLikelihood,
    ImageAugmentation,
    LeNet,
    ResNet,
    TrainingOptions,
    fit,
)
from pyro_ssbnn.inference.run import Run

aten = torch.ops.aten
READING = {aten._local_scalar_dense.default, aten.is_nonzero.default, aten.nonzero.default}
SENDING = {torch.tensor, torch.as_tensor, torch.Tensor.new_tensor}
METHODS = ("item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__", "__index__")
CALLS = {getattr(torch.Tensor, name) for name in METHODS} | {torch.equal, torch.allclose}


class Operations(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in READING:
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


class Calls(TorchFunctionMode):
    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        sent = func in SENDING and (kwargs or {}).get("device") is not None
        if func in CALLS or sent:
            self.found.append(func.__name__)
        return func(*args, **(kwargs or {}))


@contextmanager
def watched():
    """Yields the list of what has waited for the device."""
    with Operations() as operations, Calls() as calls:
        found = []
        yield found
    found += operations.found + calls.found


@pytest.fixture
def records(monkeypatch):
    """What each record of a run has waited for, but for the first, in which constants are sent."""
    seen, train = [], Run._train_record

    def record(run, number):
        with watched() if number else nullcontext([]) as found:
            train(run, number)
        seen.append(found)

    monkeypatch.setattr(Run, "_train_record", record)
    return seen


CLASSES = CategoricalLikelihood(3)
PIXELS = (1, 16, 16)
NETWORKS = {
    "factors": lambda: MLP(
        3, [6], prior=SSIG(), likelihood=GaussianLikelihood(), input_inclusion=0.3,
        input_widths=[1, 2, 1],
    ),
    "unequal prior gates": lambda: MLP(
        4, [6, 5], prior=SSGHS(inclusion=(0.2, 0.3)), likelihood=GaussianLikelihood(),
        input_inclusion=[0.1, 0.2, 0.3, 0.4],
    ),
    "lasso": lambda: MLP(4, [6], prior=SSGL(inclusion=0.3), likelihood=GaussianLikelihood()),
    "lenet": lambda: LeNet(
        PIXELS, (3,), (4,), kernel_size=3, prior=SSGHS(inclusion=0.1), likelihood=CLASSES
    ),
    "resnet": lambda: ResNet(
        PIXELS, 8, widths=(2, 2, 4), prior=SSGL(inclusion=0.1), likelihood=CLASSES
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("compile", [False, "trace"])
def test_an_epoch_waits_for_nothing(name, compile, records):
    model, images = NETWORKS[name](), name in ("lenet", "resnet")
    rows = 24
    x = torch.randn(rows, 256) if images else torch.randn(rows, 4)
    y = torch.arange(rows) % 3 if images else torch.randn(rows)
    options = TrainingOptions(
        epochs=3,
        batch_size=8,
        compile=compile,
        clip_norm=1.0,
        temperature=(1.0, 0.5),
        gate_hold=(0, 0),
    )
    augment = ImageAugmentation(PIXELS, erase=0.5) if images else None
    fit(model, x, y, options, augment=augment, progress=False)
    assert len(records) == 3
    assert not any(records)


def test_the_watch_would_notice():
    one = torch.ones(2)
    with watched() as found:
        float(one.sum())
        one.tolist()
        torch.tensor([1.0, 2.0], device=one.device)
        if one.sum() > 0:
            one.cpu()
    assert len(found) >= 5
