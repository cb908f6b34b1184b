"""The command line in processes forked from one that has imported everything: a start takes milliseconds, not seconds.

Run as a program, it answers lines of JSON on standard input. ``{"arguments": [...], "output": file, ...}`` starts a
command and is answered by the number of its process, ``{"wait": number}`` by its exit code, the most memory it had in
bytes, and its CPU seconds.
"""

import gc
import json
import os
import signal
import sys
import tempfile
import traceback

import arviz
import h5netcdf
import matplotlib.pyplot
import openpyxl
import PIL.PngImagePlugin
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet
import sklearn.linear_model
import sklearn.model_selection
import torch._dynamo

from pyro_ssbnn.cli import build, deploy, diagnose, inspect, new_data, pictures, products, tables
from pyro_ssbnn.cli.main import app
from pyro_ssbnn.inference import checkpoints

# What commands import when they need it: here once, for all of them. (Optimizers of torch need torch._dynamo.)
_ONCE = (arviz, h5netcdf, matplotlib, openpyxl, PIL, pyarrow, sklearn, torch)
_COMMANDS = (build, deploy, diagnose, inspect, new_data, pictures, tables)


def become_command(arguments, output, seconds, often=False, plots=True, product=None, after=0.0):
    """Run a command in place of this process, and end.

    :param output: file for both its streams.
    :param seconds: of CPU time; more, and SIGPROF kills it.
    :param often: write checkpoints as often as is asked for, whatever they cost.
    :param plots: draw plots, half of the time of a small run.
    :param product: name of a file or folder; ``after`` seconds after its writing has begun, SIGALRM kills the process.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    written = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for target, source in enumerate((nothing, written, written)):
        os.dup2(source, target)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    if often:
        checkpoints._LEAST_SHARE = 0
    if not plots:
        products.available = lambda inputs: []
    if product is not None:
        tempfile.mkstemp = _deadly(tempfile.mkstemp, product, after)
        tempfile.mkdtemp = _deadly(tempfile.mkdtemp, product, after)
    code = 1
    try:
        app(arguments)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    os._exit(code)  # to take a large interpreter down costs more than most commands


def _deadly(make, product, after):
    """How the writing of every file begins, ``mkstemp``, and of a folder, with a timer that ends the process."""

    def begun(*, prefix, suffix="", **options):
        if f"{prefix[1:-1]}{suffix}" == product:
            signal.setitimer(signal.ITIMER_REAL, max(after, 1e-6))
        return make(prefix=prefix, suffix=suffix, **options)

    return begun


def serve():
    """Answer until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests
    gc.freeze()  # what a collection marks, a fork would have to copy
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            _, status, used = os.wait4(request["wait"], 0)
            code = os.waitstatus_to_exitcode(status)
            answer = [code, used.ru_maxrss * 1024, used.ru_utime + used.ru_stime]
        else:
            answer = os.fork()
            if not answer:
                become_command(**request)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve()
