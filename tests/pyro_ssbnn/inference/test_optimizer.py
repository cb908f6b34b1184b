"""Gradient descent with momentum beside Adam, and the schedules of the rates."""

import math
import warnings
from copy import deepcopy

import pytest
import torch

from pyro_ssbnn import (
    MLP,
    SSGHS,
    GaussianLikelihood,
    StructuredGuide,
    TrainingOptions,
    fit,
    load_fit,
    save_fit,
)
from pyro_ssbnn.errors import CollapseWarning, ConfigurationError
from pyro_ssbnn.inference.optimizer import FusedAdam, optimizer_of
from pyro_ssbnn.inference.schedule import rate_factor, set_rates

CPU = torch.device("cpu")
SGD = {"optimizer": "sgd", "mean_rate": 0.02, "momentum": 0.9}


def network():
    prior = SSGHS(inclusion=0.05)
    return MLP(6, [20], prior=prior, likelihood=GaussianLikelihood(), input_inclusion=0.1)


def gradients(guide, seed):
    generator = torch.Generator().manual_seed(seed)
    for parameter in guide.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


class TestFusedAdam:
    @pytest.mark.parametrize("weight_decay", [0.0, 0.01])
    def test_it_is_torchs_adam_bit_by_bit(self, weight_decay):
        guides = [StructuredGuide(network()) for _ in range(2)]
        guides[1].load_state_dict(guides[0].state_dict())
        optimizers = []
        for guide, kind in zip(guides, (FusedAdam, torch.optim.Adam), strict=True):
            groups = [
                {"params": parameters, "lr": 0.01 * (place + 1)}
                for place, parameters in enumerate(guide.parameter_groups().values())
            ]
            optimizers.append(kind(groups, weight_decay=weight_decay, fused=True))
        for seed in range(5):
            for guide, optimizer in zip(guides, optimizers, strict=True):
                gradients(guide, seed)
                optimizer.step()
        for name, value in guides[0].state_dict().items():
            assert torch.equal(value, guides[1].state_dict()[name]), name
        mine, theirs = (optimizer.state_dict()["state"] for optimizer in optimizers)
        assert mine.keys() == theirs.keys()
        for index, slots in mine.items():
            assert all(torch.equal(slots[key], theirs[index][key]) for key in theirs[index])

    def test_a_group_of_rate_zero_waits_and_begins_anew(self):
        values = [torch.nn.Parameter(torch.ones(3)) for _ in range(3)]
        optimizer = FusedAdam([{"params": [v], "lr": 0.1} for v in values[:2]], fused=True)
        late = torch.optim.Adam([{"params": [values[2]], "lr": 0.1}], fused=True)
        optimizer.param_groups[1]["lr"] = 0.0
        for step in range(6):
            for value in values:
                value.grad = torch.full((3,), 1.0 + step)
            optimizer.param_groups[1]["lr"] = 0.1 if step >= 3 else 0.0
            optimizer.step()
            if step >= 3:
                late.step()
            else:
                assert (values[1] == 1).all()
        assert torch.equal(values[1], values[2])
        assert not torch.equal(values[0], values[1])

    def test_parameters_without_gradients_stay(self):
        values = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
        optimizer = FusedAdam(values, lr=0.1, fused=True)
        values[0].grad = torch.ones(2)
        optimizer.step()
        assert (values[0] != 1).all()
        assert (values[1] == 1).all()


class TestJointOptimizer:
    def test_means_move_as_under_torchs_sgd_and_the_rest_as_under_adam(self):
        """The same gradients, the reference implementations without fused kernels."""
        options = TrainingOptions(**SGD, scale_rate=0.03, latent_rate=0.05, gate_rate=0.01)
        guide, reference = StructuredGuide(network()), StructuredGuide(network())
        reference.load_state_dict(guide.state_dict())
        ours = optimizer_of(guide, options, 100, CPU)
        kinds = reference.parameter_groups()
        means = [p for kind, ps in kinds.items() if kind.startswith("means.") for p in ps]
        theirs = [
            torch.optim.SGD(means, lr=0.02, momentum=0.9),
            torch.optim.Adam(kinds["log_scales"], lr=0.03),
            torch.optim.Adam(kinds["latents"], lr=0.05),
            torch.optim.Adam(kinds["gates.input"] + kinds["gates.hidden1"], lr=0.01),
        ]
        for seed in range(5):
            for g in (guide, reference):
                gradients(g, seed)
            ours.step()
            for optimizer in theirs:
                optimizer.step()
        for name, value in reference.state_dict().items():
            torch.testing.assert_close(guide.state_dict()[name], value, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("momentum", [0.9, 0.0])
    def test_state_round_trips_bit_by_bit(self, momentum):
        options = TrainingOptions(**{**SGD, "momentum": momentum})
        guide = StructuredGuide(network())
        first = optimizer_of(guide, options, 100, CPU)
        gradients(guide, 0)
        first.step()
        copy = StructuredGuide(network())
        copy.load_state_dict(guide.state_dict())
        second = optimizer_of(copy, options, 100, CPU)
        second.load_state_dict(deepcopy(first.state_dict()))  # torch shares the tensors
        for g, optimizer in ((guide, first), (copy, second)):
            gradients(g, 1)
            optimizer.step()
        for name, value in guide.state_dict().items():
            assert torch.equal(value, copy.state_dict()[name]), name

    def test_state_is_numbered_like_that_of_one_optimizer(self):
        """So that files and shrinking networks need not know how many optimizers there are."""
        guide = StructuredGuide(network())
        states = []
        for options in (TrainingOptions(), TrainingOptions(**SGD)):
            optimizer = optimizer_of(guide, options, 100, CPU)
            gradients(guide, 0)
            optimizer.step()
            states.append(optimizer.state_dict())
        adam, sgd = states
        assert adam["state"].keys() == sgd["state"].keys()
        assert [g["params"] for g in adam["param_groups"]] == [
            g["params"] for g in sgd["param_groups"]
        ]
        assert set(sgd["state"][0]) == {"momentum_buffer"}

    def test_a_foreign_state_is_refused(self):
        guide = StructuredGuide(network())
        optimizer = optimizer_of(guide, TrainingOptions(**SGD), 100, CPU)
        state = optimizer.state_dict()
        state["param_groups"].pop()
        with pytest.raises(ValueError, match="5 parameter groups, where 6 were expected"):
            optimizer.load_state_dict(state)

    def test_zero_grad_forgets_all_gradients(self):
        guide = StructuredGuide(network())
        gradients(guide, 0)
        optimizer_of(guide, TrainingOptions(**SGD), 100, CPU).zero_grad()
        assert all(p.grad is None for p in guide.parameters())


class TestSchedules:
    def factors(self, epochs, **options):
        options = TrainingOptions(**options)
        return [rate_factor(options, e / (epochs - 1)) for e in range(epochs)]

    def test_milestones_cut_at_the_epochs_they_name(self):
        """The published recipe: 300 epochs, a tenth from epoch 150 and from epoch 225 on (counted from 0)."""
        found = self.factors(300, milestones=(0.5, 0.75))
        assert found == pytest.approx([1.0] * 150 + [0.1] * 75 + [0.01] * 75)

    def test_constant_then_cosine(self):
        found = self.factors(101, decay_after=0.5)
        assert found[:51] == [1.0] * 51
        assert found[75] == pytest.approx(0.01 + 0.99 / 2)
        assert found[-1] == pytest.approx(0.01)

    def test_plain_cosine_and_no_decay(self):
        plain = self.factors(101, decay_after=0.0)
        expected = [0.01 + 0.99 * (1 + math.cos(math.pi * e / 100)) / 2 for e in range(101)]
        assert plain == pytest.approx(expected)
        assert self.factors(5, decay_after=1.0) == [1.0] * 5

    def test_all_groups_follow(self):
        options = TrainingOptions(**SGD, scale_rate=0.03, gate_rate=0.01, milestones=(0.5,))
        optimizer = optimizer_of(StructuredGuide(network()), options, 100, CPU)
        set_rates(optimizer.param_groups, rate_factor(options, 0.6))
        rates = [group["lr"] for group in optimizer.param_groups]
        assert rates == pytest.approx([0.002, 0.002, 0.003, 0.003, 0.001, 0.001])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": "lbfgs"}, "optimizer must be 'adam' or 'sgd'; got 'lbfgs'"),
        ({"momentum": 1.0}, r"momentum must be within \[0, 1\)"),
        ({"milestones": (0.7, 0.5)}, "milestones must be rising fractions"),
        ({"milestones": (0.0, 0.5)}, "milestones must be rising fractions"),
        ({"milestone_factor": 0.0}, r"milestone_factor must be within \(0, 1\]"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ConfigurationError, match=message):
        TrainingOptions(**options)


def test_options_round_trip():
    options = TrainingOptions(**SGD, milestones=[0.5, 0.75], temperature=[0.6, 0.4])
    assert options.milestones == (0.5, 0.75)
    assert TrainingOptions(**options.to_config()) == options


def quiet_fit(callback=None, resume=None, epochs=60, **options):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 6, generator=generator)
    y = x[:, 0] - x[:, 1] + 0.1 * torch.randn(200, generator=generator)
    chosen = {"batch_size": 40, "scale_rate": 0.05, "gate_rate": 0.05, "kl_warmup": 0.3}
    chosen |= {
        "gate_hold": (0.0, 0.0),
        "clip_norm": 1.0,
        "milestones": (0.5, 0.8),
        **SGD,
        **options,
        "epochs": epochs,
    }
    model = network() if resume is None else resume.model
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)
        return fit(
            *(model, x, y, TrainingOptions(**chosen)),
            progress=False,
            callback=callback,
            resume=resume,
        )


def test_networks_shrink_and_resume_bit_by_bit_with_momentum(tmp_path):
    whole = quiet_fit()
    epochs = sorted({r.epoch for r in whole.history.removed})
    assert len(epochs) > 1, "the run must have lost members before and after the interruption"

    class StopError(Exception):
        pass

    def stop(epoch, result):
        if epoch == epochs[0]:
            save_fit(result, tmp_path / "fit.safetensors")
            raise StopError

    with pytest.raises(StopError):
        quiet_fit(callback=stop)
    resumed = quiet_fit(resume=load_fit(tmp_path / "fit.safetensors"))
    assert resumed.history.kl == whole.history.kl
    for name, value in whole.guide.state_dict().items():
        assert torch.equal(value, resumed.guide.state_dict()[name]), name
    buffers = [s["momentum_buffer"] for s in list(whole.optimizer_state["state"].values())[:2]]
    gone = [r.node for r in whole.history.removed if r.group == "hidden1"]
    assert buffers[0].shape == (20, 7)
    assert (buffers[0][gone] == 0).all()
    assert (buffers[0] != 0).any(1).sum() == 20 - len(gone)


def test_a_run_is_not_resumed_by_another_optimizer():
    begun = quiet_fit(epochs=1)
    with pytest.raises(
        ConfigurationError, match=r"cannot change optimizer='adam' \(it used 'sgd'\)"
    ):
        quiet_fit(resume=begun, optimizer="adam")
