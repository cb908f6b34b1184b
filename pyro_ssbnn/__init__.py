"""Structurally sparse Bayesian neural networks in Pyro.

Data flows one way: data -> model <-> guide -> ELBO -> posterior -> selection -> compact network.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pyro_ssbnn._version import __version__

if TYPE_CHECKING:
    from pyro_ssbnn.checkpoint import load_compact, load_fit, load_guide, save_compact, save_fit
    from pyro_ssbnn.elbo import AnalyticELBO
    from pyro_ssbnn.error_control import (
        expected_false_omissions,
        expected_false_selections,
        model_size,
        select_fdr,
    )
    from pyro_ssbnn.export import export_onnx, to_exported_program
    from pyro_ssbnn.guides import StructuredGuide
    from pyro_ssbnn.likelihoods import (
        BernoulliLikelihood,
        CategoricalLikelihood,
        GaussianLikelihood,
        PoissonLikelihood,
    )
    from pyro_ssbnn.models import MLP, LeNet, ResNet, WideResNet
    from pyro_ssbnn.posterior import PosteriorDraws, draw_posterior
    from pyro_ssbnn.predictive import PredictiveSummary, predict, predict_compact
    from pyro_ssbnn.priors import (
        SSGHS,
        SSGL,
        SSIG,
        Gaussian,
        GroupHorseshoe,
        GroupLasso,
        TheoryInclusion,
    )
    from pyro_ssbnn.pruning import Pruning, prune
    from pyro_ssbnn.selection import Selection, select
    from pyro_ssbnn.training import (
        Fit,
        History,
        ImageAugmentation,
        TrainingOptions,
        fine_tune,
        fit,
        fit_deterministic,
    )

__all__ = [
    "MLP",
    "SSGHS",
    "SSGL",
    "SSIG",
    "AnalyticELBO",
    "BernoulliLikelihood",
    "CategoricalLikelihood",
    "Fit",
    "Gaussian",
    "GaussianLikelihood",
    "GroupHorseshoe",
    "GroupLasso",
    "History",
    "ImageAugmentation",
    "LeNet",
    "PoissonLikelihood",
    "PosteriorDraws",
    "PredictiveSummary",
    "Pruning",
    "ResNet",
    "Selection",
    "StructuredGuide",
    "TheoryInclusion",
    "TrainingOptions",
    "WideResNet",
    "__version__",
    "draw_posterior",
    "expected_false_omissions",
    "expected_false_selections",
    "export_onnx",
    "fine_tune",
    "fit",
    "fit_deterministic",
    "load_compact",
    "load_fit",
    "load_guide",
    "model_size",
    "predict",
    "predict_compact",
    "prune",
    "save_compact",
    "save_fit",
    "select",
    "select_fdr",
    "to_exported_program",
]

_HOMES = {
    "pyro_ssbnn.checkpoint": ("load_compact", "load_fit", "load_guide", "save_compact", "save_fit"),
    "pyro_ssbnn.elbo": ("AnalyticELBO",),
    "pyro_ssbnn.error_control": (
        "expected_false_omissions",
        "expected_false_selections",
        "model_size",
        "select_fdr",
    ),
    "pyro_ssbnn.export": ("export_onnx", "to_exported_program"),
    "pyro_ssbnn.guides": ("StructuredGuide",),
    "pyro_ssbnn.likelihoods": (
        "BernoulliLikelihood",
        "CategoricalLikelihood",
        "GaussianLikelihood",
        "PoissonLikelihood",
    ),
    "pyro_ssbnn.models": ("MLP", "LeNet", "ResNet", "WideResNet"),
    "pyro_ssbnn.posterior": ("PosteriorDraws", "draw_posterior"),
    "pyro_ssbnn.predictive": ("PredictiveSummary", "predict", "predict_compact"),
    "pyro_ssbnn.priors": (
        "SSGHS",
        "SSGL",
        "SSIG",
        "Gaussian",
        "GroupHorseshoe",
        "GroupLasso",
        "TheoryInclusion",
    ),
    "pyro_ssbnn.pruning": ("Pruning", "prune"),
    "pyro_ssbnn.selection": ("Selection", "select"),
    "pyro_ssbnn.training": (
        "Fit",
        "History",
        "ImageAugmentation",
        "TrainingOptions",
        "fine_tune",
        "fit",
        "fit_deterministic",
    ),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: ``pyro-ssbnn --help`` needs neither torch nor Pyro."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
