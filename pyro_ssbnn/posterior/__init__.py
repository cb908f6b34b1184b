"""What a fitted guide says: draws of the latents, the weights they make, predictions."""

from pyro_ssbnn.posterior.draws import PosteriorDraws, draw_posterior
from pyro_ssbnn.posterior.prediction import predict, predict_blocks, predict_compact
from pyro_ssbnn.posterior.summary import PredictiveSummary

__all__ = [
    "PosteriorDraws",
    "PredictiveSummary",
    "draw_posterior",
    "predict",
    "predict_blocks",
    "predict_compact",
]
