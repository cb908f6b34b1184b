"""Check and measure the package on a GPU: one command, at most eight minutes on one data-centre card.

    python benchmarks/gpu.py --json gpu.json
    python benchmarks/gpu.py --mnist DATA/mnist --cifar DATA/cifar-10-batches-bin --budget 480 --json gpu.json
    python benchmarks/gpu.py --device cpu --budget 120          (a rehearsal, without a GPU, of small sizes)

Parts run in the order of their worth, each in a process of its own: what fails, or runs out of time, is told, what it
had found by then is kept, and the rest goes on. Figures are printed as they come, written to the JSON file after each
part, and put together as tables at the end. Without --mnist or --cifar random images of the same shape stand in, and
the figures say so. The exit status is 1 where a part has failed.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Iterable
from io import FileIO
from pathlib import Path
from typing import Any, NoReturn

_BEGAN = time.perf_counter()

from gpu_parts import run  # noqa: E402  seconds of imports, which are part of the budget

# In the order of worth: seconds that a part may take at most on a GPU, and those that it is sure of in the rehearsal.
PARTS = {
    "environment": (30, 2),
    "tests": (110, 10),
    "steps mlp": (80, 30),
    "mnist": (70, 5),
    "cifar": (100, 5),
    "steps resnet20": (80, 8),
    "fits": (50, 12),
    "roofline": (40, 5),
    "steps lenet": (40, 5),
    "memory": (30, 4),
}
_CLOSING = 3.0  # seconds kept for the tables
_MARK = "figure: "


def seconds_for(name: str, later: Iterable[str], left: float, rehearses: bool) -> float:
    """Seconds that a part may take.

    :param later: the parts after it, to which the rehearsal leaves theirs; what earlier ones have saved is this one's.
    :param left: seconds left of the budget.
    """
    if not rehearses:
        return min(left, PARTS[name][0])
    return min(left, max(PARTS[name][1], left - sum(PARTS[other][1] for other in later)))


def run_part(name: str, arguments: argparse.Namespace, seconds: float) -> dict[str, Any]:
    """Run a part in a process of its own; what it printed as figures, how it ended, its last words if it failed."""
    start = time.perf_counter()
    read, write = os.pipe()
    with warnings.catch_warnings():
        # Python 3.12 speaks of the threads that libraries keep waiting; none of them has work yet.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = (
            os.fork()
        )  # not a new interpreter: imports take seconds; CUDA begins in the child alone
    if child == 0:
        os.close(read)
        _be_part(name, arguments, write)
    os.close(write)
    with os.fdopen(read, "rb", buffering=0) as pipe:
        rows, words, ended = _listen(child, pipe, start + seconds)
    spent = round(time.perf_counter() - start, 1)
    found: dict[str, Any] = {"rows": rows, "ended": ended, "seconds": spent}
    if ended != "well":
        found["last words"] = words[-12:]
    return found


def _be_part(name: str, arguments: argparse.Namespace, out: int) -> NoReturn:
    """The child: it prints figures and all else into the pipe, and ends with its status."""
    code = 1
    try:
        os.setsid()  # ended together with its own children
        for stream in (1, 2):  # of children too
            os.dup2(out, stream)
        sys.stdout = sys.stderr = open(1, "w", closefd=False)  # noqa: SIM115  to the end
        run(name, arguments, lambda **row: print(_MARK + json.dumps(row), flush=True))
        code = 0
    except SystemExit as error:
        print(error)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _listen(child: int, pipe: FileIO, end: float) -> tuple[list[Any], list[str], str]:
    """Figures and other words of a child until it ends, or is ended."""
    rows: list[Any] = []
    words: list[str] = []
    rest, ended = "", ""
    while True:
        left = end - time.perf_counter()
        if left <= 0:
            ended = "out of time"
            os.killpg(child, signal.SIGKILL)
            break
        if not select.select([pipe], [], [], left)[0]:
            continue
        piece = pipe.read(65536).decode(errors="replace")
        if not piece:
            break
        *lines, rest = (rest + piece).split("\n")
        for line in lines:
            if line.startswith(_MARK):
                rows.append(json.loads(line.removeprefix(_MARK)))
                print("  ", _in_a_line(rows[-1]), flush=True)
            elif line.strip():
                words.append(line)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return rows, words, ended or ("well" if code == 0 else f"with exit status {code}")


def _in_a_line(row: dict[str, Any]) -> str:
    return ", ".join(f"{key} {_number(value)}" for key, value in row.items())


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"
    return f"{value:,}" if type(value) is int else str(value)


def print_tables(name: str, rows: list[dict[str, Any]]) -> None:
    """Rows of the same keys as a table, a column for each key."""
    print(f"\n{name}")
    kinds: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        kinds.setdefault(tuple(row), []).append(row)
    for keys, alike in kinds.items():
        lines = [keys, *(tuple(map(_number, row.values())) for row in alike)]
        widths = [max(len(line[k]) for line in lines) for k in range(len(keys))]
        for line in lines:
            print("  " + "  ".join(f"{text:<{w}}" for text, w in zip(line, widths, strict=True)))


def main() -> int:
    """Run the parts, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, ..., or cpu (a rehearsal)")
    parser.add_argument("--budget", type=float, default=480, metavar="SECONDS")
    parser.add_argument("--mnist", type=Path, help="folder of MNIST's IDX files")
    parser.add_argument("--cifar", type=Path, help="folder of CIFAR-10's binary batches")
    parser.add_argument("--json", type=Path, help="write all figures here")
    parser.add_argument("--only", nargs="+", choices=PARTS, help="only these parts")
    arguments = parser.parse_args()
    if arguments.device.partition(":")[0] not in ("cuda", "cpu"):
        parser.error(f"--device: expected cuda or cpu; got {arguments.device}")
    end = _BEGAN + arguments.budget - _CLOSING
    rehearses = arguments.device == "cpu"
    if rehearses:
        print("A rehearsal: small sizes, one thread. Its figures say nothing of any machine.")
        import torch._dynamo  # noqa: F401  seconds, once for all parts; on a GPU CUDA is left to the parts
    results: dict[str, Any] = {"command": sys.argv, "rehearsal": rehearses, "parts": {}}
    names = arguments.only or list(PARTS)
    for number, name in enumerate(names, 1):
        left = end - time.perf_counter()
        if left < (1 if rehearses else 5):
            results["parts"][name] = {"rows": [], "ended": "before it began: no time was left"}
            continue
        seconds = seconds_for(name, names[number:], left, rehearses)
        print(f"{name} (at most {seconds:.0f} s)", flush=True)
        found = run_part(name, arguments, seconds)
        results["parts"][name] = found
        for line in found.get("last words", []):
            print("   |", line)
        if arguments.json:
            arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    for name, found in results["parts"].items():
        took = f" in {found['seconds']} s" if "seconds" in found else ""
        print_tables(f"{name}: ended {found['ended']}{took}", found["rows"])
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    return int(any(found["ended"].startswith("with") for found in results["parts"].values()))


if __name__ == "__main__":
    sys.exit(main())
