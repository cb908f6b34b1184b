"""Which predictors matter? From simulated data to a smaller network; y depends on x1, x4 and x8."""

import matplotlib.pyplot as plt
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
result = ss.fit(net, x, (y - y.mean()) / y.std(), options, progress=False)

table = ss.inclusion_summary(result.guide)
print(table.loc[table["group"] == "input", ["inclusion", "log_bayes_factor", "selected"]])
pruning = ss.prune(result.model, result.guide)  # a plain torch module with the selected nodes
print(pruning.report[["nodes", "nodes_kept", "weights_kept"]])
prediction = pruning.network(x)

ss.plots.plot_predictor_inclusion(result.guide)
plt.savefig("sparse_regression.png", bbox_inches="tight")
