"""What a fit says in the target's own units: predictions, scores beside baselines, findings, and the report of it all.

The command line and the estimators are thin layers on it.
"""

from pyro_ssbnn.results.results import Results

__all__ = ["Results"]
