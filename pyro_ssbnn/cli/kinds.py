"""Words the user chooses among, apart from the code behind them, so that ``--help`` needs none of it."""

from enum import Enum

__all__ = [
    "Format",
    "NetworkKind",
    "NetworkName",
    "Picture",
    "PlotKind",
    "Precision",
    "PriorName",
    "TaskName",
    "TransformName",
]


class Format(Enum):
    """Kinds of data sources."""

    digits = "digits"
    diabetes = "diabetes"
    table = "table"
    idx = "idx"
    cifar = "cifar"
    images = "images"
    uci = "uci"


class TaskName(Enum):
    """What is predicted, and how it varies."""

    regression = "regression"
    student_t = "student-t"
    heteroscedastic = "heteroscedastic"
    binary = "binary"
    classification = "classification"
    ordinal = "ordinal"
    count = "count"
    poisson = "poisson"
    negative_binomial = "negative-binomial"

    @property
    def of_data(self) -> str:
        """What the target's column holds: the task of the data room."""
        return _OF_DATA.get(self.value, self.value)


_OF_DATA = {
    "student-t": "regression",
    "heteroscedastic": "regression",
    "ordinal": "classification",
    "poisson": "count",
    "negative-binomial": "count",
}


class TransformName(Enum):
    """Maps of the target."""

    none = "none"
    log = "log"
    yeo_johnson = "yeo-johnson"


class PriorName(Enum):
    """Priors of the nodes, by their ``Prior.name``."""

    ss_ig = "ss-ig"
    ss_gl = "ss-gl"
    ss_ghs = "ss-ghs"
    gaussian = "gaussian"
    group_lasso = "group-lasso"
    group_horseshoe = "group-horseshoe"


class NetworkKind(Enum):
    """Networks to fit."""

    mlp = "mlp"
    lenet = "lenet"
    resnet20 = "resnet20"
    resnet32 = "resnet32"
    wrn28_10 = "wrn28-10"


class PlotKind(Enum):
    """Diagnostic plots."""

    elbo = "elbo"
    inclusion_history = "inclusion-history"
    inclusion = "inclusion"
    scales = "scales"
    predictors = "predictors"
    reliability = "reliability"
    band = "band"


class Picture(Enum):
    """File formats of plots."""

    png = "png"
    pdf = "pdf"
    svg = "svg"


class NetworkName(Enum):
    """Which network predicts."""

    full = "full"
    pruned = "pruned"


class Precision(Enum):
    """Floating point numbers."""

    float32 = "float32"
    float64 = "float64"
