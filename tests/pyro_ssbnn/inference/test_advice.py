"""What fit says unasked, and when it keeps silent."""

import warnings

import pytest
import torch

from pyro_ssbnn import MLP, SSIG, GaussianLikelihood, PoissonLikelihood, TrainingOptions, fit
from pyro_ssbnn.errors import MisfitWarning, ShortRunWarning
from pyro_ssbnn.inference.advice import warn_of_short_run
from pyro_ssbnn.inference.holding import settled_options

SHORT = TrainingOptions(epochs=2, compile=False)


def network(likelihood=None, inclusion=0.3):
    likelihood = likelihood or GaussianLikelihood()
    return MLP(3, [4], prior=SSIG(inclusion=inclusion), likelihood=likelihood)


def data(num_data=60):
    x = torch.randn(num_data, 3, generator=torch.Generator().manual_seed(0))
    return x, x[:, 0].clone()


def test_data_on_unit_scale_are_taken_in_silence():
    x, y = data()
    x[:, 2] = 0.0  # a constant column, such as a pixel that is always dark
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        fit(network(), x, y, SHORT, progress=False)
    assert {each.category for each in said} <= {ShortRunWarning}


@pytest.mark.parametrize(("scale", "shift"), [(1e4, 0.0), (1.0, 3e5), (1e4, 3e5), (1e-3, 0.0)])
def test_a_target_far_from_unit_scale_is_named(scale, shift):
    x, y = data()
    with pytest.warns(MisfitWarning, match="y is far from unit scale"):
        fit(network(), x, scale * y + shift, SHORT, progress=False)


def test_predictors_far_from_unit_scale_are_named():
    x, y = data()
    x[:, 1] *= 1e3
    with pytest.warns(MisfitWarning, match=r"1 of 3 columns of x .*\(x2\)"):
        fit(network(), x, y, SHORT, progress=False)


def test_counts_have_no_unit_scale():
    x, _ = data()
    y = torch.poisson(torch.full((60,), 900.0), generator=torch.Generator().manual_seed(0))
    likelihood = PoissonLikelihood(unit=900.0)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        fit(network(likelihood), x, y, SHORT, progress=False)
    assert not [each for each in said if "unit scale" in str(each.message)]


def test_counts_that_vary_more_than_poisson_counts_are_noticed():
    """Gamma-mixed with shape 1.3 and mean 16: the variance is 16 + 16^2 / 1.3, 13 times the mean."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(150, 3, generator=generator)
    torch.manual_seed(0)
    rate = torch.distributions.Gamma(1.3, 1.3 / 16).sample((150,))
    likelihood = PoissonLikelihood(unit=16.0)
    options = TrainingOptions(epochs=130, compile=False, gate_hold=(0.0, 0.0))
    with pytest.warns(MisfitWarning, match="NegativeBinomialLikelihood"):
        fit(
            network(likelihood),
            x,
            torch.poisson(rate, generator=generator),
            options,
            progress=False,
        )
    with warnings.catch_warnings():
        warnings.simplefilter("error", MisfitWarning)
        counts = torch.poisson(torch.full((150,), 16.0), generator=generator)
        fit(network(likelihood), x, counts, options, progress=False)


def test_gates_without_the_steps_to_close_are_named():
    """500 full batches at the rate 0.005: 2.5 in log-odds at most, of the 2.9 from 0.95 to 1/2."""
    still = {"batch_size": 60, "gate_rate": 0.005, "kl_warmup": 0.0, "decay_after": 1.0}
    model = network()
    with pytest.warns(ShortRunWarning, match=r"by 2.9; they can move by 2.5"):
        warn_of_short_run(model, TrainingOptions(epochs=500, **still), 60)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ShortRunWarning)
        warn_of_short_run(model, TrainingOptions(epochs=700, **still), 60)
        warn_of_short_run(model, settled_options(TrainingOptions(), model.description, 60), 60)


def test_gates_that_move_by_ascent_close_in_short_runs_too():
    selects = MLP(3, [4], prior=SSIG(), likelihood=GaussianLikelihood(), input_inclusion=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ShortRunWarning)
        for epochs in (None, 300):
            settled = settled_options(TrainingOptions(epochs=epochs), selects.description, 60)
            warn_of_short_run(selects, settled, 60)
    with pytest.warns(ShortRunWarning, match="by 5.3; they can move by 4"):
        warn_of_short_run(
            selects, settled_options(TrainingOptions(epochs=40), selects.description, 60), 60
        )
