"""Independent jobs, such as fits of several seeds or problems of a benchmark, one after another or side by side.

Every job runs on one CPU thread and is told all it needs, its seed included: what it gives does not depend on where,
beside what, or in which order it runs. So the numbers are the same bit by bit for any number of processes.

joblib runs the jobs: by its own processes (loky) on one machine, or by whatever backend the caller has chosen around
the call, such as Dask's on many machines::

    from dask.distributed import Client

    with Client("scheduler:8786"), joblib.parallel_config("dask"):
        mixture = ss.fit_several(model, x, y, options, fits=20)
"""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeVar

import joblib

from pyro_ssbnn.arguments import check_that, is_whole
from pyro_ssbnn.isolation import limited_to

__all__ = ["run_jobs"]

_Result = TypeVar("_Result")
_Said = list[tuple[str, type[Warning]]]

_LOOKS = 0.5  # seconds between two looks whether the caller is still there


def run_jobs(
    function: Callable[..., _Result],
    jobs: Mapping[str, tuple[Any, ...]],
    *,
    n_jobs: int | None = None,
) -> list[_Result]:
    """Call a function with the arguments of each job; the results come in the order of the jobs.

    :param function: called with each job's arguments, on one CPU thread; a process of its own finds it by its module.
    :param jobs: arguments of each job, by its name, as in "the fit of seed 3".
    :param n_jobs: processes at a time, -1 for as many as there are cores. None runs one job after another in this
        process, or as ``joblib.parallel_config`` says around the call.
    :raises ConfigurationError: for a number of processes that is none.
    :raises Exception: what a job raises, with its name before the message; no more jobs are begun then.
    :warns: of what a job warned of, with its name before the message.
    """
    number = n_jobs is None or (is_whole(n_jobs) and n_jobs != 0)
    check_that("n_jobs", "it", n_jobs, number, "a whole number other than 0, or None")
    caller = os.getpid()
    calls = (joblib.delayed(_alone)(function, name, given, caller) for name, given in jobs.items())
    done = joblib.Parallel(n_jobs=n_jobs)(calls)
    for name, (_, said) in zip(jobs, done, strict=True):
        for message, category in said:
            warnings.warn(f"{name}: {message}", category, stacklevel=3)
    return [result for result, _ in done]


def _alone(
    function: Callable[..., _Result], name: str, arguments: tuple[Any, ...], caller: int
) -> tuple[_Result, _Said]:
    """Result of a job and what it warned of, which would be lost in another process.

    :param caller: number of the process that asked for it.
    """
    if os.getppid() == caller:
        _end_with(caller)
    with limited_to(1), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = function(*arguments)
        except Exception as error:
            error.args = (f"{name}: {error}", *error.args[1:])
            raise
    return result, [(str(said.message), said.category) for said in caught]


@cache
def _end_with(caller: int) -> None:
    """Have this process end when its caller is gone: killed, it could stop none of those that work for it.

    They would go on with their jobs, and write beside whoever makes the caller's work good.
    """

    def watch() -> None:
        while os.getppid() == caller:
            time.sleep(_LOOKS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
