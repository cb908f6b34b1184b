"""What surrounds every command: the one place where exceptions become messages, signals exceptions, and logs are kept.

===== ==================================================================================
code  what it says
===== ==================================================================================
0     all was done
1     something went wrong that this package did not expect; ``--debug`` shows where
2     what was given cannot be used, or the system refused; nothing else is wrong
3     the fit is saved, and some of what should be made of it is not (``finish``)
128+n stopped by signal n: 130 for Ctrl-C, 143 for SIGTERM
===== ==================================================================================
"""

from __future__ import annotations

import functools
import inspect
import json
import logging
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from pyro_ssbnn import errors
from pyro_ssbnn.cli.console import messages
from pyro_ssbnn.cli.training_options import option

__all__ = ["INCOMPLETE", "Stopped", "in_words", "reported"]

UNEXPECTED, UNUSABLE, INCOMPLETE = 1, 2, 3

# What the user can mend; OSError: no permission, no space left.
_EXPECTED = (OSError, *(getattr(errors, name) for name in errors.__all__ if name.endswith("Error")))
# Names of the library's own, which say nothing to someone at a command line.
_OWNERS = re.compile(r"^(fit|predict|split|MLP|Preprocessing\.apply|FeatureScaling\.standardize): ")
_LONGEST = 2_000  # characters of a message
_STOPPING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
_MEMORY = "the memory does not suffice. Take smaller --hidden layers, --batch-size or --draws, or a larger machine."
_ADDRESSES = 2 << 30  # bytes of address space: what the libraries and a small fit take
_log = logging.getLogger(__name__)

Debug = Annotated[bool, typer.Option("--debug", help="Show the whole traceback of an error.")]
LogFile = Annotated[
    Path | None,
    typer.Option(
        "--log-file",
        help="Append what happens to this file, a line of JSON each: time, level, logger, message.",
        show_default=False,
    ),
]


class Stopped(KeyboardInterrupt):
    """The process was asked to end by a signal.

    :param number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def reported(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command ``--debug`` and ``--log-file``; it ends with a message and an exit code, whatever happens."""

    if not messages.is_terminal:  # a bar in a file: a line now and then, not ten a second
        os.environ.setdefault("TQDM_MININTERVAL", "30")
        os.environ.setdefault("TQDM_MAXINTERVAL", "60")

    @functools.wraps(command)
    def run(*arguments: Any, debug: bool, log_file: Path | None, **options: Any) -> None:
        with _errors_as_messages(debug), _logging_to(log_file), _signals_as_exceptions():
            _check_addresses()
            _log.info("pyro-ssbnn %s", " ".join(sys.argv[1:]))
            command(*arguments, **options)

    own = inspect.signature(command, eval_str=True).parameters.values()
    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for name, default, kind in (("debug", False, Debug), ("log_file", None, LogFile))
    ]
    run.__signature__ = inspect.Signature([*own, *more])  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in (*own, *more)}
    return run


def _check_addresses() -> None:
    """Refuse a limit that the libraries do not fit into: OpenBLAS asks for memory for ever then (its issue 5289)."""
    with suppress(ImportError):  # there are no such limits on Windows
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if 0 <= limit < _ADDRESSES:
            raise errors.ConfigurationError(
                f"this shell limits the address space to {limit / 2**30:.1f} GiB, into which the libraries do not fit;"
                f" at least {_ADDRESSES >> 30} GiB are needed. Raise it: ulimit -v {_ADDRESSES >> 10}, or unlimited."
            )


def in_words(error: Exception) -> str:
    """What a message says of an exception; one that was not expected says its kind, too."""
    text = re.sub(r"^TrainingOptions: (\w+)", lambda found: option(found[1]), str(error))
    text = re.sub(r"^delimiter\b", "--delimiter", _OWNERS.sub("", text))
    text = re.sub(r"\btest_fraction=", "--test-fraction ", text)
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}."
    if isinstance(error, _EXPECTED):
        return text or type(error).__name__
    if isinstance(error, MemoryError) or "alloc" in text.lower() or "out of memory" in text:
        return _MEMORY
    return f"{type(error).__name__}: {text[:500]}"


@contextmanager
def _errors_as_messages(debug: bool) -> Iterator[None]:
    try:
        yield
    except (typer.Exit, typer.Abort, BrokenPipeError):
        raise  # typer's business; «| head» has seen enough
    except KeyboardInterrupt as error:
        if debug:
            raise
        number = _number_of(error)
        told = "" if isinstance(error, errors.TrainingInterrupted) else str(error)
        messages.print(f"[bold red]Stopped:[/] {escape(told)}".rstrip(), soft_wrap=True)
        raise typer.Exit(128 + number) from None
    except Exception as error:
        if debug:
            raise
        if isinstance(error, MemoryError) and sys.stderr is not None:
            sys.stderr.write(f"Error: {_MEMORY}\n")  # there may be none left to print it in colours
            raise typer.Exit(UNUSABLE) from None
        text = in_words(error)
        if isinstance(error, _EXPECTED):
            messages.print(f"[bold red]Error:[/] {escape(text)}", soft_wrap=True)
            raise typer.Exit(UNUSABLE) from None
        messages.print(
            f"[bold red]Unexpected error:[/] {escape(text)}\nThe same command with --debug shows where; that is worth"
            " a report.",
            soft_wrap=True,
        )
        raise typer.Exit(UNEXPECTED) from None


def _number_of(error: BaseException | None) -> int:
    """Signal behind an interruption, or behind what it was raised from."""
    while error is not None:
        if isinstance(error, Stopped):
            return error.number
        error = error.__cause__ or error.__context__
    return signal.SIGINT


@contextmanager
def _signals_as_exceptions() -> Iterator[None]:
    """SIGTERM and SIGHUP end the command in good order, as Ctrl-C does; one that is ignored stays so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise Stopped(number)

    before = {s: signal.getsignal(s) for s in _STOPPING}
    ours = [s for s, handler in before.items() if handler is signal.SIG_DFL]
    for s in ours:
        signal.signal(s, stop)
    try:
        yield
    finally:
        for s in ours:
            signal.signal(s, before[s])


@contextmanager
def _logging_to(file: Path | None) -> Iterator[None]:
    """Warnings go to standard error in plain words, and all records of the package to the file, where there is one."""
    package = logging.getLogger("pyro_ssbnn")
    handlers: list[logging.Handler] = [_ToConsole(logging.WARNING)]
    if file is not None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            handlers.append(_ToFile(file))
        except OSError as error:
            raise errors.ConfigurationError(
                f"--log-file {file}: cannot be written ({error.strerror})."
            ) from error
    level, propagate, show = package.level, package.propagate, warnings.showwarning
    for handler in handlers:
        package.addHandler(handler)
    package.setLevel(logging.INFO)
    package.propagate = False
    warnings.showwarning = lambda message, *rest: package.warning("%s", _told(str(message)))
    try:
        yield
    except KeyboardInterrupt as error:
        _log.error("stopped by signal %d", _number_of(error))
        raise
    except Exception as error:
        if not isinstance(error, (typer.Exit, typer.Abort, BrokenPipeError)):
            _log.error("%s", in_words(error), exc_info=error)
        raise
    finally:
        warnings.showwarning = show
        package.level, package.propagate = level, propagate
        for handler in handlers:
            package.removeHandler(handler)
            handler.close()


def _told(warning: str) -> str:
    """A warning of the library in the words of the command line."""
    text = _OWNERS.sub("", warning).replace(
        "Use NegativeBinomial", "Use --task negative-binomial: NegativeBinomial"
    )
    return re.sub(r"\b(gate_rate|kl_warmup|gate_hold|remove_below)\b", lambda m: option(m[0]), text)


class _ToConsole(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno < logging.ERROR:  # errors are told as the command ends
            messages.print(f"[yellow]Warning:[/] {escape(record.getMessage())}", soft_wrap=True)


class _ToFile(logging.FileHandler):
    """A line of JSON each; a log that cannot be written any more, the disk being full, ends nothing else."""

    def __init__(self, file: Path) -> None:
        super().__init__(file, encoding="utf-8")
        self.setFormatter(_JsonLines())

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        error = sys.exc_info()[1]
        self.setLevel(logging.CRITICAL + 1)  # said once
        messages.print(
            f"[yellow]Warning:[/] --log-file: {escape(str(error))}. Nothing more is logged.",
            soft_wrap=True,
        )

    def close(self) -> None:
        with suppress(OSError):
            super().close()


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "process": os.getpid(),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)
