"""What a user writes, with types: `make types` has mypy and pyright read it beside the installed package."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import pyro_ssbnn as ss

x: Tensor = torch.randn(100, 4)
y: Tensor = x[:, 0] + 0.1 * torch.randn(100)

net = ss.MLP(4, [8], prior=ss.SSGHS(inclusion=0.3), likelihood=ss.GaussianLikelihood())
result: ss.Fit = ss.fit(net, x, y, ss.TrainingOptions(epochs=20), progress=False)
guide: ss.StructuredGuide = ss.StructuredGuide(net, initial_inclusion=0.9)
answer: ss.PredictiveSummary = ss.predict(result.model, result.guide, x, quantiles=(0.1, 0.9))
mean: Tensor = answer.mean

pruning: ss.Pruning = ss.prune(result.model, result.guide)
f: Tensor = pruning.network(x)
selection: ss.Selection = ss.select(result.guide.inclusion(), threshold=0.5)
bound: ss.Bound = ss.evaluate_bound(result.model, result.guide, x, y)
report: ss.Report = ss.diagnose(result, x, y)
trusted: bool = report.trustworthy

ss.save_fit(result, Path("fit.safetensors"))
again: ss.Fit = ss.load_fit("fit.safetensors")

model = ss.sklearn.SparseBNNRegressor(hidden=(8,), epochs=20)
model.fit(np.zeros((50, 3)), np.zeros(50)).predict(np.zeros((2, 3)))
