"""What the three command lines share: exit status, one-line errors, progress on standard error, --json."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.progress import Cancelled, Progress

Handler = Callable[[argparse.Namespace, Progress], dict[str, Any]]
"""Does a command's work and returns its key figures."""

DONE, BAD_INPUT, CANCELLED = 0, 2, 130


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """Give a command the option `--json`."""
    parser.add_argument("--json", action="store_true", help="print the key figures as one JSON object")


def run(parser: argparse.ArgumentParser, arguments: Sequence[str] | None = None) -> int:
    """Parse the arguments, run the chosen command's `handler` default and return the exit status.

    Each sub-command sets its function by ``set_defaults(handler=...)``; one that leaves something behind when it is
    cancelled says what by ``kept=...``. Key figures go to standard output, as lines or (`--json`) as one JSON object;
    progress and errors go to standard error, progress as one JSON object per line when standard error is not a
    terminal.

    Returns
    -------
    int
        0 done, 2 bad input, 130 cancelled (Ctrl+C, SIGTERM).
    """
    options = parser.parse_args(arguments)
    previous = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, _cancel)
    try:
        result = options.handler(options, _report_progress)
    except InputError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return BAD_INPUT
    except (Cancelled, KeyboardInterrupt):
        print(f"{parser.prog}: cancelled, {getattr(options, 'kept', 'nothing was written')}", file=sys.stderr)
        return CANCELLED
    finally:
        signal.signal(signal.SIGTERM, previous)
    if options.json:
        print(json.dumps(result, allow_nan=False))
    else:
        for key, value in result.items():
            if isinstance(value, list | tuple) and any(isinstance(entry, dict) for entry in value):
                print(f"{key}:", *(f"  {_shown(entry)}" for entry in value), sep="\n")
            else:
                print(f"{key}: {_shown(value)}")
    return DONE


def _shown(value: object) -> str:
    """Return a figure for people to read; entries without content are left out."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        named = ((str(name).replace("_", " "), part) for name, part in value.items())
        return ", ".join(f"{name} {_shown(part)}" for name, part in named if part not in (None, "", [], ()))
    if isinstance(value, list | tuple):
        return ", ".join(_shown(part) for part in value) or "none"
    return str(value)


def _cancel(number: int, frame: object) -> None:
    raise Cancelled


def _report_progress(fraction: float, message: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{fraction:4.0%} {message:<60.60}", end="" if fraction < 1 else "\n", file=sys.stderr, flush=True)
    else:
        print(json.dumps({"progress": round(fraction, 4), "message": message}), file=sys.stderr, flush=True)
