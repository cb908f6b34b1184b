"""Minibatches on their way to a device; what happens on a GPU is tested in tests/gpu."""

import torch

from pyro_ssbnn.rows.prefetching import sent_ahead


def test_on_the_cpu_minibatches_are_passed_on_one_by_one():
    given = [(torch.randn(3, 2), torch.arange(3)) for _ in range(4)]
    taken = []

    def source():
        for minibatch in given:
            taken.append(minibatch)
            yield minibatch

    for number, found in enumerate(sent_ahead(source(), torch.device("cpu")), 1):
        assert len(taken) == number
        assert found is given[number - 1]
    assert number == 4
