"""Which predictors act together? Friedman's function: x1 and x2 by a product, the others alone, five not at all."""

import math

import matplotlib.pyplot as plt
import torch

import pyro_ssbnn as ss

torch.manual_seed(0)
x = torch.rand(500, 10)
f = 10 * torch.sin(math.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2
y = f + 10 * x[:, 3] + 5 * x[:, 4] + torch.randn(500)
standardised = (x - x.mean(0)) / x.std(0), (y - y.mean()) / y.std()

prior, likelihood = ss.SSGHS(inclusion=0.1), ss.GaussianLikelihood()
net = ss.MLP(10, [24], prior=prior, likelihood=likelihood, input_inclusion=0.1)
result = ss.fit(net, *standardised, ss.TrainingOptions(epochs=1500), progress=False)
print("inclusion", result.guide.inclusion()["input"].round(decimals=2).tolist())

pairs = ss.interactions(result.model, result.guide, standardised[0])
print(pairs.head(3))
left, right = plt.subplots(1, 2, figsize=(11, 4))[1]
ss.plots.plot_interactions(pairs, top=6, ax=left)
effect = ss.partial_dependence(result.model, result.guide, standardised[0], "x3")
ss.plots.plot_effect(effect, ax=right)
plt.savefig("interactions.png", bbox_inches="tight")
