"""The command `segpipe`: the table of its subcommands, which are imported only when they are called."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module

from segpipe import __version__


@dataclass(frozen=True)
class Subcommand:
    """A subcommand, whose work is `run` of the module `segpipe.cli` of its name.

    Attributes:
        summary: Line for the list of subcommands.
        config: Name of the primary configuration in conf/.
    """

    summary: str
    config: str


SUBCOMMANDS = {
    "predict": Subcommand("find, crop and classify the lesion in photographs, and show why", "run_pipeline"),
    "train-seg": Subcommand("train the U-Net that finds the lesion", "train_seg"),
    "train-cls": Subcommand("train the classifier", "train_cls"),
    "check": Subcommand("check a data set before a training", "check"),
    "leaks": Subcommand("list the lesions and photographs that the parts of a split share", "leaks"),
    "compare": Subcommand("compare trained classifiers on one labeled folder", "compare"),
    "ablations": Subcommand("compare finished runs over the same images with the first of them", "ablations"),
    "heatmaps": Subcommand("test how far the heatmaps of trained classifiers follow the photograph", "heatmaps"),
    "export": Subcommand("write half-precision copies of trained models, and score them", "export"),
    "card": Subcommand("write the model card of a segmenter and a classifier", "card"),
    "synthetic": Subcommand("draw sample images with masks and labels", "synthetic"),
    "app": Subcommand("open the web page", "app_server"),
}
_COMPLETION = ("-sc", "--shell-completion")


def main(arguments: Sequence[str] | None = None, program: Sequence[str] = ("segpipe",)) -> int:
    """Run the command `segpipe`.

    Args:
        arguments: Arguments without the program; None takes those of the process.
        program: Words by which it was called, for help and advice.

    Returns:
        Exit status: 0 success, 1 work that failed, 2 a wrong call, 130 interrupted.
    """
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["help"]
    if name == "help" and rest:
        name, rest = rest[0], ["--help"]
    if name in ("help", "--help", "-h"):
        sys.stdout.write(list_subcommands())
        return 0
    if name == "--version":
        sys.stdout.write(f"segpipe {__version__}\n")
        return 0
    if not {name, *rest}.isdisjoint(_COMPLETION):
        from segpipe.cli.completion import complete

        return complete([word for word in (name, *rest) if "=" in word], program)
    if name not in SUBCOMMANDS:
        sys.stderr.write(f"error: {_unknown(name)} segpipe --help lists the subcommands\n")
        return 2
    return run_subcommand(name, rest, [*program, name])


def run_script(name: str) -> int:
    """Run a subcommand as a script of the repository, with the arguments of the process; returns the exit status."""
    return run_subcommand(name, sys.argv[1:], ["python", sys.argv[0]])


def run_subcommand(name: str, arguments: Sequence[str], program: Sequence[str]) -> int:
    """Run a subcommand.

    Args:
        name: Key of `SUBCOMMANDS`.
        arguments: `key=value` arguments and flags.
        program: Words by which it was called, for help and advice.

    Returns:
        Exit status.
    """
    from segpipe.cli.running import run_work

    work = import_module(f"segpipe.cli.{name.replace('-', '_')}").run
    return run_work(work, SUBCOMMANDS[name].config, arguments, program=program)


def list_subcommands() -> str:
    """Write the help of the command: its subcommands with a line each."""
    width = max(map(len, SUBCOMMANDS))
    lines = [f"  {name:{width}}  {subcommand.summary}" for name, subcommand in SUBCOMMANDS.items()]
    return "\n".join(
        [
            f"segpipe {__version__}: find a skin lesion in a dermoscopic photograph, crop it, classify it, and show why.",
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
    """Say what is wrong with a first word that is no subcommand."""
    if name.startswith("-") or "=" in name:
        return f"a subcommand must come first, got {name!r}; write segpipe SUBCOMMAND {name};"
    near = get_close_matches(name.replace("_", "-"), SUBCOMMANDS, n=1)
    return f"unknown subcommand {name!r};" + (f" did you mean {near[0]}?" if near else "")
