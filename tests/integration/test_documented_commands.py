"""Command lines of README and docs are valid calls."""

import configparser
import re
import shlex
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from pages import PAGES, ROOT, all_blocks, command_lines, read_page

from segpipe.cli.main import main
from segpipe.cli.subcommands import SUBCOMMANDS, find_subcommand
from segpipe.config.composing import compose_config
from segpipe.config.values import TRAINING_FILES

# Command lines of other programs: their number, and what they do.
OTHERS = {
    "docker": (3, "builds and runs the image, which is not tried"),
    "pip": (4, "installs; the extras that it names are checked"),
    "ray": (2, "starts a cluster"),
}
# Calls within a sentence, except those that end with `key=`.
INLINE = re.compile(r"`(segpipe [a-z-]+ [^`]*[^`=])`")
LANGUAGES = {"sh", "python", "text", "csv", "json", "yaml"}
FILES = re.compile(r"\.(csv|ckpt|json|safetensors|xml)$")
PATHS = {
    *(
        "folder",
        "labels",
        "masks",
        "given_masks",
        "split",
        "bundles",
        "run",
        "runs",
        "outside",
        "predictions",
        "bundle.segmenter",
        "bundle.classifier",
    ),
    *("data.root", "data.table", "data.masks", "ckpt_path", "classifier.init", "segmenter.init", "distill.teacher"),
}


def documented() -> dict[str, list[str]]:
    """Return the words of each command line."""
    lines = [line for block in all_blocks() if block.language == "sh" for line in command_lines(block)]
    lines += [shlex.split(call) for page in PAGES for call in INLINE.findall(read_page(page)) if " --" not in call]
    return {" ".join(line): [word for word in line if not re.fullmatch(r"[A-Z_]+=\S+", word)] for line in lines}


def subcommand_of(words: list[str]) -> tuple[str, list[str]] | None:
    """Return subcommand and arguments; None for another program."""
    return find_subcommand(words[1:]) if words[0] == "segpipe" else None


CALLS = {text: call for text, words in documented().items() if (call := subcommand_of(words))}
REST = {text: words for text, words in documented().items() if text not in CALLS}


def one_job(arguments: list[str]) -> list[str]:
    """Return the arguments of the first job of a sweep."""
    if "-m" not in arguments:
        return arguments
    parser = OverridesParser.create()
    return [first_value(parser.parse_override(argument)) for argument in arguments if argument != "-m"]


def first_value(override: Override) -> str:
    if not override.is_sweep_override():
        return str(override.input_line)
    swept = override.value()
    if isinstance(swept, IntervalSweep):
        return f"{override.get_key_element()}={swept.start}"
    return f"{override.get_key_element()}={next(iter(override.sweep_string_iterator()))}"


def make_paths(arguments: list[str], folder: Path) -> None:
    """Create the files and folders that arguments name."""
    for argument in arguments:
        key, _, value = argument.partition("=")
        named = [folder / part for part in value.strip("[]").split(",")] if key in PATHS and "://" not in value else []
        for path in named:
            if FILES.search(path.name):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
            elif value not in ("shipped", "imagenet", "random"):
                path.mkdir(parents=True, exist_ok=True)
        if key == "ckpt_path":
            for name in TRAINING_FILES:
                (named[0].parent.parent / name).touch()


def test_blocks_of_all_pages_have_a_language() -> None:
    assert len(PAGES) > 15
    assert {block.language for block in all_blocks()} <= LANGUAGES
    assert len(CALLS) > 50
    assert {SUBCOMMANDS[name].config for name, _ in CALLS.values()} == {sub.config for sub in SUBCOMMANDS.values()}


@pytest.mark.parametrize("text", CALLS)
def test_command_line_composes(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, arguments = CALLS[text]
    monkeypatch.chdir(tmp_path)
    make_paths(["data.root=data/ham10000", *arguments], tmp_path)
    compose_config(SUBCOMMANDS[name].config, one_job(arguments))


def test_other_programs_are_listed() -> None:
    programs = [words[0] for words in REST.values()]
    assert {program: programs.count(program) for program in programs} == {
        program: count for program, (count, _) in OTHERS.items()
    }


def test_documented_make_targets_and_extras_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", read_page("Makefile"), re.MULTILINE))
    named = {target for page in PAGES for target in re.findall(r"`make ([a-z]+)", read_page(page))}
    assert {"demo", "app", "test", "docs"} <= named <= targets
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    extras = set(setup["options.extras_require"])
    for page in PAGES:
        for group in re.findall(r"(?:segpipe|\.|\.whl)\[([a-z,]+)\]", read_page(page)):
            assert set(group.split(",")) <= extras, page


@pytest.mark.parametrize("arguments", [[], ["--version"], ["synthetic", "output=samples"]])
def test_cheap_commands_run(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 0
