"""The one kind of failure that is the user's to mend."""


class UserError(Exception):
    """Bad input: one line that says what was given, what is allowed and what to do.

    `lrn_tf.program.run` prints the line on stderr and leaves with exit code 2. Anything else that is raised
    is a bug and keeps its traceback.
    """
