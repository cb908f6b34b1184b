"""The options of the commands: what each is called, means, and in what unit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pyro_ssbnn.cli.kinds import Format, PriorName, TaskName

_DATA = {"rich_help_panel": "Data"}
_NETWORK = {"rich_help_panel": "Network"}
_PRIOR = {"rich_help_panel": "Prior"}
_TRAINING = {"rich_help_panel": "Training"}
_OUTPUT = {"rich_help_panel": "Output"}

Run = Annotated[
    Path, typer.Argument(metavar="RUN", help="Run folder that 'pyro-ssbnn fit --out' wrote.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the whole traceback of an error.")]

# Data
Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="'digits' or 'diabetes' (embedded), a CSV file, or a folder: IDX images (MNIST), CIFAR-10 binary files, or"
        " a UCI set with its standard splits.",
    ),
]
SourceFormat = Annotated[
    Format | None,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help="Format of SOURCE: digits, diabetes, csv, idx, cifar or uci. Default: what is found there.",
        **_DATA,
    ),
]
Target = Annotated[
    str | None,
    typer.Option(help="Column to predict (CSV files); all other columns are predictors.", **_DATA),
]
TaskOption = Annotated[
    TaskName | None,
    typer.Option(
        metavar="TASK",
        help="What is predicted (CSV files), and with it the likelihood: regression Gaussian, binary Bernoulli,"
        " classification Categorical, count Poisson. Default: inferred from the target's values.",
        **_DATA,
    ),
]
TestFraction = Annotated[
    float | None,
    typer.Option(
        help="Share of the rows held out for the test, 0 to 1; the rows are drawn with --seed (classes keep their"
        " shares). 0: no test rows, scores are of the training rows. Default: the source's own test set where it"
        " has one, otherwise 0.2.",
        **_DATA,
    ),
]
Split = Annotated[
    int | None,
    typer.Option(help="Number of the standard split (UCI folders), from 0.", **_DATA),
]

# Network
Hidden = Annotated[
    str,
    typer.Option(
        help="Widths of the hidden layers at the start, before selection, such as 400,400; '' for a linear model.",
        **_NETWORK,
    ),
]
Activation = Annotated[
    str,
    typer.Option(
        help="Activation: elu, gelu, identity, leaky_relu, relu, sigmoid, silu, softplus or tanh.",
        **_NETWORK,
    ),
]
InputGates = Annotated[
    bool | None,
    typer.Option(
        "--input-gates/--no-input-gates",
        help="Also select among the predictors: each gets an inclusion probability. Default: no.",
        show_default=False,
        **_NETWORK,
    ),
]
InputInclusion = Annotated[
    float | None,
    typer.Option(
        help="Prior inclusion probability of each predictor; implies --input-gates. Default: 1 / number of predictors.",
        **_NETWORK,
    ),
]
NoiseScale = Annotated[
    float | None,
    typer.Option(
        help="Known noise standard deviation of a regression, in the target's own units. Default: inferred.",
        **_NETWORK,
    ),
]

# Prior
PriorOption = Annotated[
    PriorName,
    typer.Option(
        metavar="PRIOR",
        help="Prior of the hidden nodes. With selection (spike and slab): ss-ig (Gaussian slab), ss-gl (group lasso),"
        " ss-ghs (regularised group horseshoe). Without: gaussian, group-lasso, group-horseshoe.",
        **_PRIOR,
    ),
]
Inclusion = Annotated[
    str | None,
    typer.Option(
        metavar="NUMBER|LIST|theory",
        help="Prior probability that a hidden node is in the network (spike and slab): one number, one per hidden layer"
        " (0.1,0.05), or 'theory' for the layer-wise value of the contraction theory. Default: the prior's, 0.1.",
        **_PRIOR,
    ),
]
SlabScale = Annotated[
    float | None,
    typer.Option(
        help="sigma_0: standard deviation of the slab's standardised weights. Default: the prior's, 1.",
        **_PRIOR,
    ),
]
GlobalScale = Annotated[
    float | None,
    typer.Option(
        help="s_0 (horseshoes): scale of the half-Cauchy prior of the network-wide scale. Default: the prior's, 1.",
        **_PRIOR,
    ),
]
Cap = Annotated[
    str | None,
    typer.Option(
        metavar="NUMBER|random",
        help="c (horseshoes): largest slab scale, a standard deviation; 'random' gives c^2 an InverseGamma(2, 6) prior."
        " Default: the prior's, 1.",
        **_PRIOR,
    ),
]

# Training: every field of pyro_ssbnn.TrainingOptions
Epochs = Annotated[
    int | None,
    typer.Option(
        help="Passes over the training rows  [default: as many as make 10,000 steps, at least 20]",
        **_TRAINING,
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option(help="Rows a step  [default: an eighth of the data, 32 to 256 rows]", **_TRAINING),
]
Seed = Annotated[
    int,
    typer.Option(help="Seed of all random numbers: test rows, training, draws.", **_TRAINING),
]
Optimizer = Annotated[
    str,
    typer.Option(
        metavar="adam|sgd",
        help="Of the weights' means; log-scales and gates are always Adam's.",
        **_TRAINING,
    ),
]
MeanRate = Annotated[
    float,
    typer.Option(
        help="Learning rate of the weights' means: Adam's in units of 1/sqrt(fan-in of the layer), that of sgd as it"
        " is, per unit of gradient of the loss per row.",
        **_TRAINING,
    ),
]
Momentum = Annotated[float, typer.Option(help="Momentum of sgd, 0 to below 1.", **_TRAINING)]
ScaleRate = Annotated[
    float, typer.Option(help="Learning rate of the weights' log-scales.", **_TRAINING)
]
LatentRate = Annotated[
    float | None,
    typer.Option(
        help="Learning rate of slab scales and noise.  [default: that of the log-scales]",
        **_TRAINING,
    ),
]
GateRate = Annotated[
    float | None,
    typer.Option(
        help="Learning rate of the gates' log-odds. Too high, and every node is closed before the weights have"
        " learned.  [default: 0.02 for steps of 256 rows, proportionally less for smaller ones]",
        **_TRAINING,
    ),
]
KlWarmup = Annotated[
    float | None,
    typer.Option(
        help="Fraction of the epochs over which the weight of the KL from the prior rises from 0 to 1. Longer guards"
        " against collapse.  [default: 2,000 steps, at most 0.3 of the epochs]",
        **_TRAINING,
    ),
]
DecayAfter = Annotated[
    float,
    typer.Option(
        help="Fraction of the epochs after which all rates decay to a hundredth (cosine); 0 for a cosine all along, 1"
        " for no decay.",
        **_TRAINING,
    ),
]
Milestones = Annotated[
    list[float],
    typer.Option(
        help="Fraction of the epochs at which all rates are multiplied by --milestone-factor, in place of the cosine;"
        " may be given several times.",
        show_default=False,
        **_TRAINING,
    ),
]
MilestoneFactor = Annotated[float, typer.Option(help="See --milestones.", **_TRAINING)]
ClipNorm = Annotated[
    float | None,
    typer.Option(
        help="Largest norm of the gradient of the mean loss per row. Default: no clipping.",
        **_TRAINING,
    ),
]
NumParticles = Annotated[
    int | None,
    typer.Option(
        help="Draws of the latent variables a step  [default: 1 for steps of 256 rows, up to 4 for smaller ones]",
        **_TRAINING,
    ),
]
LocalReparameterization = Annotated[
    bool | None,
    typer.Option(
        "--local-draws/--weight-draws",
        help="Draw each row's pre-activations (default of dense networks), or one set of weights for all rows of a step"
        " (noisier; default of networks that convolve).",
        **_TRAINING,
    ),
]
Temperature = Annotated[
    tuple[float, float],
    typer.Option(
        metavar="FIRST LAST",
        help="Temperature of the gates' relaxation in the first and the last epoch (geometric in between).",
        **_TRAINING,
    ),
]
HardGates = Annotated[
    bool,
    typer.Option(
        "--hard-gates/--soft-gates",
        help="Gates of exactly 0 or 1 with straight-through gradients, or relaxed gates in between.",
        **_TRAINING,
    ),
]
InitialInclusion = Annotated[
    float,
    typer.Option(help="Inclusion probability at which every gate starts, 0 to 1.", **_TRAINING),
]
Patience = Annotated[
    int | None,
    typer.Option(
        help="Stop once the ELBO has not risen by --min-delta in so many epochs. Default: never stop early.",
        **_TRAINING,
    ),
]
MinDelta = Annotated[
    float, typer.Option(help="See --patience; in nats per training row.", **_TRAINING)
]
RemoveBelow = Annotated[
    float,
    typer.Option(
        help="Remove nodes and gated predictors from the network during training once their inclusion has stayed below"
        " this; results still list them, with inclusion 0. 0 keeps all.",
        **_TRAINING,
    ),
]
RemoveAfter = Annotated[
    int,
    typer.Option(help="Epochs in a row below --remove-below before a node leaves.", **_TRAINING),
]
Compile = Annotated[
    bool,
    typer.Option(
        "--compile/--no-compile",
        help="Compile the step once the network stands still: 10 to 30 s each time, then faster steps; for long runs.",
        **_TRAINING,
    ),
]
Device = Annotated[
    str, typer.Option(help="auto (CUDA where there is one), cpu, cuda, ...", **_TRAINING)
]
Dtype = Annotated[
    str, typer.Option(metavar="float32|float64", help="Precision of all numbers.", **_TRAINING)
]
Threads = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="CPU threads of the training. Default: one where the layers are too small to gain from more, otherwise"
        " torch's own choice.",
        **_TRAINING,
    ),
]

# Output
Out = Annotated[Path, typer.Option(help="Run folder to write; must not exist yet.", **_OUTPUT)]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite", help="Replace an earlier run, once the new one is done.", **_OUTPUT
    ),
]
Draws = Annotated[
    int,
    typer.Option(min=1, help="Posterior draws for posterior.nc and the test scores.", **_OUTPUT),
]
Progress = Annotated[
    bool | None,
    typer.Option(
        "--progress/--no-progress",
        help="Progress bar. Default: where standard error is a terminal.",
        show_default=False,
        **_OUTPUT,
    ),
]
