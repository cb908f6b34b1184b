"""Which predictors matter? Twenty lines, from simulated data to a smaller network."""

import torch

import pyro_ssbnn as ss

torch.manual_seed(0)
x = torch.randn(500, 10)
y = torch.sin(2 * x[:, 0]) + x[:, 3] * x[:, 7] + 0.1 * torch.randn(500)

net = ss.MLP(
    num_inputs=10,
    hidden=[32],
    prior=ss.SSGHS(inclusion=0.1),
    likelihood=ss.GaussianLikelihood(),
    input_inclusion=0.1,
)
options = ss.TrainingOptions(epochs=500)
result = ss.fit(net, x, (y - y.mean()) / y.std(), options)

table = ss.inclusion_summary(result.guide)
print(table[table["group"] == "input"])  # inclusion probability of every predictor
posterior = ss.to_arviz(
    result.model, result.guide
)  # ArviZ: draws, exact inclusion, log p and log q
pruning = ss.prune(result.model, result.guide)  # a plain torch module with the selected nodes
print(pruning.report)
prediction = pruning.network(x)
