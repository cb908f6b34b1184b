# The public surface: every name a user needs, once, in the groups of docs/reference.md, which is made from it.
# __init__.py imports each where it is first used.

# Data
from . import data as data
from . import rows as rows

# Priors of node groups
from .priors import SSIG as SSIG
from .priors import SSGL as SSGL
from .priors import SSGHS as SSGHS
from .priors import Gaussian as Gaussian
from .priors import GroupLasso as GroupLasso
from .priors import GroupHorseshoe as GroupHorseshoe
from .priors import BetaInclusion as BetaInclusion
from .priors import TheoryInclusion as TheoryInclusion

# Likelihoods
from .likelihoods import GaussianLikelihood as GaussianLikelihood
from .likelihoods import CategoricalLikelihood as CategoricalLikelihood
from .likelihoods import BernoulliLikelihood as BernoulliLikelihood
from .likelihoods import PoissonLikelihood as PoissonLikelihood
from .likelihoods import NegativeBinomialLikelihood as NegativeBinomialLikelihood
from .likelihoods import StudentTLikelihood as StudentTLikelihood
from .likelihoods import HeteroscedasticLikelihood as HeteroscedasticLikelihood
from .likelihoods import OrdinalLikelihood as OrdinalLikelihood
from .likelihoods import WeibullLikelihood as WeibullLikelihood
from .likelihoods import LogNormalLikelihood as LogNormalLikelihood
from .likelihoods import suggest_likelihood as suggest_likelihood
from .likelihoods import Suggestion as Suggestion

# Networks
from .models import MLP as MLP
from .models import LeNet as LeNet
from .models import ResNet as ResNet
from .models import WideResNet as WideResNet
from .models import from_module as from_module
from .models import TracedNetwork as TracedNetwork

# Guides
from .guides import StructuredGuide as StructuredGuide
from .guides import BlockGuide as BlockGuide
from .guides import CoupledGuide as CoupledGuide
from .guides import MixtureGuide as MixtureGuide
from .guides import PublishedGuide as PublishedGuide

# Training
from .inference import fit as fit
from .inference import Fit as Fit
from .inference import TrainingOptions as TrainingOptions
from .inference import History as History
from .inference import Removal as Removal
from .inference import AnalyticELBO as AnalyticELBO
from .inference import Bound as Bound
from .inference import evaluate_bound as evaluate_bound
from .inference import settle as settle
from .inference import gate_evidence as gate_evidence
from .inference import GateEvidence as GateEvidence
from .inference import ELBOTerms as ELBOTerms
from .inference import ImageAugmentation as ImageAugmentation
from .inference import fit_deterministic as fit_deterministic
from .inference import fine_tune as fine_tune

# The published method
from . import published as published

# Several fits as one answer
from .inference import fit_several as fit_several
from .inference import combine_fits as combine_fits
from .inference import Mixture as Mixture
from .inference import stacking_weights as stacking_weights
from . import parallel as parallel

# Estimators for scikit-learn
from . import sklearn as sklearn

# Posterior
from .posterior import draw_posterior as draw_posterior
from .posterior import PosteriorDraws as PosteriorDraws
from .posterior import predict as predict
from .posterior import predict_blocks as predict_blocks
from .posterior import predict_compact as predict_compact
from .posterior import PredictiveSummary as PredictiveSummary
from .analysis import to_arviz as to_arviz
from .analysis import write_netcdf as write_netcdf
from .analysis import read_netcdf as read_netcdf

# Inclusion
from .analysis import inclusion_summary as inclusion_summary
from .analysis import layer_summary as layer_summary
from .analysis import error_control_summary as error_control_summary
from .analysis import credible_set_summary as credible_set_summary
from .analysis import predictor_law as predictor_law
from .selection import PredictorLaw as PredictorLaw
from .analysis import slab_scale_quantiles as slab_scale_quantiles
from .analysis import predictor_norms as predictor_norms
from .analysis import slab_norms as slab_norms
from .analysis import plots as plots

# What predictors do
from .analysis import partial_dependence as partial_dependence
from .analysis import accumulated_effects as accumulated_effects
from .analysis import Effect as Effect
from .analysis import interactions as interactions

# Scores of predictions
from .analysis import rmse as rmse
from .analysis import log_predictive_density as log_predictive_density
from .analysis import interval_coverage as interval_coverage
from .analysis import accuracy as accuracy
from .analysis import negative_log_likelihood as negative_log_likelihood
from .analysis import brier_score as brier_score
from .analysis import expected_calibration_error as expected_calibration_error
from .analysis import classification_scores as classification_scores
from .analysis import reliability as reliability
from .analysis import Reliability as Reliability
from .analysis import ood_auroc as ood_auroc

# Diagnostics
from .analysis import diagnose as diagnose
from .analysis import Report as Report
from .analysis import Check as Check

# Selection and pruning
from .selection import select as select
from .selection import select_fdr as select_fdr
from .selection import Selection as Selection
from .selection import expected_false_selections as expected_false_selections
from .selection import expected_false_omissions as expected_false_omissions
from .selection import model_size as model_size
from .selection import credible_sets as credible_sets
from .selection import CredibleSet as CredibleSet
from .selection import set_inclusion as set_inclusion
from .selection import prune as prune
from .selection import Pruning as Pruning
from .models import CompactNetwork as CompactNetwork
from .models import plain_module as plain_module
from .models import PlainModule as PlainModule
from .compression import compress as compress
from .compression import Compression as Compression

# Files, speed, export
from .inference import save_fit as save_fit
from .inference import load_fit as load_fit
from .inference import load_guide as load_guide
from .inference import save_mixture as save_mixture
from .inference import load_mixture as load_mixture
from .files.compact import save_compact as save_compact
from .files.compact import load_compact as load_compact
from .analysis import measure_latency as measure_latency
from .analysis import pruning_latency as pruning_latency
from .analysis import dense_and_pruned as dense_and_pruned
from .files.export import export_onnx as export_onnx
from .files.export import to_exported_program as to_exported_program

# Reference answers
from . import exact as exact
from . import theory as theory
from .analysis import certify as certify
from .analysis import Certificate as Certificate
from .analysis.exact_data import exact_summary as exact_summary
from .analysis.exact_data import exact_to_arviz as exact_to_arviz

# Priors, likelihoods, guides and networks of one's own
from .registry import register as register
from . import distributions as distributions
from .priors import Prior as Prior
from .likelihoods import Likelihood as Likelihood
from .likelihoods import LatentSite as LatentSite
from .guides import ScaleGuide as ScaleGuide
from .guides import scale_guide as scale_guide
from .guides import likelihood_guide as likelihood_guide
from .models import GatedNetwork as GatedNetwork
from .models import ImageNetwork as ImageNetwork
from .models import Layout as Layout
from .layers import ConvolutionGeometry as ConvolutionGeometry
from .layers import max_pool as max_pool
from .layers import GroupLayer as GroupLayer
from .structure import Network as Network
from .structure import Guide as Guide
from .structure import NetworkDescription as NetworkDescription

# Errors and warnings
from . import errors as errors
from ._version import __version__ as __version__
