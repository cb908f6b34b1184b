"""Shuffled minibatches of blocks: every row once, and how far they are from a complete shuffle."""

import math

import pytest
import torch

from pyro_ssbnn.rows.arrays import ArraySource
from pyro_ssbnn.rows.pools import minibatches
from pyro_ssbnn.rows.sampling import RowSample


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def blocks_of(sizes, width=1):
    """Blocks whose rows are numbered from 0."""
    rows = torch.arange(sum(sizes), dtype=torch.float32)
    for part in rows.split(sizes):
        yield part.unsqueeze(1).expand(-1, width).contiguous(), part


@pytest.mark.parametrize("sizes", [[7] * 40, [1] * 280, [280], [3, 200, 1, 76]])
@pytest.mark.parametrize("pool", [1, 1_000, 2**20])
def test_every_row_comes_once_but_for_less_than_a_minibatch(sizes, pool):
    seen = []
    for x, y in minibatches(blocks_of(sizes), 16, generator(), pool):
        assert x.shape == (16, 1)
        assert torch.equal(x.squeeze(1), y)
        seen += y.tolist()
    assert len(seen) == len(set(seen)) == 280 // 16 * 16


def test_the_order_is_the_seeds():
    first, again, other = (
        torch.cat([y for _, y in minibatches(blocks_of([7] * 40), 16, generator(seed), 400)])
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_pool_that_holds_all_shuffles_completely():
    """Each place of an epoch is as likely to hold a row of the first half as one of the second: a binomial count."""
    runs, rows = 400, 64
    hits = torch.zeros(rows)
    for seed in range(runs):
        order = torch.cat([y for _, y in minibatches(blocks_of([8] * 8), 8, generator(seed))])
        hits += order < rows / 2
    z = (hits - runs / 2) / math.sqrt(runs / 4)
    assert float(z.abs().max()) < 4.5  # of 64 places
    assert float(z.square().mean()) == pytest.approx(1, abs=4 * math.sqrt(2 / rows))


def test_minibatches_of_a_sorted_file_vary_as_blocks_drawn_at_random_say():
    """Rows sorted by a quantity of variance 1: that of a minibatch's mean is (1/m + 1/B) at most, and near it."""
    number, width, m, per_pool = 2**17, 8, 64, 64
    quantity = torch.linspace(-math.sqrt(3), math.sqrt(3), number)
    source = ArraySource(quantity.unsqueeze(1).expand(-1, width).contiguous(), quantity)
    block = 2**15 // (4 * width)
    pool = per_pool * block * 4 * width
    means = torch.stack(
        [
            y.mean()
            for seed in range(4)
            for _, y in minibatches(source.blocks(seed), m, generator(seed), pool)
        ]
    )
    blocks = number // block
    between = (
        1 / per_pool * (1 - per_pool / blocks)
    )  # of the pools' means, drawn without replacement
    expected = 1 / m + between
    pools = 4 * blocks // per_pool
    assert float(means.square().mean()) < 1 / m + 1 / per_pool * (1 + 4 * math.sqrt(2 / pools))
    error = math.hypot(between * math.sqrt(2 / pools), math.sqrt(2 / len(means)) / m)
    assert float(means.square().mean()) == pytest.approx(expected, abs=4 * error)
    assert float(means.mean()) == pytest.approx(0, abs=1e-5)  # every row once an epoch


def test_a_sample_is_uniform_and_without_replacement():
    number, most, runs = 300, 20, 400
    hits = torch.zeros(number)
    for seed in range(runs):
        sample = RowSample(most, seed)
        for x, y in blocks_of([17] * 17 + [11]):
            sample.add(x, y)
        x, y = sample.rows()
        assert torch.equal(x.squeeze(1), y)
        assert len(y.unique()) == most
        hits[y.long()] += 1
    p = most / number
    z = (hits - runs * p) / math.sqrt(runs * p * (1 - p))
    assert sample.seen == number
    assert float(z.abs().max()) < 5
    assert float(z.square().mean()) == pytest.approx(1, abs=4 * math.sqrt(2 / number))


def test_a_sample_of_fewer_rows_is_all_of_them():
    sample = RowSample(1_000)
    for x, y in blocks_of([7, 7, 2]):
        sample.add(x, y)
    assert sample.rows()[1].sort().values.tolist() == list(range(16))
