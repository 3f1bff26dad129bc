"""``python -m seqloss``: the commands."""

import argparse
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, NoReturn

from seqloss.commands import env, explain, golden, selftest
from seqloss.commands.render.text import ascii_line
from seqloss.core.errors import OptionError, SeqlossError
from seqloss.parity import cli as parity

# A command is a module with HELP, DESCRIPTION, add_arguments(parser) and run(options) -> exit status. Importing one
# is cheap: what it needs besides argparse it imports when it runs.
_COMMANDS: dict[str, Any] = {"env": env, "parity": parity, "selftest": selftest, "golden": golden, "explain": explain}


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line like all others, and whose help is in colour where rich-argparse is there."""

    def error(self, message: str) -> NoReturn:
        raise OptionError(f"{message} ({self.prog} --help shows what there is)")

    def format_help(self) -> str:
        # Not earlier: argparse makes a formatter for every argument that is added.
        if sys.stdout.isatty() and find_spec("rich_argparse") is not None:
            from rich_argparse import RawDescriptionRichHelpFormatter

            # The brackets in descriptions are no markup.
            RawDescriptionRichHelpFormatter.text_markup = RawDescriptionRichHelpFormatter.help_markup = False
            self.formatter_class = RawDescriptionRichHelpFormatter
        return super().format_help()


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status; 2 is a request that cannot be fulfilled, explained in one line."""
    try:
        options = _parser().parse_args(argv)
        return int(_COMMANDS[options.command].run(options))
    except (SeqlossError, OSError) as error:
        # What a file or a framework says may hold anything, escape sequences of the terminal too.
        print(ascii_line(f"seqloss: error: {' '.join(str(error).split())}"), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="seqloss", description="The loss of a sequence model in NumPy, PyTorch, TensorFlow and JAX.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, prog="seqloss")
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
