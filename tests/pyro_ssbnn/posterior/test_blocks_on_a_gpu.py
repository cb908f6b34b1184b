"""Blocks of evaluations on a GPU, which is not needed to reckon them: rows and draws fill an eighth of its memory."""

from types import SimpleNamespace

import torch

from pyro_ssbnn.posterior import networks
from pyro_ssbnn.posterior.networks import MEMORY, Block, roomy


def test_an_eighth_of_the_gpus_memory_is_used_and_nothing_more_on_the_cpu(monkeypatch):
    card = SimpleNamespace(total_memory=80 * 2**30)
    monkeypatch.setattr(networks.torch.cuda, "get_device_properties", lambda device: card)
    assert roomy(torch.device("cuda")) == 10 * 2**30
    assert roomy(torch.device("cpu")) == MEMORY


def test_a_pass_on_a_gpu_takes_as_many_rows_as_fit():
    gpu = SimpleNamespace(device=torch.device("cuda"), element_size=lambda: 4)
    cpu = torch.zeros(())
    assert Block.of(400, 10, 10_000, gpu, 2**32) == Block(10, 10_000)
    assert Block.of(400, 10, 10_000, cpu, 2**32).rows <= 1024
    small = Block.of(16_384, 10, 10_000, gpu, 2**28)
    assert 6 * 16_384 * 4 * small.rows * small.draws <= 2**26
