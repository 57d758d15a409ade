"""What all programs here have in common: how they begin, whom they help, and how they end."""

import contextlib
import gc
import importlib.metadata
import io
import os
import runpy
import sys
from collections.abc import Callable

from absl import app, flags

from lrn_tf.errors import UserError, printable
from lrn_tf.settings.resolve import check_text
from lrn_tf.settings.table import GROUPS

HELP = "--help", "-help", "-h"
PROGRAMS = {
    "train": "train a network",
    "export": "make a SavedModel of a run",
    "predict": "let a model answer",
    "report": "make a web page about a run",
    "compare": "curves and a table of several runs",
}


def console() -> None:
    """Entry point of `lrn-tf`: any program of the package, by its name."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in HELP:
        print("lrn-tf PROGRAM --flag=value ..; lrn-tf PROGRAM --help lists the flags\n")
        print("\n".join(f"  lrn-tf {program:9}{does}" for program, does in PROGRAMS.items()))
    elif name == "--version":
        print(f"lrn_tf {importlib.metadata.version('lrn_tf')}")
    elif name not in PROGRAMS:
        _give_up(f"{name} is no program; choose one of: {', '.join(PROGRAMS)}")
    else:
        sys.argv[1:] = arguments
        module = "lrn_tf.main" if name == "train" else f"lrn_tf.{name}"
        runpy.run_module(module, run_name="__main__", alter_sys=True)


def _give_up(reason):
    with contextlib.suppress(OSError):
        print(f"lrn_tf: {printable(' '.join(reason.splitlines()))}", file=sys.stderr)
    # What could not be printed would be tried once more at the end, and complained of.
    sys.stdout = None
    sys.exit(2)


def run(main: Callable[[list[str]], int | None], takes: str = "", stopped: str = "stopped") -> None:
    """Runs a program. Bad input gets one line on stderr and exit code 2.

    Args:
        main: the program; its argument are what `takes` names, as given.
        takes: what arguments that are no flags stand for, such as "folder"; empty if there are none.
        stopped: what to say after Ctrl-C.
    """

    def parse(argv):
        if set(HELP) & set(argv[1:]):
            print(_help(main))
            sys.exit(0)
        _check_flagfiles(argv[1:])
        try:
            rest = flags.FLAGS(argv)
        except (flags.Error, ValueError) as error:  # for --noresume=1, or a flagfile that is no text
            raise UserError(" ".join(str(error).split())) from error
        for name, value in flags.FLAGS.flag_values_dict().items():
            if isinstance(value, str):
                check_text(name, value)
        if rest[1:] and not takes:
            raise UserError(f"{rest[1]!r} is no flag; flags look like --name=value, see --help")
        if takes and not rest[1:]:
            raise UserError(f"no {takes} is given; name one or more, see --help")
        return rest

    def main_and_flush(argv):
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be UTF-8
        code = main(argv[1:])
        print(end="", flush=True)  # a full disk shows here, not after the last line of this program
        return code

    # What is imported and traced are many objects and hardly any garbage: to look for some as often as
    # Python does by itself takes a twentieth of a start.
    gc.set_threshold(100_000, 50, 50)
    try:
        app.run(main_and_flush, flags_parser=parse)
    except UserError as error:
        _give_up(str(error))
    except OSError as error:
        if error.errno is None:
            raise
        # The system names no file where it cannot write to an open one, such as the standard output.
        _give_up(f"{error.filename or 'output'}: {error.strerror}; mend that, then run it again")
    except KeyboardInterrupt:
        print(f"\n{stopped}", file=sys.stderr)
        sys.exit(130)


def _help(main):
    """What the program is for, its own flags, and those of a run by what they are about."""
    about = sys.modules["__main__"].__doc__ or sys.modules[main.__module__].__doc__
    parts = [about.strip(), *map(flags.FLAGS.module_help, (sys.argv[0], *GROUPS.values()))]
    parts.append("--flagfile=FILE takes flags from a file, one a line.")
    # An empty text is what is not given: where that means something, the help says so.
    return "\n\n".join(part.strip("\n") for part in parts if part).replace("\n    (default: '')", "")


def _check_flagfiles(arguments, seen=()):
    """Sees that files of flags are regular ones, also those that they name; else absl may wait for ever."""
    for i, argument in enumerate(arguments):
        flag, given, name = argument.partition("=")
        if flag.strip() not in ("--flagfile", "-flagfile"):
            continue
        path = os.path.expanduser((name if given else "".join(arguments[i + 1 : i + 2])).strip())
        if "\0" in path or (os.path.exists(path) and not os.path.isfile(path)):
            raise UserError(f"--flagfile={path} is no regular file; give a text file with a flag a line")
        if path in seen:
            continue
        lines = []
        with contextlib.suppress(OSError), open(path, errors="replace") as file:
            lines = file.readlines()
        _check_flagfiles(lines, (*seen, path))


# What --help says of a flag that two programs have: a run holds no code, and starts none.
OWN_POOL = "FILE.py:FUNCTION that has made the run's modules, if a function of yours has"


def run_on_a_run(work: Callable[..., None], output: str, **own: str) -> None:
    """Runs a program that makes something of a finished run.

    Args:
        work: called with the values of --workdir and --output, and those of `own` by name.
        output: what --help says of --output.
        own: what --help says of further flags, which are text.
    """
    # Not on import: lrn_tf.main, which may do the same work, has a --workdir of its own.
    for name, text in {"workdir": "Folder of the run", "output": output, **own}.items():
        flags.DEFINE_string(name, "", text, module_name=sys.argv[0])  # as those of the program itself

    def main(_):
        for name in ("workdir", "output"):
            if not flags.FLAGS[name].value:
                raise UserError(f"--{name} is missing; see --help")
        work(flags.FLAGS.workdir, flags.FLAGS.output, **{name: flags.FLAGS[name].value for name in own})

    run(main)
