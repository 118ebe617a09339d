"""The entry of the `ottla` command. Nothing heavy is imported before it is known what was asked."""

import os
import re
import sys
from collections.abc import Sequence
from typing import Any

from .problems import EXIT_DONE, EXIT_INTERRUPTED, UsageProblem, exit_code_for, show_problem

NO_COMMAND = re.compile(r"No such command '([^']+)'")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    code = run(sys.argv[1:] if arguments is None else arguments)
    _flush_or_forget()
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run the command line; its exit code."""
    from ottla.client.errors import OttlaError

    from .app import make_app

    try:
        result = make_app()(list(arguments), standalone_mode=False, prog_name="ottla")
        return result if isinstance(result, int) else 0
    except OttlaError as error:
        return _fail(show_problem(error), exit_code_for(error))
    except BrokenPipeError:  # `ottla consume t | head`: the reader has had enough, which is no failure
        return EXIT_DONE
    except SystemExit as ended:  # what typer makes of a broken pipe
        if isinstance(ended.__context__, BrokenPipeError):
            return EXIT_DONE
        raise
    except (KeyboardInterrupt, EOFError):
        return EXIT_INTERRUPTED
    except Exception as error:
        return _end_of_typer(error)


def _end_of_typer(error: Exception) -> int:
    """typer's and click's own endings, known by their shape: where the classes live differs between releases."""
    if type(error).__name__ == "Abort":
        return EXIT_INTERRUPTED
    code = getattr(error, "exit_code", None)
    if not isinstance(code, int):
        raise error
    if type(error).__name__ == "NoArgsIsHelpError":
        print(getattr(error, "ctx").get_help())  # noqa: B009 - not an attribute of Exception
        return 0
    describe = getattr(error, "format_message", None)
    if describe is None:
        return code  # typer.Exit
    said = str(describe())
    return _fail(show_problem(UsageProblem(said, hint=_what_to_type(said, getattr(error, "ctx", None)))), code)


def _what_to_type(said: str, context: Any) -> str:
    from .other_words import ours_for

    if context is None:
        return "Try: ottla --help"
    unknown = NO_COMMAND.match(said)
    ours = ours_for(unknown[1], context.command) if unknown else None
    return f"Try: {context.command_path} {ours or '--help'}"


def _fail(line: str, code: int) -> int:
    print(line, file=sys.stderr)
    return code


def _flush_or_forget() -> None:
    """Push out what is left; a reader that has gone away is no reason for a traceback at exit."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
