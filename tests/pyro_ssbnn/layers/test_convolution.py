"""The convolution of gated filters against torch's own, draw by draw, and its local reparameterisation."""

import pyro
import pytest
import torch
from pyro import poutine
from torch.nn.functional import conv2d, max_pool2d

from pyro_ssbnn import SSGHS, SSGL
from pyro_ssbnn.distributions import GatedNormal
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.layers import (
    ConvolutionGeometry,
    FusiblePooling,
    GroupConv2d,
    LocalReparameterization,
    convolution,
    convolve,
    max_pool,
)
from pyro_ssbnn.structure.groups import NodeGroup

GEOMETRIES = [
    ConvolutionGeometry(3),
    ConvolutionGeometry(1),
    ConvolutionGeometry(3, stride=2, padding=1),
    ConvolutionGeometry(2, stride=1, padding=2, dilation=3),
]
CHANNELS, SIZE = 2, 4


@pytest.fixture(params=GEOMETRIES, ids=str)
def geometry(request):
    return request.param


def images(*lead):
    return torch.randn(*lead, CHANNELS, 9, 8, dtype=torch.float64)


def weights(geometry, *lead):
    return torch.randn(*lead, SIZE, CHANNELS * geometry.kernel_size**2 + 1, dtype=torch.float64)


def torchs(x, weight, geometry):
    side = geometry.kernel_size
    kernel = weight[:, :-1].reshape(SIZE, CHANNELS, side, side)
    return conv2d(x, kernel, weight[:, -1], geometry.stride, geometry.padding, geometry.dilation)


def test_it_is_torchs_convolution_with_channel_major_columns(geometry):
    x, weight = images(5), weights(geometry)
    f = convolution(x, weight, geometry)
    torch.testing.assert_close(f, torchs(x, weight, geometry), rtol=0, atol=1e-13)
    assert f.shape[-2:] == geometry.output_size(9, 8)


@pytest.mark.parametrize(
    ("maps", "draws"),
    [((), (3,)), ((3,), (3,)), ((3,), ()), ((3,), (1,)), ((2, 1), (1, 3)), ((), (2, 3))],
)
def test_draws_at_once_equal_a_loop(geometry, maps, draws):
    x, weight = images(*maps, 5), weights(geometry, *draws)
    lead = torch.broadcast_shapes(maps, draws)
    xs = x.expand(*lead, *x.shape[-4:]).flatten(0, -5)
    us = weight.expand(*lead, *weight.shape[-2:]).flatten(0, -3)
    loop = torch.stack([torchs(a, b, geometry) for a, b in zip(xs, us, strict=True)])
    f = convolution(x, weight, geometry)
    assert f.shape == (*lead, 5, SIZE, *geometry.output_size(9, 8))
    torch.testing.assert_close(f.reshape(loop.shape), loop, rtol=0, atol=1e-12)


def test_pooling_that_compilers_fuse_is_max_pooling_also_where_pixels_tie():
    x = (
        torch.randint(3, (2, 3, 5, 7)).double().requires_grad_()
    )  # few values: many ties; odd sides: a border is left
    weight = torch.randn(2, 3, 2, 3, dtype=torch.float64)
    pooled = max_pool(x, 2)
    with FusiblePooling():
        fused = max_pool(x, 2)
    with torch.no_grad():
        without_gradient = max_pool(x, 2)
    assert torch.equal(pooled, fused)
    assert torch.equal(pooled, without_gradient)
    (gradient,) = torch.autograd.grad((weight * pooled).sum(), x)
    (fused_gradient,) = torch.autograd.grad((weight * fused).sum(), x)
    assert torch.equal(gradient, fused_gradient)


def test_max_pool_of_many_draws():
    x = torch.randn(3, 5, 2, 7, 6)
    loop = torch.stack([max_pool2d(draw, 2) for draw in x])
    assert torch.equal(max_pool(x, 2), loop)


def slab(geometry, particles=None):
    weight = weights(geometry)
    fn = GatedNormal(
        weight,
        0.3 * torch.randn_like(weight) - 1,
        torch.ones(SIZE, 1).double(),
        torch.ones(SIZE, 1).double(),
        torch.tensor(1.0).double(),
    )
    return fn if particles is None else fn.expand([particles, SIZE])


def reparameterized(x, fn, geometry):
    with LocalReparameterization():
        weight = pyro.sample("u", fn)
        return convolution(x, weight, geometry)


class TestLocalReparameterization:
    def test_mean_and_variance_are_those_of_drawn_weights(self, geometry, check_mean):
        """Padding zeros contribute no variance, the bias does at every position."""
        fn, x = slab(geometry), images(1)
        drawn = convolution(x, fn.rsample((20_000,)), geometry)
        local = reparameterized(x.expand(20_000, -1, -1, -1), fn, geometry).unsqueeze(1)
        mean = convolution(x, fn.loc, geometry)
        variance = convolution(x.square(), fn.scale.square(), geometry)
        for samples in (drawn, local):
            check_mean(samples, mean)
            check_mean((samples - mean).square(), variance)

    def test_at_a_padded_corner_only_what_is_seen_counts(self):
        geometry = ConvolutionGeometry(3, padding=2)
        fn, x = slab(geometry), images(1)
        variance = convolution(x.square(), fn.scale.square(), geometry)[0, :, 0, 0]
        seen = torch.tensor([8, 17])  # the kernels' last entries lie on the image's first pixels
        expected = fn.scale[:, seen].square() @ x[0, :, 0, 0].square() + fn.scale[:, -1].square()
        torch.testing.assert_close(variance, expected)

    def test_particles_have_draws_of_their_own(self, geometry, check_mean):
        fn, x = slab(geometry, particles=3), images(2)
        with pyro.plate("particles", 3, dim=-2), pyro.plate("nodes", SIZE, dim=-1):
            f = reparameterized(x, fn, geometry)
        assert f.shape[:3] == (3, 2, SIZE)
        assert not torch.equal(f[0], f[1])


@pytest.mark.parametrize("prior", [SSGL(inclusion=0.5), SSGHS(inclusion=0.5)], ids=lambda p: p.name)
def test_the_amplitude_multiplies_channels(prior, geometry):
    """z t (u * x) is the convolution by the effective weights w = z t u, draw by draw."""
    fan_in = CHANNELS * geometry.kernel_size**2
    group = NodeGroup("conv1", SIZE, 0.5, fan_in, prior, "input", geometry.kernel_size**2)
    layer, x = GroupConv2d(group, geometry), images(5)
    with pyro.plate("draws", 3, dim=-2):
        shared = prior.sample_shared("global", x)
        trace = poutine.trace(layer).get_trace(x, shared)
    values = {name: site["value"] for name, site in trace.nodes.items() if "value" in site}
    local = {
        key: values[f"conv1.{key}"]
        for key in ("variance", "scale_a", "scale_b")
        if f"conv1.{key}" in values
    }
    amplitude = values["conv1.gate"] * prior.slab_scale(local, shared)
    w = amplitude.unsqueeze(-1) * values["conv1.weight"]
    assert w.shape == (3, SIZE, fan_in + 1)
    for s in range(3):
        torch.testing.assert_close(values["_RETURN"][s], torchs(x, w[s], geometry))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ConvolutionGeometry(0), "kernel_size must be at least 1"),
        (lambda: ConvolutionGeometry(3, padding=-1), "padding must be at least 0"),
        (lambda: ConvolutionGeometry(5, dilation=2).output_size(8, 20), "spans 9 pixels"),
    ],
)
def test_bad_geometries_are_refused(make, message):
    with pytest.raises(ConfigurationError, match=message):
        make()


@pytest.mark.parametrize("draws", [(), (3,)])
@pytest.mark.parametrize("groups", [2, 4])
def test_filters_of_fewer_channels_read_them_in_turn(groups, draws):
    geometry = ConvolutionGeometry((3, 1), stride=(1, 2), padding=(1, 0))
    x, kernel, bias = torch.randn(5, 4, 6, 7), torch.randn(*draws, 8, 4 // groups, 3, 1), None
    for x_draws in ((), draws):
        maps = x.expand(*x_draws, *x.shape)
        found = convolve(maps, kernel, bias, geometry)
        for s in range(3 if draws else 1):
            at = (s,) if draws else ()
            expected = conv2d(x, kernel[at], bias, (1, 2), (1, 0), 1, groups)
            torch.testing.assert_close(found[at], expected)


def test_odd_fan_ins_are_refused():
    group = NodeGroup("conv1", SIZE, 0.5, 18, SSGL(), "input", 9)
    with pytest.raises(ConfigurationError, match="fan_in must be channels times 4"):
        GroupConv2d(group, ConvolutionGeometry(2))
