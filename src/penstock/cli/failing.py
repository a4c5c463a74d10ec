"""What fails becomes one bounded message and an exit code; our own frames are never shown to a person."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from penstock.cli.output import document, harmless, say
from penstock.core.names import did_you_mean
from penstock.errors import PenstockError, bounded

MOST_TRACEBACK = 8_000
"""Characters of a traceback that are shown."""


class _TerminatedError(Exception):
    """SIGTERM came while no run was under way."""


def guarded(dispatch: Callable[[list[str]], int], words: list[str]) -> int:
    """Run a verb; give its exit code whatever happens.

    Parameters
    ----------
    dispatch : callable
        Takes the words of the command line.
    words : list of str
    """
    as_json = "--json" in words
    verb = next((word for word in words if not word.startswith("-")), "")
    before = _on_sigterm()
    try:
        return dispatch(words)
    except PenstockError as error:
        return tell(error, verb, as_json=as_json)
    except KeyboardInterrupt:
        say("cancelled", err=True)
        return 130
    except _TerminatedError:
        say("cancelled", err=True)
        return 143
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    except Exception as error:
        if (usage := _usage(error)) is not None:
            return tell_usage(usage, verb, as_json=as_json)
        return crashed(error, verb, as_json=as_json)
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)
        _flush()


def tell(error: PenstockError, verb: str, *, as_json: bool = False) -> int:
    """Show an error: the user's own traceback where there is one, then what, where, why and what to do next."""
    if as_json:
        document(error.to_json() | {"exit_code": error.exit_code})
        return error.exit_code
    traceback = getattr(error, "traceback", "")
    if traceback:
        say("Traceback (most recent call last):", err=True)
        say(harmless(bounded(str(traceback).rstrip("\n"), MOST_TRACEBACK)), err=True)
        say(err=True)
    say(harmless(f"penstock{f' {verb}' if verb else ''}: {error}"), err=True)
    return error.exit_code


def _usage(error: Exception) -> str | None:
    """The sentence of a fault that Typer found in the words, or None for any other error."""
    import typer

    root = typer.BadParameter.__mro__[2]  # Typer's own root of such errors; its module has moved between versions
    if not isinstance(error, root):
        return None
    told: Any = error
    if near := getattr(told, "possibilities", None):
        wrong = told.option_name
        return f"there is no option {wrong}{did_you_mean(wrong, near) or did_you_mean(wrong, near[:1])}"
    return str(told.format_message()).rstrip(".")


def tell_usage(text: str, verb: str, *, as_json: bool) -> int:
    """Show that an option or argument is wrong."""
    from penstock.errors import UsageError

    ask = f"penstock {verb} --help" if verb else "penstock --help"
    return tell(UsageError(text, hint=f"`{ask}` lists what there is"), verb, as_json=as_json)


def crashed(error: Exception, verb: str, *, as_json: bool) -> int:
    """A fault of our own: one sentence, and the whole traceback in a file; `PENSTOCK_DEBUG=1` shows it."""
    import traceback

    whole = "".join(traceback.format_exception(error))
    if os.environ.get("PENSTOCK_DEBUG") == "1":
        say(whole, err=True)
    path = _write_crash(whole)
    from penstock.errors import InternalError

    told = InternalError(
        f"an unexpected {type(error).__name__}: {bounded(str(error), 500)}",
        hint=f"this is a fault of Penstock's; the whole of it is in {path}"
        if path
        else "PENSTOCK_DEBUG=1 shows it all",
    )
    return tell(told, verb, as_json=as_json)


def _write_crash(text: str) -> str:
    """Write a crash file under the project's logs, else in the temporary folder; "" where neither can be written."""
    import tempfile

    from penstock.project import FOLDER, find_root

    folder = os.path.join(find_root("."), FOLDER)
    name = f"crash-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    places = [os.path.join(folder, "logs")] if os.path.isdir(folder) else []
    for place in [*places, tempfile.gettempdir()]:
        try:
            os.makedirs(place, exist_ok=True)
            with open(os.path.join(place, name), "w", encoding="utf-8", errors="replace") as file:
                file.write(text)
            return os.path.join(place, name)
        except OSError:
            continue
    return ""


def _on_sigterm() -> Any:
    """Let SIGTERM end a verb cleanly; gives the handler that was there, None outside the main thread."""

    def stop(*_: object) -> None:
        raise _TerminatedError

    try:
        return signal.signal(signal.SIGTERM, stop)
    except ValueError:
        return None


def _flush() -> None:
    """Write out what is buffered; whoever read us may have gone."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
