"""The command line: finds the command, runs it, and renders every error in one place."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from roadwork_core.console import Console

#: Command, module below this package, one line of help. Bodies are imported when the command is called.
COMMANDS = {
    "run": ("run", "turn a spec into a trained, evaluated and verified bundle"),
    "spec": ("spec", "check, show, compare and begin specs"),
    "plugins": ("plugins", "list, document, check and begin plugins"),
    "data": ("data", "look at what training would see"),
    "runs": ("runs", "list and show past runs"),
    "bundle": ("bundle", "verify, show and compare bundles"),
    "predict": ("predict", "decide on images or folders with a bundle"),
    "sweep": ("sweep", "carry out many specs made from one, and compare them on val_select"),
    "drift": ("drift", "compare what is served with the evidence of a bundle"),
    "evaluate": ("evaluate", "measure a bundle on labelled images, with intervals and a report"),
    "deploy": ("deploy", "make a verified bundle the one that is served, and go back"),
    "export": ("export", "write a bundle for another runtime: ONNX Runtime, transformers"),
    "feedback": ("feedback", "keep what served bundles said, and the labels that come later"),
    "mine": ("mine", "find the errors that are worth training on"),
    "retrain": ("retrain", "train a challenger on hard negatives, and promote it only where it is better"),
    "leaderboard": ("leaderboard", "watch where an entry of a leaderboard stands, and raise an alarm when it falls"),
    "policy": ("policy", "fit and apply decision policies to logits from elsewhere"),
}
#: Entry-point group in which a plugin announces the names of its commands, so that --help need not import it.
COMMAND_GROUP = "roadwork.commands"

USAGE = 2
#: What the extra `torch` installs.
TORCH = ("accelerate", "torch", "torchvision")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        from roadwork_core.errors import UsageError

        raise UsageError(message, hint=f"see {self.prog} --help")


def common_options() -> argparse.ArgumentParser:
    """Options that every command takes; a command with subcommands gives it to `parents=` of each of them."""
    parser = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    _add_output_options(parser)
    return parser


def _add_output_options(parser: argparse.ArgumentParser) -> None:
    """Those of `common_options` that the parser does not have yet."""
    group = parser.add_argument_group("output")
    for names, text in (
        (("-q", "--quiet"), "warnings and errors only"),
        (("-v", "--verbose"), "more detail"),
        (("--traceback",), "show where in the program an error arose"),
    ):
        if not any(name in parser._option_string_actions for name in names):
            group.add_argument(*names, action="store_true", default=argparse.SUPPRESS, help=text)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code (see `roadwork_core.errors.ExitCode`)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    _mend_streams()
    try:
        handler, options = _parse(arguments)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else USAGE
    except BrokenPipeError:
        return _broken_pipe()
    except Exception as error:  # noqa: BLE001 - discovery may meet anything; rendered below
        from roadwork_core.console import Console

        return _report(error, Console(as_json="--json" in arguments), "--traceback" in arguments)
    from roadwork_core.console import Console

    verbosity = -1 if getattr(options, "quiet", False) else int(getattr(options, "verbose", False))
    console = Console(verbosity=verbosity, as_json=bool(getattr(options, "json", False)))
    try:
        code = int(handler(options, console) or 0)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        return _broken_pipe()
    except KeyboardInterrupt as stop:
        console.clear()
        console.error(str(stop) or "interrupted")
        return 128 + signal.SIGINT
    except Exception as error:  # noqa: BLE001 - the one place where errors become lines
        return _report(error, console, bool(getattr(options, "traceback", False)))


def _parse(arguments: list[str]) -> tuple[Any, argparse.Namespace]:
    command = arguments[0] if arguments else "--help"
    parser = _Parser(
        prog="roadwork",
        description="From an image-classification spec to a verified bundle that decides, and says how sure it is.",
        epilog="roadwork COMMAND --help says more; ROADWORK_PLUGINS=a,b restricts which plugins load.",
    )
    parser.add_argument("--version", action="store_true", help="print the version")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands", parser_class=_Parser)
    if command in COMMANDS:
        handler = _add_core(subparsers, command)
        return handler, parser.parse_args(arguments)
    if command == "--version":
        from roadwork_core import __version__

        print(f"roadwork {__version__}")  # noqa: T201
        raise SystemExit(0)
    for name, (_, text) in COMMANDS.items():
        subparsers.add_parser(name, help=text)
    if command.startswith("-"):
        for name, module in _announced_commands():
            subparsers.add_parser(name, help=f"(from {module})")
        if command in ("-h", "--help"):
            parser.print_help()
            raise SystemExit(0)
        parser.error(f"unknown option {command}")
    return _parse_plugin_command(parser, subparsers, arguments)


def _add_core(subparsers: Any, command: str) -> Any:
    module_name, text = COMMANDS[command]
    module = importlib.import_module(f"{__name__}.{module_name}")
    description = text[0].upper() + text[1:] + "."
    child = subparsers.add_parser(command, help=text, description=description, parents=[common_options()])
    module.configure(child)
    return module.handle


def _parse_plugin_command(
    parser: argparse.ArgumentParser, subparsers: Any, arguments: list[str]
) -> tuple[Any, argparse.Namespace]:
    import difflib

    from roadwork_core.errors import UsageError
    from roadwork_core.plugins import Plugins

    plugins = Plugins.load()
    plugins.hook.roadwork_commands(subparsers=subparsers)
    command = arguments[0]
    if command not in subparsers.choices:
        close = difflib.get_close_matches(command, subparsers.choices, n=1)
        hint = f'did you mean "{close[0]}"?' if close else f"commands: {', '.join(subparsers.choices)}"
        raise UsageError(f"unknown command {command!r}", hint=hint)
    for name, child in subparsers.choices.items():
        if name not in COMMANDS:
            _add_output_options(child)
    options = parser.parse_args(arguments)
    handler = getattr(options, "handler", None)
    if handler is None:
        raise UsageError(f"the plugin's command {command!r} has no handler", hint="tell the plugin's author")
    return handler, options


def _announced_commands() -> list[tuple[str, str]]:
    import importlib.metadata

    points = importlib.metadata.entry_points(group=COMMAND_GROUP)
    return sorted({(point.name, point.value) for point in points})


def _report(error: BaseException, console: Console, with_traceback: bool) -> int:
    from roadwork_core.errors import ExitCode, RoadworkError

    console.clear()
    if with_traceback:
        import traceback

        traceback.print_exception(error, file=console.stderr)
    if isinstance(error, RoadworkError):
        problems, code = error.problems(), error.exit_code
    else:
        problems, code = (_unforeseen(error),), ExitCode.FAILED
    for problem in problems:
        console.error(str(problem))
    try:
        if console.as_json:
            errors = [problem.to_json() for problem in problems]
            console.json({"status": "error", "errors": errors, "exit_code": int(code)})
        sys.stdout.flush()
    except OSError:  # what went wrong may be the output itself: a full disk, a reader that left
        _drop_output()
    return int(code)


def _unforeseen(error: BaseException) -> Any:
    from roadwork_core.errors import Origin, Problem
    from roadwork_core.extras import how_to_install

    if isinstance(error, OSError) and error.strerror:
        return Problem(error.strerror, origin=None if error.filename is None else Origin(str(error.filename)))
    text = " ".join(str(error).split()) or "no message"
    if isinstance(error, ModuleNotFoundError) and error.name in TORCH:
        return Problem(f"{error.name} is not installed", hint=how_to_install("torch"))
    return Problem(
        f"{type(error).__name__}: {text}", hint="--traceback shows where; if it is a defect, please report it"
    )


def _broken_pipe() -> int:
    # The reader (head, less) went away: not an error of ours.
    _drop_output()
    return 128 + signal.SIGPIPE


def _drop_output() -> None:
    # Python flushes what is left when it ends, and must not fail at it again.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _mend_streams() -> None:
    # A stream that the caller closed (>&-) is None here; a locale may not hold every character of a path.
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115 - lives as long as we
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")
