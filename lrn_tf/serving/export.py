"""Exports a run as a SavedModel, with a card and a README.md of it."""

import ctypes
import json
import os
import pathlib
import sys
from typing import Any

from lrn_tf.errors import UserError, reason
from lrn_tf.serving.card import CARD, describe, readme, versions
from lrn_tf.serving.operations import load_graph, more_than_computing
from lrn_tf.serving.restore import restore
from lrn_tf.settings.resolve import check_text
from lrn_tf.storage import files
from lrn_tf.storage.runs import read

# renameat2(2), where there is one: swaps two names in one step.
EXCHANGE, HERE = 2, -100


def export(workdir: str, output: str, pool: Any = None) -> None:
    """Writes a run's network as a SavedModel; `pool` as in `lrn_tf.serving.restore.restore`.

    An output that holds a model already is replaced in one step, where the system has one: whoever kills
    this, or looks at it meanwhile, finds the old model or the new one.

    Raises:
        UserError: there is no run, or the output cannot be written or holds something else.
    """
    check_output(output, workdir)
    # Not a link to it, which would be what is replaced.
    folder, run = _real(output), read(workdir)
    served, step = restore(run, pool)
    import tensorflow as tf

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with files.beside(folder) as partial:
            tf.saved_model.save(served, str(partial), signatures=served.functions)
            more = more_than_computing(load_graph(partial))
            card = describe(run, step)
            # Not of README.md, which people may well change.
            card = files.seal({**card, "files": files.checksums(partial)})
            files.replace(partial / CARD, json.dumps(card, indent=2) + "\n")
            files.replace(partial / "README.md", readme(card, served))
            _put(partial, folder)
    except (OSError, tf.errors.OpError) as error:
        raise _failed(output, error) from error
    print(f"{output}: a SavedModel; README.md in it says how to use it", file=sys.stderr)
    if more:
        print(f"{output} {more}, so lrn_tf.load will refuse it; TensorFlow will not", file=sys.stderr)


def check_output(output: str, workdir: str) -> None:
    """Sees that the model of a run may be written there. Raises UserError if not."""
    folder, run = _real(output), _real(workdir)
    check_text("output", str(folder))
    # A model is replaced as a whole, and a run's folder holds nothing else.
    if folder.is_relative_to(run) or run.is_relative_to(folder):
        raise UserError(
            f"{output} and the folder of the run, {workdir}, lie one in the other; give another folder to"
            f" export to"
        )
    try:
        held = folder.exists() and not (folder / CARD).exists()
        if held and (not folder.is_dir() or any(folder.iterdir())):
            there = versions(folder)
            raise UserError(
                f"{output} exists and is no exported model; give another folder to export to"
                + (f", such as {folder / str(there[-1] + 1)}" if there else "")
            )
        files.check_writable(folder.parent)
    except OSError as error:
        raise _failed(output, error) from error


def _failed(output, error):
    return UserError(f"cannot export to {output} ({reason(error)}); give another folder")


def _real(path):
    """Where a path leads; `Path.resolve` fails where links lead in a circle."""
    return pathlib.Path(os.path.realpath(path))


def _put(partial, folder):
    """Gives a folder its final name; what had it before goes away with the place where it was written."""
    if not (folder / CARD).exists():  # nothing, or an empty folder
        try:
            return os.rename(partial, folder)
        except OSError:
            if not (folder / CARD).exists():  # another export came first
                raise
    swap = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if swap is None or swap(HERE, os.fsencode(partial), HERE, os.fsencode(folder), EXCHANGE):
        # As on macOS and some network disks: for a moment there is neither.
        old = partial.parent / "old"
        os.rename(folder, old)
        try:
            os.rename(partial, folder)
        except BaseException:
            os.rename(old, folder)
            raise
