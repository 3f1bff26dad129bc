"""``python -m seqloss``: the commands."""

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from seqloss.core.errors import OptionError, SeqlossError
from seqloss.parity import cli as parity

# A command is a module with HELP, DESCRIPTION, add_arguments(parser) and run(options) -> exit status. Importing one
# is cheap: what it needs besides argparse it imports when it runs.
_COMMANDS = {"parity": parity}


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line like all others, not the usage and a line."""

    def error(self, message: str) -> NoReturn:
        raise OptionError(f"{message} ({self.prog} --help shows what there is)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status; 2 is a request that cannot be fulfilled, explained in one line."""
    try:
        options = _parser().parse_args(argv)
        return int(_COMMANDS[options.command].run(options))
    except (SeqlossError, OSError) as error:
        print(f"seqloss: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="seqloss", description="The loss of a sequence model in NumPy, PyTorch, TensorFlow and JAX.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in _COMMANDS.items():
        command.add_arguments(
            commands.add_parser(
                name,
                help=command.HELP,
                description=command.DESCRIPTION,
                formatter_class=argparse.RawDescriptionHelpFormatter,
            )
        )
    return parser


if __name__ == "__main__":
    sys.exit(main())
