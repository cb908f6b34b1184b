"""The tolerance covers what rounding does, at every size and activation, and little more."""

from itertools import pairwise

import pytest
import torch

from pyro_ssbnn.files.rounding import rounding_tolerance
from pyro_ssbnn.models import ACTIVATIONS, MLP, CompactLinear, CompactNetwork


def network(widths, activation="tanh", draws=(), index=None, dtype=torch.float32):
    generator = torch.Generator().manual_seed(3)
    layers = [
        CompactLinear(
            torch.randn(*draws, out, fan_in, generator=generator, dtype=dtype) / fan_in**0.5,
            torch.randn(*draws, out, generator=generator, dtype=dtype),
        )
        for fan_in, out in pairwise(widths)
    ]
    kept = {f"hidden{i + 1}": torch.arange(width) for i, width in enumerate(widths[1:-1])}
    return perceptron(layers, activation, kept, None if index is None else 7, index)


def perceptron(layers, activation, kept, size=None, index=None):
    named = dict(zip([*kept, "output"], layers, strict=True))
    shape = {"depth": len(kept)}
    return CompactNetwork(
        MLP, named, activation, kept, shape=shape, num_inputs=size, input_index=index
    )


@pytest.mark.parametrize("draws", [(), (3,)])
@pytest.mark.parametrize("widths", [(1, 1), (5, 4, 3, 2), (300, 40, 20, 10)])
@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_single_precision_is_within_the_tolerance_of_double(activation, widths, draws):
    net = network(widths, activation, draws)
    x = torch.randn(50, widths[0])
    found, tolerance = net(x).double(), rounding_tolerance(net, x)
    exact = net.double()(x.double())
    assert tolerance.shape == found.shape
    assert tolerance.dtype == torch.float64
    assert ((found - exact).abs() <= tolerance).all()


def test_tolerance_is_small_enough_to_notice_a_changed_weight():
    net, x = network((300, 40, 20, 10)), torch.randn(50, 300)
    before, tolerance = net(x), rounding_tolerance(net, x)
    net.layers.hidden1.weight[0, 0] += 0.05  # of 12,000, each of size 0.06
    assert ((net(x) - before).abs() > tolerance).any()


def test_tolerance_grows_with_the_unit_roundoff_and_the_terms():
    x = torch.randn(20, 8, dtype=torch.float64)
    net = network((8, 6, 2), dtype=torch.float64)
    double = rounding_tolerance(net, x)
    single = rounding_tolerance(net.float(), x.float())
    ratio = torch.finfo(torch.float32).eps / torch.finfo(torch.float64).eps
    # The simulation itself is rounded to double.
    torch.testing.assert_close(single / double, torch.full_like(double, ratio), rtol=0.02, atol=0)
    # One layer without bias, equal terms: sqrt(2 (n + 1)) u n sigmas.
    values = []
    for terms in (10, 1000):
        layer = CompactLinear(torch.ones(1, terms), torch.zeros(1))
        flat = perceptron([layer], "relu", {})
        values.append(rounding_tolerance(flat, torch.ones(1, terms)).item() / terms)
    assert values[1] / values[0] == pytest.approx((1001 / 11) ** 0.5)


def test_predictors_that_were_removed_do_not_count():
    net = network((3, 4, 1), index=torch.tensor([0, 2, 5]))
    x = torch.randn(9, 7)
    expected = rounding_tolerance(network((3, 4, 1)), x[:, [0, 2, 5]])
    assert torch.equal(rounding_tolerance(net, x), expected)
