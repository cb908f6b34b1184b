"""What a fitted guide says: draws of the latents, the weights they make, predictions."""

from pyro_ssbnn.posterior.draws import PosteriorDraws, draw_posterior
from pyro_ssbnn.posterior.prediction import PredictiveSummary, predict, predict_compact

__all__ = ["PosteriorDraws", "PredictiveSummary", "draw_posterior", "predict", "predict_compact"]
