"""The one kind of failure that is the user's to mend."""

import re


class UserError(Exception):
    """Bad input: one line that says what was given, what is allowed and what to do.

    `lrn_tf.program.run` prints the line on stderr and leaves with exit code 2. Anything else that is raised
    is a bug and keeps its traceback.
    """


def reason(error: Exception) -> str:
    """What another failure says of itself, in one line, for a `UserError` that is made of it."""
    said = getattr(error, "strerror", None) or " ".join(str(error).split())
    # Without the names of TensorFlow's operations around it.
    return re.sub(r"\{\{.*?\}\} | \[Op:.*", "", said) or type(error).__name__
