"""Functions of the user's own, which a flag names as FILE.py:FUNCTION."""

import functools
import importlib.util
import os
import sys
import traceback
import typing

from lrn_tf.errors import UserError

FUNCTION = "FILE.py:FUNCTION"


def own_function(flag: str, value: str) -> typing.Callable:
    """The user's function that a flag names as FILE.py:FUNCTION; what it raises comes out as a `UserError`.

    Raises:
        UserError: there is no such file or function, or the file raises something.
    """
    path, _, name = value.rpartition(":")
    if not os.path.isfile(path) or not path.endswith(".py"):
        raise UserError(f"--{flag}={value}: there is no file {path}; give {FUNCTION}")
    found = os.stat(path)
    module = _blamed(flag, value, path, _module, os.path.abspath(path), found.st_mtime_ns, found.st_size)
    function = getattr(module, name, None)
    if not callable(function):
        known = [
            n
            for n, f in vars(module).items()
            if callable(f) and getattr(f, "__module__", "") == module.__name__
        ]
        has = f"it has {', '.join(known)}" if known else "it has none"
        raise UserError(f"--{flag}={value}: there is no function {name!r} in {path}; {has}")
    return lambda *given: _blamed(flag, value, path, function, *given)


def not_started(made: str, value: str, flag: str, argument: str) -> UserError:
    """What to say if a run needs the user's code again, and nobody has named it.

    Args:
        made: what the code makes, and of which run.
        value: its name in the run's settings, which is not trusted: a run's folder may be anybody's.
        flag: how programs take it.
        argument: how Python's functions take it.
    """
    return UserError(
        f"{made} were made by {value}, which a run does not start by itself; if you trust it, give it with"
        f" --{flag}={FUNCTION}, or in Python as {argument}="
    )


@functools.cache
def _module(path, *written):
    """A file as a module: executed once, whoever names its functions, unless it was written anew."""
    folder, file = os.path.split(path)
    if folder not in sys.path:  # as if it was run: it may import what lies beside it
        sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(file[: -len(".py")], path)
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(spec.name, module)  # where its dataclasses look for it
    spec.loader.exec_module(module)
    return module


def _blamed(flag, value, path, function, *given):
    """Calls code of the user's; what it raises is told with the line of their file."""
    try:
        return function(*given)
    except UserError:
        raise
    except Exception as error:
        here = os.path.abspath(path)
        frames = traceback.extract_tb(error.__traceback__)
        lines = [f.lineno for f in frames if os.path.abspath(f.filename) == here]
        if not lines and isinstance(error, SyntaxError):
            lines = [error.lineno]
        line = f", line {lines[-1]}" if lines else ""
        message = " ".join(str(error).split())
        said = f"{type(error).__name__}: {message}" if message else type(error).__name__
        raise UserError(f"--{flag}={value} raised {said} ({path}{line}); mend that") from error
