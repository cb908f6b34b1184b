"""Checksums of rows: the same for the same rows in the same order, in whatever blocks."""

import pytest
import torch

from pyro_ssbnn.rows.digest import RowDigest


def digest_of(x, y, sizes=None):
    digest = RowDigest()
    for part, targets in zip(x.split(sizes or len(x)), y.split(sizes or len(x)), strict=True):
        digest.add(part, targets)
    return digest.value


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.uint8, torch.bfloat16])
@pytest.mark.parametrize("targets", [(), (2,)])
def test_blocks_do_not_matter_order_and_values_do(dtype, targets):
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(9, (50, 3), generator=generator).to(dtype)
    y = torch.randint(9, (50, *targets), generator=generator)
    whole = digest_of(x, y)
    assert whole[0] == 50
    assert digest_of(x, y, 7) == digest_of(x, y, [1, 0, 49]) == whole
    assert digest_of(x.T.contiguous().T, y) == whole  # another layout in memory
    order = torch.arange(50)
    order[[3, 4]] = order[[4, 3]]
    assert not torch.equal(x[3], x[4])
    others = [(x[order], y[order]), (x, y[order]), (x[:-1], y[:-1])]
    changed = x.clone()
    changed[20, 1] += 1
    for one, other in (*others, (changed, y)):
        assert digest_of(one, other) != whole
