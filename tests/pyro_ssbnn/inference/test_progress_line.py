"""The progress line says what the last epoch of the history says."""

import torch

from pyro_ssbnn import MLP, SSIG, GaussianLikelihood, TrainingOptions, fit


def test_the_last_line_is_the_last_epoch(capsys):
    x = torch.randn(40, 3)
    model = MLP(3, [6, 4], prior=SSIG(inclusion=0.3), likelihood=GaussianLikelihood())
    options = TrainingOptions(epochs=9, gate_rate=0.5, kl_warmup=0.0)
    history = fit(model, x, x[:, 0], options).history
    last = capsys.readouterr().err.split("\r")[-1]
    active = {name: int(count[-1]) for name, count in history.active().items()}
    assert 0 < sum(active.values()) < 10  # counts of all nodes, or of none, would say little
    assert f"active hidden1 {active['hidden1']} hidden2 {active['hidden2']}" in last
    assert f"ELBO {history.elbo[-1]:.4g} = {history.log_likelihood[-1]:.4g} - KL" in last
