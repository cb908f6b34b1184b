"""A curve with an honest band: narrow where there are data, wide where there are none."""

import matplotlib.pyplot as plt
import torch

import pyro_ssbnn as ss

torch.manual_seed(0)
x = torch.cat([torch.rand(60, 1) * 3 - 3.5, torch.rand(60, 1) * 2 + 1])
y = torch.sin(2 * x[:, 0]) + 0.15 * torch.randn(120)

prior = ss.SSIG(inclusion=0.3)
net = ss.MLP(1, [32], prior=prior, likelihood=ss.GaussianLikelihood(), activation="tanh")
result = ss.fit(net, x, y, ss.TrainingOptions(epochs=1500, batch_size=120), progress=False)
print(ss.layer_summary(result.guide)[["nodes", "active", "expected_active"]])

where = torch.linspace(-5, 5, 200).unsqueeze(-1)
draws = ss.draw_posterior(result.model, result.guide, 1000, x=where)
ss.plots.plot_predictive_band(where, draws, y, x_observed=x)
plt.savefig("curve.png", bbox_inches="tight")
