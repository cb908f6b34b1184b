"""Axes as data: what is taken out is what is put back, and nothing else is touched."""

import pytest
import torch

from pyro_ssbnn.structure.axes import Axis, put, take


def test_members_own_neighbouring_entries_and_the_bias_stays():
    axis = Axis("conv", size=3, width=2, own=1)
    assert axis.indices({"conv": torch.tensor([0, 2])}).tolist() == [0, 1, 4, 5, 6]
    assert axis.indices({"other": torch.tensor([0])}).tolist() == list(range(7))


@pytest.mark.parametrize("leading", [(), (4,)])
def test_put_undoes_take(leading):
    axes = (Axis("rows", 5), Axis("columns", 3, width=2, own=1))
    kept = {"rows": torch.tensor([1, 4]), "columns": torch.tensor([0, 2])}
    whole = torch.randn(*leading, 5, 7)
    part = take(whole, axes, kept)
    assert torch.equal(part, whole[..., [1, 4], :][..., [0, 1, 4, 5, 6]])
    changed = whole.clone()
    put(changed, 2 * part, axes, kept)
    put(changed, part, axes, kept)
    assert torch.equal(changed, whole)
    put(changed, part + 1, axes, kept)
    inside = torch.zeros(5, 7, dtype=torch.bool)
    inside[torch.tensor([1, 4]).unsqueeze(1), torch.tensor([0, 1, 4, 5, 6])] = True
    assert torch.equal((changed - whole) != 0, inside.expand_as(whole))


def test_tensors_without_axes_are_copied():
    value = torch.randn(())
    part = take(value, (), {})
    part += 1
    put(value, part, (), {})
    assert value == part
    assert value is not part
