"""The theory's layer-wise quantities: by hand, monotone, and as n grows."""

import itertools
import math

import pytest
import torch

from pyro_ssbnn import MLP, SSIG, CategoricalLikelihood, GaussianLikelihood, LeNet, select
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.priors import theory_inclusion
from pyro_ssbnn.theory import (
    contraction_rate,
    effective_sparsity,
    layer_theta,
    layer_u,
    layer_widths,
    observations_needed,
    sparsity_ratios,
)

WIDTHS = [3, 4, 2, 1]
N = 100


def test_u_and_theta_by_hand():
    """L = 2: u_l = 9 (log 100 + log 3 + log(k_l + 1) + log k_{l+1})."""
    log = math.log
    u = [9 * log(100 * 3 * 4 * 4), 9 * log(100 * 3 * 5 * 2), 9 * log(100 * 3 * 3 * 1)]
    assert layer_u(WIDTHS, N) == pytest.approx(u)
    total = log(sum(u))
    theta = [
        16 + log(5) + log(3) + 2 + log(4) + log(4) + log(100) + total,
        25 + log(4) + log(3) + 2 + log(2) + log(5) + log(100) + total,
        9 + log(4) + log(5) + 2 + log(1) + log(3) + log(100) + total,
    ]
    assert layer_theta(WIDTHS, N) == pytest.approx(theta)


def test_inclusion_comes_from_the_same_theta():
    theta = layer_theta(WIDTHS, N)
    expected = [math.exp(-1e-3 * 4 * theta[0]) / 4, math.exp(-1e-3 * 5 * theta[1]) / 2]
    assert theory_inclusion(WIDTHS, N, constant=1e-3) == pytest.approx(expected)


def test_ratios_and_rate_by_hand():
    """The output layer counts with all its nodes."""
    theta = layer_theta(WIDTHS, N)
    ratios = [2 * 4 * theta[0] / 100, 1 * 5 * theta[1] / 100, 1 * 3 * theta[2] / 100]
    assert sparsity_ratios(WIDTHS, [2, 1], N) == pytest.approx(ratios)
    rate = math.sqrt((sum(ratios) + 0.3) * sum(layer_u(WIDTHS, N)))
    assert contraction_rate(WIDTHS, [2, 1], N, 0.3) == pytest.approx(rate)


def test_the_rate_rises_with_sparsity_and_approximation_error_and_falls_with_n():
    rate = contraction_rate(WIDTHS, [2, 1], N)
    assert contraction_rate(WIDTHS, [3, 1], N) > rate
    assert contraction_rate(WIDTHS, [2, 2], N) > rate
    assert contraction_rate(WIDTHS, [2, 1], N, 0.01) > rate
    rates = [contraction_rate(WIDTHS, [2, 1], 10**k) for k in range(2, 9)]
    assert all(a > b for a, b in itertools.pairwise(rates))


def test_without_approximation_error_the_rate_is_root_n_up_to_logarithms():
    """n eps^2 / log(n)^2 tends to a constant: theta and u grow like log n."""

    def scaled(n):
        return n * contraction_rate([5, 4, 1], [2], n) ** 2 / math.log(n) ** 2

    # theta = theta_0 + log n + log log n: still (k + 1)^2 against log n, hence the slow approach
    values = [scaled(10.0**k) for k in (50, 100, 200, 280)]
    steps = [abs(a / b - 1) for a, b in itertools.pairwise(values)]
    assert steps == sorted(steps, reverse=True)
    assert steps[-1] < 0.1


def test_with_approximation_error_the_rate_does_not_vanish():
    assert contraction_rate(WIDTHS, [2, 1], 10**12, 0.5) > math.sqrt(0.5 * sum(layer_u(WIDTHS, N)))


def test_ratios_fall_like_log_n_over_n():
    small, large = sparsity_ratios(WIDTHS, [2, 1], 10**3), sparsity_ratios(WIDTHS, [2, 1], 10**6)
    for a, b in zip(small, large, strict=True):
        assert 1e-3 < b / a < 2e-3


def test_sparsity_of_a_fit_is_the_number_of_nodes_kept():
    net = MLP(3, [4, 2], prior=SSIG(), likelihood=GaussianLikelihood(), input_inclusion=0.5)
    inclusion = {
        "input": torch.tensor([0.9, 0.1, 0.1]),
        "hidden1": torch.tensor([0.9, 0.8, 0.2, 0.7]),
        "hidden2": torch.tensor([0.1, 0.6]),
    }
    assert effective_sparsity(net.description, select(inclusion)) == [3, 1]
    del inclusion["hidden2"]  # as for an ungated layer
    assert effective_sparsity(net.description, select(inclusion)) == [3, 2]


@pytest.mark.parametrize("bound", [0.01, 1.0, 5.0])
@pytest.mark.parametrize("sparsity", [[1, 1], [4, 2]])
def test_so_many_observations_suffice_and_one_less_does_not(sparsity, bound):
    n = observations_needed(WIDTHS, sparsity, bound)
    assert max(sparsity_ratios(WIDTHS, sparsity, n)) <= bound
    assert max(sparsity_ratios(WIDTHS, sparsity, n - 1)) > bound


def test_ratios_fall_from_the_first_observation_on():
    """The output layer has the smallest theta; this is what the search for n rests on."""
    for widths in ([1, 1, 1], WIDTHS):
        sparsity = widths[1:-1]
        ratios = [sparsity_ratios(widths, sparsity, n) for n in range(1, 200)]
        for layer in zip(*ratios, strict=True):
            assert all(a > b for a, b in itertools.pairwise(layer))


def test_a_bound_beyond_the_first_ratio_needs_one_observation():
    assert observations_needed(WIDTHS, [1, 1], 1e9) == 1


def test_widths_of_a_network():
    net = MLP(3, [4, 2], prior=SSIG(), likelihood=GaussianLikelihood())
    assert layer_widths(net.description) == WIDTHS
    images = LeNet((1, 12, 12), [2], [3], prior=SSIG(), likelihood=CategoricalLikelihood(2))
    with pytest.raises(ConfigurationError, match="those of perceptrons"):
        layer_widths(images.description)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: layer_u([3, 1], N), "at least one hidden layer"),
        (lambda: layer_theta([3, 0, 1], N), "every width positive"),
        (lambda: layer_u(WIDTHS, 0), "number of observations"),
        (lambda: sparsity_ratios(WIDTHS, [2], N), "one number between 0 and its width"),
        (lambda: sparsity_ratios(WIDTHS, [5, 1], N), "one number between 0 and its width"),
        (lambda: observations_needed(WIDTHS, [2, 1], 0.0), "bound must be positive"),
        (lambda: contraction_rate(WIDTHS, [2, 1], N, -0.1), "a squared error"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ConfigurationError, match=message):
        call()
