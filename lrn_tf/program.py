"""What all programs here have in common: how they end."""

import sys
from collections.abc import Callable

from absl import app, flags

from lrn_tf.errors import UserError


def run(main: Callable[[list[str]], int | None], takes: str = "", stopped: str = "stopped") -> None:
    """Runs a program. Bad input gets one line on stderr and exit code 2.

    Args:
        main: the program; its argument are what `takes` names, as given.
        takes: what arguments that are no flags stand for, such as "folder"; empty if there are none.
        stopped: what to say after Ctrl-C.
    """

    def parse(argv):
        try:
            rest = flags.FLAGS(argv)
        except flags.Error as error:
            raise UserError(" ".join(str(error).split())) from error
        if rest[1:] and not takes:
            raise UserError(f"{rest[1]!r} is no flag; flags look like --benchmark=cifar_mtl, see --help")
        if takes and not rest[1:]:
            raise UserError(f"no {takes} is given; name one or more, see --help")
        return rest

    try:
        app.run(lambda argv: main(argv[1:]), flags_parser=parse)
    except UserError as error:
        print(f"lrn_tf: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.filename is None:
            raise
        print(f"lrn_tf: {error.filename}: {error.strerror}; mend that, then run it again", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"\n{stopped}", file=sys.stderr)
        sys.exit(130)
