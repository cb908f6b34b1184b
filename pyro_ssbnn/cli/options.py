"""The options of the commands: what each is called, means, and in what unit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pyro_ssbnn.cli.kinds import NetworkKind, PriorName

_NETWORK = {"rich_help_panel": "Network"}
_PRIOR = {"rich_help_panel": "Prior"}
_TRAINING = {"rich_help_panel": "Training"}
_OUTPUT = {"rich_help_panel": "Output"}

MOST_DRAWS = 100_000
MOST_SEED = 2**32 - 1
MOST_THREADS = 1_024


def counted(most: int, meaning: str, **more: Any) -> Any:
    """An option that is a whole number from 1 on, or left out; its help says what then holds."""
    return typer.Option(min=1, max=most, help=meaning, show_default=False, **more)


Run = Annotated[
    Path, typer.Argument(metavar="RUN", help="Run folder that 'pyro-ssbnn fit --out' wrote.")
]

# Network
Network = Annotated[
    NetworkKind,
    typer.Option(
        help="Network: a perceptron, or, of images, LeNet-5 or a residual network with batch norm (ResNet-20, -32,"
        " WRN-28-10), whose filters carry the gates.",
        **_NETWORK,
    ),
]
Hidden = Annotated[
    str | None,
    typer.Option(
        help="Widths of the hidden layers at the start, before selection, such as 400,400; '' for a linear model."
        " Default: of a table below 2,000 rows 32, otherwise 64,32; of LeNet's dense layers 800,500.",
        **_NETWORK,
    ),
]
Activation = Annotated[
    str | None,
    typer.Option(
        help="Activation: elu, gelu, identity, leaky_relu, relu, sigmoid, silu, softplus or tanh. Default: silu; in"
        " residual networks relu.",
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
    str | None,
    typer.Option(
        metavar="NUMBER[,NAME=NUMBER]|beta:A,B",
        help="Prior inclusion probability of each predictor; implies --input-gates: one number, other ones for those"
        " named after it (0.1,age=0.5), or a Beta prior (beta:1,9), under which the data say how many matter. Default:"
        " 1 / number of predictors.",
        **_NETWORK,
    ),
]
Linear = Annotated[
    bool | None,
    typer.Option(
        "--linear/--no-linear",
        help="Also let each predictor act linearly, past the hidden layers, with --input-gates by a gate of its own:"
        " few rows then choose a sparse linear model instead of nothing. Default: with --input-gates, of a table.",
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
    PriorName | None,
    typer.Option(
        metavar="PRIOR",
        help="Prior of the hidden nodes. With selection (spike and slab): ss-ig (Gaussian slab), ss-gl (group lasso),"
        " ss-ghs (regularised group horseshoe). Without: gaussian, group-lasso, group-horseshoe. Default: ss-ig of a"
        " table, ss-ghs of images.",
        **_PRIOR,
    ),
]
Inclusion = Annotated[
    str | None,
    typer.Option(
        metavar="NUMBER|LIST|beta:A,B|theory",
        help="Prior probability that a hidden node is in the network (spike and slab): one number, one per hidden layer"
        " (0.1,0.05), a Beta prior of each layer's own (beta:1,9), or 'theory' for the layer-wise value of the"
        " contraction theory. Default: the prior's, 0.1.",
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

# Training
Fits = Annotated[
    int,
    typer.Option(
        min=1,
        max=1_000,
        help="Fits, of seeds that follow --seed, weighed by stacking: predictions and scores are those of all together."
        " Each costs what one costs.",
        **_TRAINING,
    ),
]
Jobs = Annotated[
    int | None,
    counted(
        MOST_THREADS,
        "Fits beside the first that are trained at a time, each in a process of its own. Default: one.",
        **_TRAINING,
    ),
]
Threads = Annotated[
    int | None,
    counted(
        MOST_THREADS,
        "CPU threads of the training. Default: one where the layers are too small to gain from more, otherwise torch's"
        " own choice.",
        **_TRAINING,
    ),
]

# Output
Out = Annotated[
    Path | None,
    typer.Option(help="Run folder to write; must not exist yet.", show_default=False, **_OUTPUT),
]
Resume = Annotated[
    Path | None,
    typer.Option(
        metavar="RUN",
        help="Go on with an unfinished run, bit by bit as if it had not been interrupted, in place of SOURCE and --out."
        " Options of the training that are given hold from here on; data and network stay as they are.",
        show_default=False,
        **_OUTPUT,
    ),
]
CheckpointEvery = Annotated[
    float,
    typer.Option(
        min=0.01,
        metavar="SECONDS",
        help="Time between two checkpoints, from which --resume goes on; more where they take more than 1 % of it.",
        **_OUTPUT,
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite", help="Replace an earlier run, once the new one is done.", **_OUTPUT
    ),
]
Draws = Annotated[
    int | None,
    counted(
        MOST_DRAWS, "Posterior draws for posterior.nc and the test scores. Default: 200.", **_OUTPUT
    ),
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
