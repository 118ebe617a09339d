"""How the command ends: exit codes, and the one shape of an error, ``CODE: message. hint``."""

from ottla.client.errors import OttlaError, TopicNotFound

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NOT_FOUND = 3
EXIT_INTERRUPTED = 130
"""What shells expect of a command ended by Ctrl-C: 128 + SIGINT."""


class NotFound(OttlaError):
    """What was named does not exist."""

    code = "OTTLA-NOT-FOUND"


class UsageProblem(OttlaError):
    """The command line cannot mean anything."""

    code = "OTTLA-USAGE"


def show_problem(error: OttlaError) -> str:
    """One line: the stable code, what happened to what, and what to do."""
    message = _sentence(str(error.args[0]) if error.args else type(error).__name__)
    return f"{error.code}: {message} {error.hint}".rstrip()


def exit_code_for(error: OttlaError) -> int:
    """3 for what is not there, 2 for a command line that cannot mean anything, 1 for the rest."""
    if isinstance(error, TopicNotFound | NotFound):
        return EXIT_NOT_FOUND
    return EXIT_USAGE if isinstance(error, UsageProblem) else EXIT_FAILED


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."
