"""Recorded steps, on the CPU: a recording keeps the operations with the memory they run on, as a CUDA graph does.

What the stand-in shares with CUDA graphs: the work runs several times before; Python does not run again; numbers of
Python are those of the recording; results lie where they lay; random draws go on from the generator.
"""

import logging
import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pyro_ssbnn import (
    MLP,
    SSGHS,
    SSIG,
    AnalyticELBO,
    CategoricalLikelihood,
    GaussianLikelihood,
    ResNet,
    StructuredGuide,
    TrainingOptions,
    fit,
)
from pyro_ssbnn.inference import cuda_graph, optimizer, step
from pyro_ssbnn.inference.cuda_graph import Recording
from pyro_ssbnn.inference.optimizer import RecordedOptimizer
from pyro_ssbnn.inference.step import EagerStep, TracedStep
from pyro_ssbnn.isolation import isolated

CPU = torch.device("cpu")


class Tape(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        self.operations.append((func, args, kwargs, out))
        return out

    def play(self):
        with torch.no_grad():
            for func, args, kwargs, out in self.operations:
                pairs = zip(tree_leaves(func(*args, **kwargs)), tree_leaves(out), strict=True)
                for new, old in pairs:
                    if isinstance(old, torch.Tensor) and new.data_ptr() != old.data_ptr():
                        old.copy_(new)


def taped(work, device):
    for _ in range(cuda_graph._WARMUPS):
        work()
    with Tape() as tape:
        result = work()
    replays = []

    def replay():
        replays.append(1)
        tape.play()

    taped.replays.append(replays)
    return replay, result


@pytest.fixture
def recorded(monkeypatch):
    """Record on the CPU; gives the list of what each recording was replayed."""
    taped.replays = []
    monkeypatch.setattr(cuda_graph, "_recorded", taped)
    for module in (step, optimizer):
        monkeypatch.setattr(module, "records", lambda device: True)
    return taped.replays


def test_a_recording_changes_nothing_and_goes_on_from_the_generator(recorded):
    total = torch.zeros(3)

    def work():
        return total.add_(torch.randn(3))

    torch.manual_seed(5)
    state = torch.get_rng_state()
    recording = Recording(work, [total], CPU)
    assert torch.equal(torch.get_rng_state(), state)
    assert not total.any()
    for _ in range(2):
        recording.replay()
    torch.manual_seed(5)
    assert torch.equal(recording.result, torch.randn(3) + torch.randn(3))


@pytest.mark.usefixtures("needs_same_sums")
@pytest.mark.parametrize("name", ["mlp", "resnet"])
def test_a_replayed_step_is_the_eager_one_bit_by_bit(name, recorded):
    found = []
    for kind in (EagerStep, TracedStep):
        torch.manual_seed(0)
        if name == "mlp":
            model = MLP(16, [6], prior=SSGHS(), likelihood=CategoricalLikelihood(3))
        else:
            model = ResNet(
                (1, 4, 4), 8, widths=(2, 2, 2), prior=SSIG(), likelihood=CategoricalLikelihood(3)
            )
        guide = StructuredGuide(model)
        data = torch.randn(5, 8, 16), torch.arange(40).view(5, 8) % 3
        one = kind(model, guide, AnalyticELBO(), 100)
        with isolated(3, data[0], grad=True):
            rows = []
            for x, y, weight in zip(*data, torch.linspace(0, 1, 5), strict=True):
                rows += [one(x, y, weight), *(p.grad.clone() for p in guide.parameters())]
        found.append([*rows, *model.state_dict().values()])
    assert [len(replays) for replays in recorded] == [5]
    for eager, replayed in zip(*found, strict=True):
        assert torch.equal(eager, replayed)


@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"optimizer": "sgd", "mean_rate": 0.01, "clip_norm": 1.0, "milestones": (0.4, 0.8)},
        {"gate_hold": (0.3, 0.5), "gate_method": "gradient", "temperature": (1.0, 0.5)},
        {"batch_size": 64},
    ],
    ids=["adam", "sgd", "held gates", "full batches"],
)
def test_a_replayed_fit_is_the_same_but_for_rounding_of_rates(chosen, recorded, monkeypatch):
    torch.manual_seed(0)
    x = torch.randn(64, 4)
    y = x[:, 0] + 0.1 * torch.randn(64)
    model = MLP(
        4, [6], prior=SSIG(inclusion=0.3), likelihood=GaussianLikelihood(), input_inclusion=0.3
    )
    options = {
        "epochs": 30, "batch_size": 16, "gate_hold": (0, 0), "compile": "trace", "remove_below": None, **chosen
    }  # fmt: skip
    fits = {
        graphs: fit(model, x, y, TrainingOptions(**options, cuda_graphs=graphs), progress=False)
        for graphs in (True, False)
    }
    steps = 30 * (64 // options["batch_size"])
    of_step, *of_optimizer = [len(replays) for replays in recorded]
    assert of_step == steps
    # The first step after each change of what moves is not replayed.
    changes = 3 if options["gate_hold"] != (0, 0) else 1
    assert sum(of_optimizer) == steps - changes
    states = [fits[graphs].guide.state_dict() for graphs in (True, False)]
    for name in states[0]:
        assert torch.allclose(states[0][name], states[1][name], rtol=1e-3, atol=1e-4), name
    assert fits[True].history.elbo == pytest.approx(fits[False].history.elbo, rel=1e-3)


def test_a_fit_that_shrinks_and_resumes_is_replayed_too(recorded):
    torch.manual_seed(1)
    x = torch.randn(64, 6)
    y = x[:, 0] + 0.1 * torch.randn(64)
    model = MLP(
        6, [8], prior=SSIG(inclusion=0.01), likelihood=GaussianLikelihood(), input_inclusion=0.1
    )
    chosen = {"batch_size": 32, "gate_rate": 0.3, "compile": "trace", "screen": False}
    whole = fit(model, x, y, TrainingOptions(epochs=80, **chosen), progress=False)
    assert whole.history.removed
    assert math.isfinite(whole.history.elbo[-1])
    part = fit(model, x, y, TrainingOptions(epochs=40, **chosen), progress=False)
    again = fit(model, x, y, TrainingOptions(epochs=50, **chosen), resume=part, progress=False)
    assert len(again.history) == 50
    assert (
        sum(map(len, recorded)) > 2 * 2 * (80 + 50) - 40
    )  # steps of both, and of their optimizers


def test_what_cannot_be_recorded_is_run_as_it_is(recorded, monkeypatch, caplog):
    def refuse(work, device):
        work()
        raise RuntimeError("not permitted when stream is capturing")

    monkeypatch.setattr(cuda_graph, "_recorded", refuse)
    x = torch.randn(32, 4)
    model = MLP(4, [6], prior=SSIG(), likelihood=GaussianLikelihood())
    options = {"epochs": 5, "batch_size": 16, "compile": "trace"}
    caplog.set_level(logging.WARNING)
    fits = [
        fit(model, x, x[:, 0], TrainingOptions(**options, cuda_graphs=graphs), progress=False)
        for graphs in (True, False)
    ]
    assert "cannot be recorded as a CUDA graph: not permitted" in caplog.text
    assert fits[0].history.elbo == pytest.approx(fits[1].history.elbo, rel=0)


def test_an_optimizer_of_eager_steps_records_nothing(recorded):
    weight = torch.nn.Parameter(torch.ones(3))
    adam = RecordedOptimizer([optimizer.FusedAdam([weight], fused=True)])
    for _ in range(4):
        adam.zero_grad()
        weight.square().sum().backward()
        adam.step()
    assert recorded == []
