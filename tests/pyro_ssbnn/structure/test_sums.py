"""Sums of placed channels: additions against loops, and what may be empty."""

import pytest
import torch

from pyro_ssbnn.models.wiring import Addition
from pyro_ssbnn.priors import SSIG
from pyro_ssbnn.structure.description import NetworkDescription
from pyro_ssbnn.structure.flow import cut_off, without_unread
from pyro_ssbnn.structure.groups import InputGroup, NodeGroup
from pyro_ssbnn.structure.sums import PlacedSum


@pytest.mark.parametrize("lead", [(), (3,)])
@pytest.mark.parametrize(
    "places",
    [((0, 1, 2), (0, 1, 2)), ((1,), (0, 1, 2)), ((0, 2), (1, 2)), ((), (0, 1, 2)), ((), (2,))],
)
def test_addition_is_a_loop_over_places(lead, places):
    total = PlacedSum("s", 3, tuple(zip("ab", places, strict=True)))
    terms = [torch.randn(*lead, 2, len(at), 4, 5) for at in places]
    expected = torch.zeros(*lead, 2, 3, 4, 5)
    for term, at in zip(terms, places, strict=True):
        for member, place in enumerate(at):
            expected[..., place, :, :] += term[..., member, :, :]
    torch.testing.assert_close(Addition(total)(*terms), expected)


def branches():
    """input -> a; a -> b, a -> c; b + c -> d -> output: either branch may be empty, not both."""

    def layer(name, source, inclusion=0.5):
        return NodeGroup(name, 2, inclusion, 2, SSIG(), source)

    groups = [layer("a", "input"), layer("b", "a"), layer("c", "a"), layer("d", "s")]
    total = PlacedSum("s", 2, (("b", (0, 1)), ("c", (0, 1))))
    inputs = InputGroup("input", 2, None, ("x1", "x2"))
    return NetworkDescription(inputs, (*groups, layer("output", "d", None)), (total,))


def test_what_a_sum_bypasses_may_be_empty():
    assert cut_off(branches(), ["b"]) == []
    assert cut_off(branches(), ["c"]) == []
    assert cut_off(branches(), ["b", "c"]) == ["b", "c"]
    assert cut_off(branches(), ["b", "d"]) == ["d"]
    assert cut_off(branches(), ["a", "b", "c"]) == ["a"]


def test_what_nobody_reads_leaves():
    none, one = torch.zeros(0, dtype=torch.long), torch.tensor([1])
    left = without_unread(branches(), {"a": one, "b": one, "d": none})
    assert {k: v.tolist() for k, v in left.items()} == {"a": [], "b": [], "c": [], "d": []}
    left = without_unread(branches(), {"a": one, "b": none})
    assert {k: v.tolist() for k, v in left.items()} == {"a": [1], "b": []}
