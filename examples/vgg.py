"""A network of one's own: a small VGG with batch norm, from its definition to its pruned form."""

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits

import pyro_ssbnn as ss


@ss.register("vgg")
class VGG(ss.ImageNetwork):
    """Stages of 3 x 3 convolutions with batch norm, each followed by 2 x 2 max-pooling; then the classifier."""

    def __init__(
        self, image_shape, stages, *, prior, likelihood, output_prior=None, activation="relu"
    ):
        super().__init__(image_shape, prior, likelihood, output_prior, activation)
        self.stages = [list(stage) for stage in stages]  # filters of each convolution
        layout = ss.Layout("VGG", self.image_shape)
        for i, stage in enumerate(self.stages):
            for j, filters in enumerate(stage):
                geometry = ss.ConvolutionGeometry(3, padding=1)
                layout.convolution(f"stage{i}_conv{j}", filters, geometry, batch_norm=True)
            layout.pool(2)
        self._lay_out(layout)

    @staticmethod
    def wire(net, x):
        """The forward pass, of the Pyro model and of its pruned form."""
        h = net.inputs(x)
        for i, stage in enumerate(net.shape["stages"]):
            for j in range(len(stage)):
                h = net.phi(net.layer(f"stage{i}_conv{j}", h))
            h = ss.max_pool(h, 2)
        return net.layer("output", h.flatten(-3))

    def _shape_config(self):
        return {"image_shape": list(self.image_shape), "stages": self.stages}


images, labels = load_digits(return_X_y=True)
x, y = torch.tensor(images, dtype=torch.float32) / 8 - 1, torch.tensor(labels)
train, test = slice(0, 1200), slice(1200, None)

prior, likelihood = ss.SSGHS(inclusion=0.1), ss.CategoricalLikelihood(10)
net = VGG((1, 8, 8), [(8,), (16,)], prior=prior, likelihood=likelihood)
options = ss.TrainingOptions(epochs=12, batch_size=60, num_particles=1)
result = ss.fit(net, x[train], y[train], options, progress=False)

# Gates need thousands of steps, this trial has 240: take the likeliest three quarters of the second layer.
selection = ss.select(result.guide.inclusion(), nodes={"stage1_conv0": 12})
pruning = ss.prune(result.model, result.guide, selection, num_draws=10)  # batch norm is folded in
print(pruning.report[["nodes", "nodes_kept", "weights", "weights_kept"]])
probabilities = pruning.network(x[test]).softmax(-1).mean(0)
accuracy = (probabilities.argmax(-1) == y[test]).float().mean().item()
print(f"accuracy of the pruned network {accuracy:.1%}")
ss.plots.plot_inclusion(result.guide)
plt.savefig("vgg.png", bbox_inches="tight")
