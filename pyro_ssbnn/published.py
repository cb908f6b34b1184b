r"""The published method to the letter: presets of model, guide and training, where the package's defaults are others.

    recipe = ss.published.mlp("ss-ghs")
    result = ss.fit(recipe.model, x, y, recipe.options, guide=recipe.guide)

They are those of the authors' programs for MNIST and CIFAR-10 (arXiv 2308.09104). MNIST's pixels, in 0..1, were taken
times 255/126. ``docs/published.md`` says what differs from the defaults, why, and what that buys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pyro_ssbnn.checks import check_that
from pyro_ssbnn.guides import PublishedGuide
from pyro_ssbnn.inference import Fit, ImageAugmentation, TrainingOptions
from pyro_ssbnn.isolation import seeded
from pyro_ssbnn.likelihoods import CategoricalLikelihood
from pyro_ssbnn.models import MLP, LeNet, ResNet
from pyro_ssbnn.models.base import GatedNetwork
from pyro_ssbnn.priors import SSGHS, SSGL, SSIG, Inclusion, Prior, theory_inclusion
from pyro_ssbnn.selection import Selection

__all__ = ["Recipe", "last_draw", "lenet", "mlp", "resnet"]

_PRIORS: dict[str, type[Prior]] = {"ss-ig": SSIG, "ss-gl": SSGL, "ss-ghs": SSGHS}


@dataclass(frozen=True)
class Recipe:
    """What is fitted and how, for ``ss.fit(recipe.model, x, y, recipe.options, guide=recipe.guide)``.

    :param model: the network.
    :param guide: at its starting values; ``guide.restarted`` makes others.
    :param options: of the training.
    :param augment: for ``fit(..., augment=recipe.augment)``, of residual networks.
    :param fine_tuning: options of their fine-tuning, with the gates of one draw:
        ``ss.fine_tune(result, x, y, recipe.fine_tuning, selection=ss.published.last_draw(result))``.
    """

    model: GatedNetwork
    guide: PublishedGuide
    options: TrainingOptions
    augment: ImageAugmentation | None = None
    fine_tuning: TrainingOptions | None = None


def mlp(
    prior: str = "ss-ghs",
    num_inputs: int = 784,
    hidden: Sequence[int] = (400, 400),
    num_classes: int = 10,
    *,
    num_data: int = 60_000,
    seed: int = 0,
) -> Recipe:
    """The perceptron of MNIST: SiLU, the theory's prior inclusion with C = 1e-9, Adam at 1e-3 for 1,200 epochs.

    :param prior: "ss-ig", "ss-gl" or "ss-ghs"; sigma0 = 1 in all layers.
    :param num_inputs: p, number of predictors.
    :param hidden: widths of the hidden layers.
    :param num_classes: K.
    :param num_data: n of the theory.
    :param seed: of the starting values and of the run.
    :raises ConfigurationError: for another prior, and for widths outside their domain.
    """
    widths = [num_inputs, *hidden, num_classes]
    model = MLP(
        num_inputs,
        hidden,
        prior=_prior(prior, tuple(theory_inclusion(widths, num_data))),
        likelihood=CategoricalLikelihood(num_classes),
    )
    return Recipe(model, _guide(model, seed), _adam(seed))


def lenet(
    prior: str = "ss-ghs", num_classes: int = 10, *, num_data: int = 60_000, seed: int = 0
) -> Recipe:
    """LeNet-5-Caffe of MNIST: filters 20 and 50, widths 800 and 500, training as that of :func:`mlp`.

    Prior inclusion is the theory's for a perceptron of 800 predictors and hidden widths 800 and 500: its first value
    for the first convolution, too, its second for the second.

    :param prior: "ss-ig", "ss-gl" or "ss-ghs"; sigma0 = 1 in all layers.
    :param num_classes: K.
    :param num_data: n of the theory.
    :param seed: of the starting values and of the run.
    :raises ConfigurationError: for another prior.
    """
    first, second = theory_inclusion([800, 800, 500, num_classes], num_data)
    model = LeNet(
        prior=_prior(prior, (first, second, first, second)),
        likelihood=CategoricalLikelihood(num_classes),
    )
    return Recipe(model, _guide(model, seed), _adam(seed))


def resnet(
    depth: int = 20,
    prior: str = "ss-ghs",
    image_shape: Sequence[int] = (3, 32, 32),
    num_classes: int = 10,
    *,
    seed: int = 0,
) -> Recipe:
    """The residual network of CIFAR-10: SiLU, gated 1 x 1 shortcuts, a classifier under the prior of all layers.

    Prior inclusion 1e-4, sigma0 = 0.2; gradient descent with momentum 0.9 for every parameter at 0.1, cut to a tenth
    after 150 and 225 of 300 epochs, gradients clipped at norm 1; then 100 epochs at 1e-3 with the gates of one draw.

    One thing is the package's: scale and shift of a batch norm belong to the filter before it, where the published
    networks have them in a group of their own, without a gate and with a slab scale of its own. A closed filter then
    passes its shift on, and the network cannot be made smaller without changing it.

    :param depth: 6n + 2, below 44: deeper ones are of another block in the published programs.
    :param prior: "ss-ig", "ss-gl" or "ss-ghs".
    :param image_shape: channels, height and width (C, H, W).
    :param num_classes: K.
    :param seed: of the starting values and of the run.
    :raises ConfigurationError: for another prior or depth.
    """
    shallow = isinstance(depth, int) and depth < 44
    check_that("published", "depth", depth, shallow, "6n + 2, below 44")
    model = ResNet(
        image_shape,
        depth,
        prior=_prior(prior, 1e-4, scale=0.2),
        likelihood=CategoricalLikelihood(num_classes),
        activation="silu",
        shortcuts="convolution",
    )
    descent: dict[str, Any] = {
        "batch_size": 128,
        "optimizer": "sgd",
        "clip_norm": 1.0,
        "seed": seed,
    }
    return Recipe(
        model,
        _guide(model, seed),
        TrainingOptions(epochs=300, rate=0.1, milestones=(0.5, 0.75), **descent, **_AS_PUBLISHED),
        ImageAugmentation(image_shape, erase=0.5, erase_area=(0.02, 0.4)),
        TrainingOptions(epochs=100, rate=1e-3, decay_after=1.0, **descent, **_AS_PUBLISHED),
    )


def last_draw(fitted: Fit) -> Selection:
    """The members that one draw of a fit's gates keeps; the published fine-tuning freezes the last one of training.

    :param fitted: what :func:`~pyro_ssbnn.fit` returned; its seed draws.
    """
    kept, sizes = {}, {}
    with seeded(fitted.options.seed, torch.device("cpu")):
        for name, probability in fitted.guide.inclusion().items():
            kept[name] = torch.bernoulli(probability.cpu()).nonzero().flatten()
            sizes[name] = len(probability)
    return Selection(kept, sizes, "one draw of the gates")


def _prior(name: str, inclusion: Inclusion, **options: Any) -> Prior:
    known = isinstance(name, str) and name in _PRIORS
    check_that("published", "prior", name, known, "'ss-ig', 'ss-gl' or 'ss-ghs'")
    return _PRIORS[name](inclusion=inclusion, scope="network", **options)


def _guide(model: GatedNetwork, seed: int) -> PublishedGuide:
    with seeded(seed, torch.device("cpu")):
        return PublishedGuide(model)


def _adam(seed: int) -> TrainingOptions:
    """One rate, no decay, no warm-up; draws of the weights; nodes are not removed while the network is trained."""
    return TrainingOptions(
        epochs=1200, batch_size=1024, rate=1e-3, decay_after=1.0, seed=seed, **_AS_PUBLISHED
    )


_AS_PUBLISHED: dict[str, Any] = {
    "gate_hold": (0.0, 0.0),
    "gate_method": "gradient",
    "screen": False,
    "kl_warmup": 0.0,
    "num_particles": 1,
    "local_reparameterization": False,
    "initial_inclusion": 0.99,
    "remove_below": None,
}
