"""Arrays of a user's as we keep them: finite, and of few types."""

import hashlib

import numpy as np

from lrn_tf.errors import UserError, reason

# Numbers beyond this are taken for a mistake, as are more classes or tokens than that.
ENORMOUS, MOST = 1e30, 10**6
# Numbers that differ by less than this share of them are hardly told apart in float32, which has 24 bits.
COARSE = 2.0**-16


def numbers(name: str, what: str, values) -> np.ndarray:
    """An array of finite float32 or of int32.

    Args:
        name: of the task, for who is told that it cannot be.
        what: likewise, such as "y".
        values: an array, or what can be made one.

    Raises:
        UserError: it cannot be.
    """
    if np.ma.is_masked(values):
        raise UserError(f"{name}: {what} has missing values; fill them or drop those examples")
    values = array(name, what, values)
    if values.dtype.kind not in "biuf":
        raise UserError(f"{name}: {what} holds {values.dtype}, not numbers; turn it into numbers")
    if values.ndim < 1:
        raise UserError(f"{name}: {what} is a single number; give an array with an entry per example")
    if values.dtype.kind == "f":
        return _floats(name, what, values)
    if values.size and not -(2**31) <= values.min() <= values.max() < 2**31:
        raise UserError(
            f"{name}: {what} has whole numbers from {values.min()} to {values.max()}, too large for"
            " classes or tokens; number those from 0 on, or make them float"
        )
    return values.astype(np.int32, copy=False)


def array(name: str, what: str, values) -> np.ndarray:
    """An array of any type; arguments and errors as of `numbers`."""
    try:
        return np.asarray(values)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name}: {what} is no array ({reason(error)}); make it one") from error


def _floats(name, what, values):
    with np.errstate(over="ignore"):
        made = values.astype(np.float32, copy=False)
    wrong = ~(np.abs(made) <= ENORMOUS)  # which is so of NaN as well
    if wrong.any():
        row = np.argwhere(wrong)[0][0]
        raise UserError(
            f"{name}: {what} has NaN, infinite or enormous numbers, first in row {row}; mend that"
        )
    if values.dtype.itemsize > 4 and values.size:
        columns = values.reshape(-1, values.shape[-1] if values.ndim > 1 else 1)
        spread, most = np.ptp(columns, axis=0), np.abs(columns).max(axis=0)
        if (narrow := (spread > 0) & (spread < COARSE * most)).any():
            column = int(narrow.argmax())
            raise UserError(
                f"{name}: {what} has numbers around {most[column]:g} in column {column} that differ by"
                f" {spread[column]:g} only, too little for float32; subtract the smallest"
            )
    return made


def digest(values: np.ndarray) -> tuple:
    """What equal arrays have in common, and no others."""
    content = hashlib.blake2b(np.ascontiguousarray(values).data, digest_size=16).digest()
    return values.dtype.str, values.shape, content
