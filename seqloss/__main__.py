"""``python -m seqloss``: the commands."""

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, NoReturn

import seqloss
from seqloss.commands import env, explain, golden, selftest, signals, streams
from seqloss.commands.render.text import ascii_line
from seqloss.core.errors import OptionError, SeqlossError
from seqloss.parity import cli as parity

# A command is a module with HELP, DESCRIPTION, add_arguments(parser) and run(options) -> exit status. Importing one
# is cheap: what it needs besides argparse it imports when it runs.
_COMMANDS: dict[str, Any] = {"env": env, "parity": parity, "selftest": selftest, "golden": golden, "explain": explain}


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line like all others, and whose help is in colour if rich-argparse is installed."""

    def print_help(self, file: Any = None) -> None:
        with streams.stdout():
            print(self.format_help(), end="", file=file)

    def error(self, message: str) -> NoReturn:
        raise OptionError(f"{message} ({self.prog} --help lists the options)")

    def format_help(self) -> str:
        # Not earlier: argparse makes a formatter for every argument that is added.
        if streams.is_terminal(sys.stdout) and find_spec("rich_argparse") is not None:
            from rich_argparse import RawDescriptionRichHelpFormatter

            # The brackets in descriptions are no markup.
            RawDescriptionRichHelpFormatter.text_markup = RawDescriptionRichHelpFormatter.help_markup = False
            self.formatter_class = RawDescriptionRichHelpFormatter
        return super().format_help()


class _Version(argparse.Action):
    """What a bug report needs: which version, from where, in which Python. ``env`` shows the rest."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any, **__: Any) -> NoReturn:
        place = os.path.dirname(seqloss.__file__)
        with streams.stdout():
            print(ascii_line(f"seqloss {seqloss.__version__} from {place} (python {platform.python_version()})"))
        parser.exit()


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status; 2 is a request that cannot be carried out, explained in one line."""
    try:
        with signals.obeyed():
            return _run(argv)
    except streams.ReaderGone:
        return streams.UNREAD
    except KeyboardInterrupt as ended:
        return ended.status if isinstance(ended, signals.Ended) else 130


def _run(argv: Sequence[str] | None) -> int:
    try:
        streams.check()
        options = _parser().parse_args(argv)
        return int(_COMMANDS[options.command].run(options))
    except (SeqlossError, OSError) as error:
        said = streams.reason(error) if isinstance(error, OSError) else str(error)
        # Text from a file or a framework may hold anything, even escape sequences of the terminal.
        streams.note(ascii_line(f"seqloss: error: {' '.join(said.split())}"))
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="seqloss", description="The loss of a sequence model in NumPy, PyTorch, TensorFlow and JAX.")
    parser.add_argument("-V", "--version", action=_Version, nargs=0, help="show the version of seqloss and of Python")
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
