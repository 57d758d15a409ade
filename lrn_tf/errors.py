"""The one kind of failure that is the user's to mend."""

import re


class UserError(ValueError):
    """Bad input: one line that says what was given, what is allowed and what to do.

    `lrn_tf.program.run` prints the line on stderr and leaves with exit code 2; in Python it is a
    ValueError. Anything else that is raised is a bug and keeps its traceback.
    """


def printable(said: str) -> str:
    """Text of a stranger's in one line: what would move a terminal's cursor, say, is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in said)


def reason(error: Exception) -> str:
    """What another failure says of itself, in one line, for a `UserError` that is made of it."""
    said = getattr(error, "strerror", None) or " ".join(str(error).split())
    # Without the names of TensorFlow's operations around it.
    return re.sub(r"\{\{.*?\}\} | \[Op:.*", "", said) or type(error).__name__


def unwritable(flag: str, folder, error: OSError) -> UserError:
    """What to raise where the folder that a flag such as "output" names cannot be written."""
    return UserError(f"--{flag}={folder} cannot be written ({reason(error)}); give another folder")
