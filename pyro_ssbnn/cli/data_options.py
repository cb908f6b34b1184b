"""The options that say what is read: sources, columns, target, and which rows are kept from the fit."""

from __future__ import annotations

from typing import Annotated

import typer

from pyro_ssbnn.cli.kinds import Format, TaskName, TransformName

_DATA = {"rich_help_panel": "Data"}

Sources = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SOURCE...",
        help="'digits' or 'diabetes' (embedded), a table (text with any delimiter, .parquet, .feather, .xlsx; several"
        " files of one table, or a folder of them), or a folder: IDX images (MNIST), CIFAR-10 binary files, PNG or JPEG"
        " images in a folder for each class (perhaps below train and test), or a UCI set with its standard splits.",
    ),
]
Stream = Annotated[
    bool | None,
    typer.Option(
        "--stream/--no-stream",
        help="Read a table in pieces, in memory that does not grow with it; its rows are kept in RUN/data, as the"
        " network sees them. Default: several files, and those of more than 64 MB of text or 256 MB of numbers.",
        show_default=False,
        **_DATA,
    ),
]
SourceFormat = Annotated[
    Format | None,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help="Format of SOURCE: digits, diabetes, table, idx, cifar, images or uci. Default: what is found there.",
        **_DATA,
    ),
]
Target = Annotated[
    str | None,
    typer.Option(help="Column to predict (tables); all other columns are predictors.", **_DATA),
]
TaskOption = Annotated[
    TaskName | None,
    typer.Option(
        metavar="TASK",
        help="What is predicted (tables), and with it the likelihood: regression Gaussian, student-t (some values"
        " far off), heteroscedastic (spread depends on the predictors), binary Bernoulli, classification Categorical,"
        " ordinal (numbered grades), count (negative binomial or Poisson, by the spread), poisson,"
        " negative-binomial. Default: inferred from the target's values; of a regression whose predictors have missing"
        " values the spread depends on the predictors.",
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
Columns = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,NAME",
        help="Columns of a table to take as predictors. Default: all but the target, and those that only name rows.",
        **_DATA,
    ),
]
Drop = Annotated[
    str | None,
    typer.Option(metavar="NAME,NAME", help="Columns of a table to leave out.", **_DATA),
]
Categorical = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,NAME",
        help="Columns of categories that are written as numbers; text always is one. A category is one predictor.",
        **_DATA,
    ),
]
Date = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,NAME",
        help="Columns that are dates, also where they are not written as 2020-05-17; they count in days.",
        **_DATA,
    ),
]
Missing = Annotated[
    str,
    typer.Option(
        metavar="impute|refuse",
        help="Missing values of predictors: impute within the fit, with a mark under the same gate, or refuse."
        " Rows without a target are left out.",
        **_DATA,
    ),
]
Delimiter = Annotated[
    str | None,
    typer.Option(
        help="Between the fields of a text file. Default: what the first line has most of: comma, semicolon, tab, bar.",
        **_DATA,
    ),
]
TransformTarget = Annotated[
    TransformName,
    typer.Option(
        help="Map of a skewed target before it is standardised, undone in predictions and scores: log for positive"
        " ones, yeo-johnson for any.",
        **_DATA,
    ),
]
Groups = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Column of a table, such as a patient's number, whose rows of the same value are held out together.",
        **_DATA,
    ),
]
Split = Annotated[
    int | None,
    typer.Option(help="Number of the standard split (UCI folders), from 0.", **_DATA),
]
