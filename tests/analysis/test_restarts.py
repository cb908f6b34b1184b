"""Restarts begin as the run began, from another seed, or are refused with the reason."""

import copy
import warnings
from dataclasses import dataclass, replace

import pytest
import torch

import pyro_ssbnn as ss
from pyro_ssbnn.analysis.diagnostics.selection import continued
from pyro_ssbnn.errors import CollapseWarning, ConfigurationError
from pyro_ssbnn.inference import start
from pyro_ssbnn.inference.several import refitted
from pyro_ssbnn.inference.training_rows import training_rows

X = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
Y = X[:, 0]
SHORT = ss.TrainingOptions(epochs=2, batch_size=20, kl_warmup=0.0)


def net():
    return ss.MLP(
        4,
        [5],
        prior=ss.SSIG(inclusion=0.5),
        likelihood=ss.GaussianLikelihood(),
        input_inclusion=0.4,
    )


def quiet(call, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)
        return call(*args, progress=False, **kwargs)


def begun(guide=None, **kwargs):
    return quiet(ss.fit, net(), X, Y, SHORT, guide=guide, **kwargs)


def from_file(result, folder):
    ss.save_fit(result, folder / "fit.safetensors")
    return ss.load_fit(folder / "fit.safetensors")


def same(one, other):
    return all(torch.equal(v, other.state_dict()[k]) for k, v in one.state_dict().items())


def shifted(x):
    return x + 1.0


@ss.register("shift")
@dataclass(frozen=True)
class Shift:
    """An augmentation of one's own."""

    by: float = 1.0
    family = "augmentation"

    def __call__(self, x):
        return x + self.by

    def to_config(self):
        return {"by": self.by}


def coupled():
    return ss.CoupledGuide(net(), coupled=["hidden1"], initial_inclusion=0.7, initial_scale=0.2)


def warm():
    guide = ss.StructuredGuide(net(), initial_inclusion=0.8)
    guide.start_from({k: torch.full_like(v, 0.3) for k, v in weights(guide).items()})
    return guide


def weights(guide):
    return {group.name: guide.mean_weights(group.name) for group in guide.description.groups}


@pytest.mark.parametrize("saved", [False, True])
@pytest.mark.parametrize("make", [lambda: None, coupled, warm], ids=["default", "coupled", "warm"])
def test_a_restart_is_a_run_with_another_seed(make, saved, tmp_path):
    """The same class, options and first weights; the random numbers are those of the seed."""
    result = begun(make())
    again = from_file(result, tmp_path) if saved else result
    assert again.start.obstacle == ""
    one, two = quiet(refitted, again, training_rows("restart", again.model, X, Y), 2)
    assert (one.options.seed, two.options.seed) == (1, 2)
    assert type(one.guide) is type(result.guide)
    assert one.guide.initial == result.guide.initial
    assert one.guide.to_config() == result.guide.to_config()
    maker = None if make() is None else make().restarted
    expected = quiet(ss.fit, net(), X, Y, replace(SHORT, seed=1), guide=maker)
    assert same(one.guide, expected.guide)
    assert not same(one.guide, two.guide)


def test_a_warm_restart_starts_at_the_weights():
    new = begun(warm()).guide.restarted(net())
    for value in weights(new).values():
        torch.testing.assert_close(value, torch.full_like(value, 0.3))
    assert not torch.equal(
        *(ss.StructuredGuide(net()).restarted(net()).hidden1.weight.loc for _ in range(2))
    )


def test_what_makes_guides_starts_from_the_runs_seed():
    runs = [begun(ss.CoupledGuide) for _ in range(2)]
    assert same(runs[0].guide, runs[1].guide)
    assert runs[0].start.obstacle == ""
    other = ss.MLP(3, [5], prior=ss.SSIG(inclusion=0.5), likelihood=ss.GaussianLikelihood())
    with pytest.raises(ConfigurationError, match="number of predictors is 4 in the network and 3"):
        begun(lambda model: ss.StructuredGuide(other))


class TestAugmentation:
    def test_it_goes_along(self):
        calls = []

        def counted(x):
            calls.append(len(x))
            return x + 1.0

        result = begun(augment=counted)
        before = len(calls)
        (again,) = quiet(refitted, result, training_rows("restart", result.model, X, Y), 1)
        assert len(calls) == 2 * before
        assert again.start.augment is counted
        continued(result, X, Y, share=0.5, temperature=0.5)
        assert len(calls) > 2 * before

    def test_a_registered_one_is_in_the_file(self, tmp_path):
        result = from_file(begun(augment=Shift(2.0)), tmp_path)
        assert result.start == start.Start(Shift(2.0))
        images = ss.ImageAugmentation((1, 2, 2), padding=1)
        assert from_file(begun(augment=images), tmp_path).start.augment == images

    def test_a_function_is_not_and_its_loss_is_told(self, tmp_path):
        result = from_file(begun(augment=shifted), tmp_path)
        with pytest.raises(
            ConfigurationError, match="file does not hold its augmentation, shifted"
        ):
            ss.diagnose(result, X, Y, restarts=2, num_draws=100)
        with pytest.raises(
            ConfigurationError, match="file does not hold its augmentation, shifted"
        ):
            ss.diagnose(result, X, Y, temperatures=[0.3], num_draws=100)
        assert ss.diagnose(result, X, Y, num_draws=100).checks  # nothing is run again
        again = from_file(result, tmp_path)
        assert again.start == result.start


class TestRefusals:
    def reason(self, result):
        """Why the run cannot be run again, from the message that says what to do instead."""
        with pytest.raises(
            ConfigurationError, match=r"cannot be run again .*diagnose\(\["
        ) as error:
            ss.diagnose(result, X, Y, restarts=2, num_draws=100)
        return str(error.value)

    def test_a_guide_trained_before(self):
        assert "its guide had been trained, or changed, before" in self.reason(begun(begun().guide))

    def test_a_guide_changed_by_hand(self, tmp_path):
        guide = ss.StructuredGuide(net())
        torch.nn.init.constant_(guide.hidden1.gate.logits, -1.0)
        result = begun(guide)
        for told in (result, from_file(result, tmp_path)):
            assert "its guide had been trained, or changed" in self.reason(told)

    def test_a_fine_tuned_fit(self):
        result = begun()
        selection = ss.select(result.guide.inclusion(), nodes={"input": 2, "hidden1": 3})
        tuned = quiet(ss.fine_tune, result, X, Y, selection=selection)
        assert "it was fine-tuned" in self.reason(tuned)

    def test_a_guide_that_cannot_be_made_again(self):
        class Fussy(ss.StructuredGuide):
            def __init__(self, model, note):
                super().__init__(model)

        whole = replace(SHORT, remove_below=None)
        result = quiet(ss.fit, net(), X, Y, whole, guide=Fussy(net(), "a note"))
        assert "a new Fussy cannot be made of its options (" in self.reason(result)
        # Nodes that leave make the guide anew, too: said before training, not after hours.
        with pytest.raises(ConfigurationError, match=r"Fussy cannot be made again.*to_config\(\)"):
            begun(Fussy(net(), "a note"))

    def test_a_run_resumed_with_other_options(self):
        result = begun()

        def on(**changes):
            options = replace(SHORT, epochs=3, **changes)
            return quiet(ss.fit, net(), X, Y, options, resume=copy.deepcopy(result))

        assert "it was resumed with other options" in self.reason(on(mean_rate=0.01))
        assert on(patience=5).start.obstacle == ""
        other = quiet(ss.fit, net(), X, Y, SHORT, resume=copy.deepcopy(result), augment=shifted)
        assert "it was resumed with another augmentation" in self.reason(other)


def test_the_checks_of_gates_start_where_the_guide_did():
    report = ss.diagnose(begun(coupled()), X, Y, num_draws=100)
    assert "from inclusion 0.7" in " ".join(check.finding for check in report.checks)
