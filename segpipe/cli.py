"""The border between the shell and Hydra: literal paths, one clear line per error, the exit status, the output folder."""

import difflib
import errno
import io
import os
import re
import sys
import traceback
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.core.utils import JobReturn, JobStatus, env_override
from hydra.errors import HydraException, InstantiationException, MissingConfigException, OverrideParseException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import BooleanNode, DictConfig, EnumNode, FloatNode, IntegerNode, ListConfig, OmegaConf, StringNode
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationResolutionError,
    MissingMandatoryValue,
    OmegaConfBaseException,
    ValidationError,
)
from yaml import YAMLError  # type: ignore[import-untyped]

from segpipe.errors import ConfigError, OutputError, SegpipeError

_PATH_KEYS = (
    "image",
    "folder",
    "output",
    "labels",
    "masks",
    "split",
    "data.root",
    "ckpt_path",
    "classifier.init",
    "segmenter.init",
)
_PATH_ARGUMENT = re.compile(rf"(\+{{0,2}}(?:bundle\.\w+|{'|'.join(map(re.escape, _PATH_KEYS))})=)(.+)", re.DOTALL)
# What only a wrong call can cause: from Hydra, before a job starts, and from within a job that reads its configuration.
_CALL_ERRORS = (HydraException, OmegaConfBaseException, YAMLError, ValueError, OSError)
_CALL_ERRORS_IN_JOB = (MissingMandatoryValue, InterpolationResolutionError, ValidationError)
_EXPECTED_TYPES: dict[type, str] = {
    IntegerNode: "an integer",
    FloatNode: "a number",
    BooleanNode: "true or false",
    StringNode: "a text",
    ListConfig: "a list such as [a,b]",
}
_PIPELINE_FILES = (
    *("results.jsonl", "results.csv", "failures.csv", "summary.json", "metrics.json"),
    *(f"{folder}/**/*.png" for folder in ("masks", "figures", "crops", "heatmaps", "plots")),
)
_TRAINING_FILES = (
    *("config.yaml", "split.csv", "metrics.csv", "checkpoints/*.ckpt", "bundle/model.safetensors", "bundle/card.json"),
    *(f"test/{name}" for name in _PIPELINE_FILES),
)
# What shows that a folder holds results, and which files it then holds; `masks` beside a training, say, are not ours.
_WRITTEN_FILES = {
    "results.jsonl": _PIPELINE_FILES,
    "results.csv": _PIPELINE_FILES,
    "checkpoints": _TRAINING_FILES,
    "bundle": _TRAINING_FILES,
}


def run_script(main: Callable[[], Any], argv: list[str] | None = None) -> int:
    """Run an entry script and turn every outcome into an exit status.

    A wrong call is one line on stderr, in words that name the key, the value and the way out. With HYDRA_FULL_ERROR=1 in the
    environment, which is for developers, nothing is caught: each error leaves as an exception with its full traceback.

    Args:
        main: the function that `hydra.main` decorates.
        argv: arguments without the script's name; by default those of the process.

    Returns:
        0 all is well, 1 work that failed or a bug (with its traceback), 2 a wrong call, 130 interrupted.
    """
    arguments = sys.argv[1:] if argv is None else argv
    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        _call_hydra(main, arguments, callbacks=[])
        return 0
    JobErrors.statuses.clear()
    try:
        _call_hydra(main, arguments, callbacks=[f"++hydra.callbacks.job_errors._target_={__name__}.{JobErrors.__name__}"])
    except SystemExit as stop:
        return 2 if stop.code else 0  # a task never exits, so this is Hydra: 0 after --help, otherwise a wrong call
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
    except Exception as error:  # noqa: BLE001 - the outermost border: what is not a wrong call is shown as a bug
        return JobErrors.statuses[0] if JobErrors.statuses else _report(error, arguments, _CALL_ERRORS)
    return JobErrors.statuses[0] if JobErrors.statuses else 0


class JobErrors(Callback):
    """Shows the error of a job as soon as it ends, in place of Hydra, which adds lines of its own.

    Attributes:
        statuses: exit status of each failed job, in order.
    """

    statuses: ClassVar[list[int]] = []

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        """Report a failed job. A sweep goes on, and Hydra must still see the failure: its jobs may run in other processes."""
        if job_return.status is not JobStatus.FAILED:
            return
        error = job_return._return_value  # the public property prints and raises
        in_sweep = config.hydra.mode == RunMode.MULTIRUN
        prefix = f"job {config.hydra.job.num}: " if in_sweep else ""
        self.statuses.append(_report(error, job_return.overrides or [], _CALL_ERRORS_IN_JOB, prefix=prefix))
        if not in_sweep:
            job_return.status, job_return.return_value = JobStatus.COMPLETED, None


def quote_paths(overrides: Sequence[str]) -> list[str]:
    """Quote the values of path keys for Hydra's grammar, so that they are taken literally whatever their characters.

    Args:
        overrides: `key=value` arguments as the shell hands them over; a `[list]`, `null` and an empty value stay as they are.
    """
    return [_quote_path(override) for override in overrides]


def _quote_path(override: str) -> str:
    match = _PATH_ARGUMENT.fullmatch(override)
    if match is None or match[2] == "null" or (match[2][0], match[2][-1]) == ("[", "]"):
        return override
    key, path = match.groups()
    if path == "???":  # OmegaConf's sign for a missing value cannot be escaped
        path = "./???"
    uninterpolated = re.sub(r"(\\*)\$\{", r"\1\1\\${", path)
    return key + QuotedString(uninterpolated, Quote.single).with_quotes()


def _call_hydra(main: Callable[[], Any], arguments: list[str], *, callbacks: list[str]) -> None:
    """Call Hydra's main; it raises its errors instead of printing them."""
    parsed = _parse_flags(arguments)
    flags = list(arguments)
    for override in parsed.overrides:
        flags.remove(override)
    # In a sweep a comma or a bracket in a path has to keep Hydra's meaning.
    overrides = parsed.overrides if parsed.multirun else quote_paths(parsed.overrides)
    # The keys stand together, because Hydra does not take `a=1 --multirun b=2,3`.
    with env_override({"HYDRA_FULL_ERROR": "1"}), _shell_arguments([*overrides, *callbacks, *flags]):
        main()


def _parse_flags(arguments: list[str]) -> Namespace:
    usage = io.StringIO()
    try:
        with redirect_stderr(usage):
            return get_args_parser().parse_intermixed_args(arguments)
    except SystemExit as stop:
        if not stop.code:
            raise
        reason = usage.getvalue().rpartition("error: ")[2].strip()
        raise ConfigError(f"{reason}; --hydra-help lists the flags, --help the keys") from None


@contextmanager
def _shell_arguments(arguments: list[str]) -> Iterator[None]:
    kept = sys.argv
    sys.argv = [kept[0], *arguments]
    try:
        yield
    finally:
        sys.argv = kept


def _report(error: Exception, arguments: Sequence[str], call_errors: tuple[type[Exception], ...], *, prefix: str = "") -> int:
    """Show an error on stderr, a wrong call as one line and a bug with its traceback; returns the exit status."""
    cause = error.__cause__
    if isinstance(error, InstantiationException) and isinstance(cause, (SegpipeError, ValueError)):
        key = re.search(r"full_key: (.+)", str(error))
        error = cause if isinstance(cause, SegpipeError) else ConfigError(f"{key[1]}: {cause}" if key else str(cause))
    if isinstance(error, SegpipeError):
        message, status = str(error), error.exit_status
    elif isinstance(error, call_errors):
        message, status = _explain(error, arguments), ConfigError.exit_status
    else:
        traceback.print_exception(error)
        return 1
    sys.stderr.write(f"error: {prefix}{_in_one_line(message)}\n")
    return status


def _in_one_line(text: str) -> str:
    """Show control characters and undecodable bytes, as they may stand in a file name, by their codes."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", lambda match: _code(match[0]), text)


def _code(character: str) -> str:
    undecodable = "\udc80" <= character <= "\udcff"
    return f"\\x{ord(character) - 0xDC00:02x}" if undecodable else repr(character)[1:-1]


def _explain(error: Exception, arguments: Sequence[str]) -> str:
    """Say in one line, and in our own words, what is wrong with a call that Hydra or OmegaConf refused."""
    if isinstance(error, OverrideParseException):
        return _explain_syntax(error.override)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, option = error.missing_cfg_file.rpartition("/")
        return f"{group} must be one of {', '.join(error.options)}, got {option}"
    cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__ or error.__context__
    if isinstance(cause, OmegaConfBaseException) and cause.full_key:
        file = re.match(r"In '(.+?)': ", str(error))
        return _explain_key(cause, cause.full_key, arguments) + (f" (in {file[1]}.yaml)" if file else "")
    return _explain_text(str(error), arguments)


def _explain_syntax(override: str) -> str:
    key, equal, value = override.partition("=")
    if not equal:
        return (
            f"an argument must be key=value, got {override or 'an empty one'}; write image={override or 'FILE'} or "
            f"folder={override or 'DIR'}, for example, and put quotes round blanks; --help lists the keys"
        )
    if near := difflib.get_close_matches(key, _PATH_KEYS, n=1, cutoff=0.7):
        return f"unknown key {override}; did you mean {near[0]}? --help lists the keys"
    return f"""{key} must be a value that Hydra can read, got {value}; quote it twice: '{key}="{value}"'"""


def _explain_key(error: OmegaConfBaseException, key: str, arguments: Sequence[str]) -> str:
    match error:
        case ConfigKeyError() | ConfigAttributeError():
            return _explain_unknown_key(error, key, arguments)
        case MissingMandatoryValue():
            return f"{key} must be given, got nothing; write {key}=..."
        case InterpolationResolutionError():
            return f"{key} must refer to a value that exists: {_first_line(error)}"
        case ValidationError():
            return f"{key} must be {_expected(error, key)}, got {_shown(error.value)}"
    return f"{key}: {_first_line(error)}"


def _explain_unknown_key(error: OmegaConfBaseException, key: str, arguments: Sequence[str]) -> str:
    given = next((argument for argument in arguments if argument.lstrip("+").partition("=")[0] == key), key)
    config = OmegaConf.to_container(error.parent_node._get_root(), resolve=False)
    known = [name for name in _dotted_keys(config) if key.startswith("hydra.") or not name.startswith("hydra")]
    near = " or ".join(difflib.get_close_matches(key, known, n=2, cutoff=0.7))
    return f"unknown key {given}; " + (f"did you mean {near}? " if near else "") + "--help lists the keys"


def _dotted_keys(config: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(config, Mapping):
        for key, value in config.items():
            yield f"{prefix}{key}"
            yield from _dotted_keys(value, f"{prefix}{key}.")


def _expected(error: ValidationError, key: str) -> str:
    node = error.child_node
    if isinstance(node, EnumNode):
        return f"one of {', '.join(node.enum_type.__members__)}"
    if isinstance(node, DictConfig):
        keys = ", ".join(f"{key}.{name}" for name in map(str, node))
        return f"set key by key ({keys})"
    return _EXPECTED_TYPES.get(type(node), "of another type")


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value) or "nothing"


def _explain_text(text: str, arguments: Sequence[str]) -> str:
    """Explain what Hydra says without a structure: only its text tells one kind from another."""
    if match := re.match(r"(?:Ambiguous value for argument|Sweep parameters) '([^=]+)=(.*?)'(?:\n1| req)", text, re.DOTALL):
        return f"{match[1]} must be a single value, got {match[2]}; --multirun tries each of them, [a,b] is a list"
    if match := re.match(r"You must specify '(.+?)'.*Available options:\n(.*)", text, re.DOTALL):
        return f"{match[1]} must be given, one of {', '.join(match[2].split())}; write {match[1]}=..."
    if match := re.match(r"Config group override must be a string or a list. Got (\w+)", text):
        overrides = OverridesParser.create().parse_overrides([argument for argument in arguments if "=" in argument])
        suspects = [str(override.input_line) for override in overrides if type(override.value()).__name__ == match[1]]
        return f"a config group must be given one of its options by name, got {' or '.join(suspects)}; --help lists them"
    return " ".join(text.partition("\nConfig search path:")[0].split())


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def output_folder(config: DictConfig) -> Path:
    """The folder that a run writes into: `output`, or one named after the date and time; call it once per run.

    In a multirun each job has a subfolder of its own, named by its number.
    """
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        return Path(config.output or HydraConfig.get().sweep.dir) / str(HydraConfig.get().job.num)
    return Path(config.output or Path("outputs") / datetime.now().strftime("%Y-%m-%d/%H-%M-%S"))


def prepare_output(folder: Path, *, overwrite: bool) -> None:
    """Make the output folder, and see that the results of two runs never mix.

    Args:
        folder: made with its parents where it does not exist.
        overwrite: remove the results of an earlier run; only files that segpipe writes, never anything else.

    Raises:
        OutputError: `folder` is a file, cannot be made or written, or holds results while `overwrite` is false.
    """
    try:
        if folder.exists() and not folder.is_dir():
            raise OutputError(f"output must be a folder, got the file {folder}; name another one")
        folder.mkdir(parents=True, exist_ok=True)
        found = [name for name in _WRITTEN_FILES if os.path.lexists(folder / name)]
        if found and not overwrite:
            raise OutputError(_refusal(folder, found))
        for name in found:
            _remove(folder, _WRITTEN_FILES[name])
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise OutputError(f"output must be a folder to write into, got {folder}: {error.strerror}; name another one") from error


def _refusal(folder: Path, found: list[str]) -> str:
    resume = "resume=true goes on with them, " if "results.jsonl" in found else ""
    return (
        f"output must be a folder without results, got {folder} with {', '.join(found)}; "
        f"{resume}overwrite=true replaces them, or name another folder"
    )


def _remove(folder: Path, patterns: Sequence[str]) -> None:
    inside = folder.resolve()
    for path in [path for pattern in patterns for path in folder.glob(pattern)]:
        # Behind a link to another folder nothing is ours.
        if path.parent.resolve().is_relative_to(inside) and not path.is_dir():
            path.unlink(missing_ok=True)
            _remove_empty(path.parent, inside)


def _remove_empty(folder: Path, top: Path) -> None:
    while folder.resolve() != top and not folder.is_symlink() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
