"""The command `segpipe`, which imports a subcommand only when it is called."""

import atexit
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from segpipe import __version__
from segpipe.cli.subcommands import SUBCOMMANDS, find_subcommand, load_function

_COMPLETION = ("-sc", "--shell-completion")


def run_process(program: Sequence[str] = ("segpipe",)) -> int:
    """Run the command `segpipe` in a process that ends quickly.

    Python would take all loaded libraries apart, which takes longer than its start. Handlers that were registered with `atexit`
    run before.

    Args:
        program: Words of the command before the arguments, for help and advice.

    Returns:
        Exit status, see `main`.
    """
    statuses: list[int] = []
    atexit.register(_end_process, statuses)  # runs last, because it is registered first
    statuses.append(main(program=program))
    return statuses[0]


def _end_process(statuses: Sequence[int]) -> None:
    """End the process with its status, if its output is written."""
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
        if statuses:
            os._exit(statuses[0])


def main(arguments: Sequence[str] | None = None, program: Sequence[str] = ("segpipe",)) -> int:
    """Run the command `segpipe`.

    Args:
        arguments: Arguments without the program; None takes those of the process.
        program: Words of the command before the arguments, for help and advice.

    Returns:
        Exit status: 0 success, 1 work that failed, 2 a wrong call, 130 interrupted.
    """
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["help"]
    if name == "help" and rest:
        name, rest = find_subcommand(rest)[0], ["--help"]
    if name in ("help", "--help", "-h"):
        sys.stdout.write(list_subcommands())
        return 0
    if name == "--version":
        sys.stdout.write(f"segpipe {__version__}\n")
        return 0
    if not {name, *rest}.isdisjoint(_COMPLETION):
        return complete([word for word in (name, *rest) if "=" in word], program)
    name, rest = find_subcommand([name, *rest])
    if name not in SUBCOMMANDS:
        sys.stderr.write(f"error: {_unknown(name)} segpipe --help lists the subcommands\n")
        return 2
    return run_subcommand(name, rest, [*program, *name.split()])


def run_script(name: str) -> int:
    """Run a subcommand as a script and return the exit status."""
    return run_subcommand(name, sys.argv[1:], ["python", sys.argv[0]])


def run_subcommand(name: str, arguments: Sequence[str], program: Sequence[str]) -> int:
    """Run a subcommand.

    Args:
        name: Key of `SUBCOMMANDS`.
        arguments: `key=value` arguments and flags.
        program: Words of the command before the arguments, for help and advice.

    Returns:
        Exit status.
    """
    subcommand = SUBCOMMANDS[name]
    status: int | None = load_function(subcommand.plain)(arguments, program=program) if subcommand.plain else None
    if status is not None:
        return status

    from segpipe.cli.running import run_work

    return run_work(subcommand, arguments, program=program)


def complete(arguments: Sequence[str], program: Sequence[str]) -> int:
    """Complete a command line for Hydra's completion script.

    The script calls `segpipe -sc query=SHELL` with the line in COMP_LINE.

    Args:
        arguments: `install=SHELL`, `uninstall=SHELL` or `query=SHELL`.
        program: Words of the command.

    Returns:
        Exit status.
    """
    name, line = "predict", os.environ.get("COMP_LINE", "")  # the script is the same for all subcommands
    if arguments and arguments[0].startswith("query="):
        words = line.split(maxsplit=2)
        if len(words) < 2 or (len(words) == 2 and not line.endswith(" ")):
            sys.stdout.write(" ".join(dict.fromkeys(name.split()[0] for name in SUBCOMMANDS)) + "\n")
            return 0
        name, _ = find_subcommand(line.split()[1:])
        if name not in SUBCOMMANDS:
            return 0
        line = f"{words[0]} {''.join(line.split(maxsplit=1 + len(name.split()))[1 + len(name.split()) :])}"

    from hydra.core.utils import env_override

    with env_override({"COMP_LINE": line}):
        return run_subcommand(name, ["-sc", *arguments], [*program, name])


def list_subcommands() -> str:
    """Write the help of the command, with a line for each subcommand."""
    width = max(map(len, SUBCOMMANDS))
    lines = [f"  {name:{width}}  {subcommand.summary}" for name, subcommand in SUBCOMMANDS.items()]
    return "\n".join(
        [
            f"segpipe {__version__}: find, crop and classify skin lesions in dermoscopic images.",
            "",
            "Usage: segpipe SUBCOMMAND key=value ...",
            "",
            *lines,
            "",
            "segpipe SUBCOMMAND --help lists its keys with examples; segpipe --version shows the version.",
            'Completion in bash: eval "$(segpipe -sc install=bash)"; also fish and zsh.',
            "Not a medical device.\n",
        ]
    )


def _unknown(name: str) -> str:
    """Explain a first word that is no subcommand."""
    if name.startswith("-") or "=" in name:
        return f"a subcommand must come first, got {name!r}; write segpipe SUBCOMMAND {name};"
    from difflib import get_close_matches

    near = get_close_matches(name.replace("_", "-"), SUBCOMMANDS, n=1)
    return f"unknown subcommand {name!r};" + (f" did you mean {near[0]}?" if near else "")
