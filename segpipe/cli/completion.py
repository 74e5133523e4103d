"""Shell completion: Hydra's, which knows keys and values, with the subcommands before them."""

import os
import sys
from collections.abc import Sequence

from segpipe.cli.main import SUBCOMMANDS, run_subcommand


def complete(arguments: Sequence[str], program: Sequence[str]) -> int:
    """Answer Hydra's completion script, which calls `segpipe -sc query=SHELL` with the line so far in COMP_LINE.

    Args:
        arguments: `install=SHELL`, `uninstall=SHELL` or `query=SHELL`.
        program: Words by which the command was called.

    Returns:
        Exit status.
    """
    name, line = "predict", os.environ.get("COMP_LINE", "")  # all subcommands have the script of one
    if arguments and arguments[0].startswith("query="):
        words = line.split(maxsplit=2)
        if len(words) < 2 or (len(words) == 2 and not line.endswith(" ")):
            sys.stdout.write(" ".join(SUBCOMMANDS) + "\n")
            return 0
        name = words[1]
        if name not in SUBCOMMANDS:
            return 0
        line = f"{words[0]} {''.join(words[2:])}"

    from hydra.core.utils import env_override

    with env_override({"COMP_LINE": line}):
        return run_subcommand(name, ["-sc", *arguments], [*program, name])
