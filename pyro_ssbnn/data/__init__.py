"""Data: checked data sets in memory, readers of tables and images, scaling fitted on training data.

Everything a reader returns is in the data's own units; ``Preprocessing`` scales.
"""

from pyro_ssbnn.data.dataset import Dataset, Task, split
from pyro_ssbnn.data.embedded import diabetes, digits
from pyro_ssbnn.data.images import read_cifar, read_idx, read_idx_images
from pyro_ssbnn.data.preprocessing import Preprocessing
from pyro_ssbnn.data.scaling import FeatureScaling, TargetScaling
from pyro_ssbnn.data.table import from_frame, read_csv, read_predictors
from pyro_ssbnn.data.uci import read_uci, read_uci_split, uci_splits

__all__ = [
    "Dataset",
    "FeatureScaling",
    "Preprocessing",
    "TargetScaling",
    "Task",
    "diabetes",
    "digits",
    "from_frame",
    "read_cifar",
    "read_csv",
    "read_idx",
    "read_idx_images",
    "read_predictors",
    "read_uci",
    "read_uci_split",
    "split",
    "uci_splits",
]
