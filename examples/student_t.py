"""A likelihood of one's own: errors with heavy tails, whose scale and degrees of freedom are learned, too."""

from dataclasses import dataclass

import matplotlib.pyplot as plt
import torch
from pyro.distributions import Gamma, InverseGamma, StudentT
from scipy.special import stdtr

import pyro_ssbnn as ss


@ss.register("student-t-noise")
@dataclass(frozen=True)
class StudentTNoise(ss.Likelihood):
    """Student's t around f; the priors are those of Juarez and Steel (2010)."""

    def latent_sites(self, like):
        """The latents, with their priors and where the guide starts."""
        df = Gamma(like.new_tensor(2.0), like.new_tensor(0.1))
        scale = InverseGamma(like.new_tensor(2.0), like.new_tensor(0.5))
        return {"noise.df": ss.LatentSite(df, initial=5.0), "noise.scale": ss.LatentSite(scale)}

    def distribution(self, f, latents):
        """Targets given the network's output and the latents."""
        return StudentT(latents["noise.df"], f.squeeze(-1), latents["noise.scale"])

    def mean(self, f, latents):
        """F itself."""
        return f.squeeze(-1)

    def cdf(self, y, f, latents):
        """P(Y <= y): by it intervals are found, and torch's StudentT has none."""
        t = (y - self.mean(f, latents)) / latents["noise.scale"]
        return torch.as_tensor(stdtr(latents["noise.df"].numpy(), t.numpy()))


torch.manual_seed(0)
x = torch.rand(400, 8) * 4 - 2
signal = torch.sin(x[:, 0]) + x[:, 3]
y = signal + 0.2 * StudentT(3.0).sample((400,))  # now and then far off

given = {"prior": ss.SSGHS(inclusion=0.1), "likelihood": StudentTNoise(), "activation": "tanh"}
net = ss.MLP(8, [8], input_inclusion=0.1, **given)
options = ss.TrainingOptions(epochs=900, batch_size=400, num_particles=1)
result = ss.fit(net, x, y, options, progress=False)
draws = ss.draw_posterior(net, result.guide, 500)
for site in ("noise.df", "noise.scale"):
    low, middle, high = draws.latents[site].quantile(torch.tensor([0.05, 0.5, 0.95])).tolist()
    print(f"{site}: {middle:.2f} ({low:.2f} to {high:.2f})")
predicted = ss.predict(net, result.guide, x, quantiles=(0.05, 0.95))
error = (predicted.mean - signal).square().mean().sqrt()
print(f"root mean square error of the signal: {error:.3f}")

lower, upper = predicted.interval(0.9)
ss.plots.plot_observed(predicted.mean, y, lower, upper)
plt.savefig("student_t.png", bbox_inches="tight")
