"""The command line of all stages: shared options, exit codes, output.

Nothing here imports TensorFlow, so `--help` and wrong requests are answered at once.
"""

import argparse
import errno
import importlib.util
import json
import logging
import os
import select
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, ClassVar, NoReturn, TextIO

from deeplens_tf.errors import DeeplensError, RequestError, ResourceError
from deeplens_tf.plugins import load_plugins
from deeplens_tf.registry import augmentations, encoders, methods
from deeplens_tf.terminal import counted, print_lines, shortened

RESOURCE_ERRNOS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.EIO, errno.ESTALE),  # a failing disk or file server
}
INVALID_PATH_ERRNOS = {
    *(errno.ENAMETOOLONG, errno.ENOTDIR, errno.ELOOP),
    errno.EEXIST,  # a file where a folder is needed
}

PATHS = "paths"  # the argument of image files, which TensorFlow does not open
MULTIWORKER = "multiworker"
STRATEGIES = ("auto", "none", "mirrored", MULTIWORKER)


class StageParser(argparse.ArgumentParser):
    """An argument parser that raises a `RequestError`, which becomes one line on stderr."""

    command: ClassVar[str] = "python -m deeplens_tf."  # in front of the stage, in usage lines
    takes_plugins = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Load the plugins before anything else, so that `--help` lists what they register."""
        if self.takes_plugins:
            first = StageParser(prog=self.prog, add_help=False, allow_abbrev=False)
            _add_plugin(first)
            load_plugins(argparse.ArgumentParser.parse_known_args(first, args)[0].plugins)
            self.epilog = _listed_names()
        found, unknown = super().parse_known_args(args, namespace)
        _require_utf8([value for name, value in vars(found).items() if name != PATHS])
        return found, unknown

    def error(self, message: str) -> NoReturn:
        """Raise argparse's error as the package's own.

        Raises:
            RequestError: always, with argparse's message and how to get help.
        """
        raise RequestError(f"{message} (see {self.prog} --help)")


class _DefaultsFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Adds an option's default to its help, and keeps the example of a stage on one line.

    Defaults that are None, an empty list or a flag's False are not named.
    """

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        """Wrap a text, but not the example at its end, which is a command to copy."""
        described, example, command = text.partition("Example: ")
        wrapped = super()._fill_text(described, width, indent)
        return f"{wrapped}\n\n{indent}{example}{command}" if example else wrapped

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, []) or action.default is False:
            return action.help
        return super()._get_help_string(action)


def stage_parser(stage: str, description: str) -> StageParser:
    """Return a parser for a stage with the option that all stages have."""
    parser = StageParser(
        prog=f"{StageParser.command}{stage}",
        description=description,
        formatter_class=_DefaultsFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def add_plugin_option(parser: StageParser) -> None:
    """Add `--plugin`, which imports a module of the user's."""
    parser.takes_plugins = True
    _add_plugin(parser)


def next_command(arguments: argparse.Namespace, stage: str, *words: object) -> str:
    """Return the command of another stage, quoted for a shell, with the same plugins."""
    plugins = [word for module in arguments.plugins for word in ("--plugin", module)]
    command = ["python", "-m", f"deeplens_tf.{stage}", *map(str, words), *plugins]
    return shlex.join(command)


def _add_plugin(parser: StageParser) -> None:
    parser.add_argument(
        "--plugin",
        action="append",
        default=[],
        metavar="MODULE",
        dest="plugins",
        help="import a module of your own that registers encoders, methods or augmentations; "
        "repeatable",
    )


def _listed_names() -> str:
    keys = {"encoder.name": encoders, "pretrain.method": methods, "augment.views": augmentations}
    listed = [f"{key}: {', '.join(registry.names)}" for key, registry in keys.items()]
    return f"Names in a configuration. {'; '.join(listed)}."


def add_run_options(parser: StageParser, config: str) -> None:
    """Add the options of the stages that train: configuration, data, run folder, devices."""
    # No default here: with --resume it is the run's own, unless another is named.
    text = f"configuration (default: {config}, or with --resume the run's own)"
    parser.add_argument("--config", metavar="NAME|PATH", help=text)
    add_set_option(parser)
    add_plugin_option(parser)
    parser.add_argument("--data", metavar="PATH", help="folder of images or of prepared shards")
    add_catalog_option(parser)
    parser.add_argument(
        "--run-dir",
        metavar="PATH",
        help="folder of this run; an interrupted run in it is resumed",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="resume the run in --run-dir, or without it the newest unfinished run, with that "
        "run's configuration; train.epochs may be raised, checkpoint.* and logging.* changed",
    )
    parser.add_argument(
        "--strategy",
        choices=STRATEGIES,
        default="auto",
        help="where to compute: none, one device; mirrored, all GPUs of this machine; "
        "multiworker, the machines in TF_CONFIG or in the SLURM job; auto, mirrored if there is "
        "more than one GPU",
    )
    parser.add_argument(
        "--profile",
        action="store_true",
        help="write a profile of ten steps to the run's tensorboard folder; changes no result",
    )


def add_catalog_option(parser: argparse.ArgumentParser, root: str = "the data folder") -> None:
    """Add `--catalog`, the table of the images."""
    parser.add_argument(
        "--catalog",
        metavar="PATH",
        help=f"table of the images, with a column file of paths relative to {root}",
    )


def add_reading_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how image files are read, for a network that exists."""
    parser.add_argument(
        "--pixel-scale-arcsec",
        type=float,
        metavar="ARCSEC",
        help="pixel scale of images for which no header or row of a catalogue states one (without "
        "it: that of their images.yaml, or unknown)",
    )
    parser.add_argument(
        "--resample",
        action="store_true",
        help="resample images of another pixel scale than the model's",
    )
    add_set_option(
        parser,
        "how the files are read, where not as in training: data.fits_hdu, data.hdf5_dataset, "
        "data.stacks, data.band_files or data.band_names",
    )


def add_new_images_options(parser: argparse.ArgumentParser) -> None:
    """Add the images, as paths, folder or catalogue, and how they are read."""
    parser.add_argument(
        PATHS,
        nargs="*",
        metavar="PATH",
        help="image files, stacks of images and folders of them; after -- for a name that begins "
        "with a dash",
    )
    parser.add_argument(
        "--data",
        metavar="PATH",
        help="instead: folder of images, in subfolders or not, or of prepared shards; the images "
        "are named relative to it",
    )
    add_reading_options(parser)
    parser.add_argument(
        "--mixed-sizes",
        action="store_true",
        help="resize images of different sizes all the same, which gives them different pixel "
        "scales",
    )
    add_catalog_option(parser, "--data, or without it to its own folder")
    parser.add_argument(
        "--catalog-column",
        action="append",
        default=[],
        metavar="ROLE=NAME",
        dest="catalog_columns",
        help="name of the catalogue's column for file, row, id, ra, dec or pixel_scale, where that "
        "is another one",
    )


def reading_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what the options of `add_reading_options` but `--set` say, as Python calls name them.

    Raises:
        RequestError: a scale that is no positive number.
    """
    scale = arguments.pixel_scale_arcsec
    if scale is not None and not 0 < scale < float("inf"):
        raise RequestError(f"--pixel-scale-arcsec must be above 0. Received: {scale}")
    return {"pixel_scale_arcsec": scale, "resample": arguments.resample}


def new_images_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what the options of `add_new_images_options` but `--set` say, likewise.

    Raises:
        RequestError: a scale that is no positive number, a column without its role, or both paths
            and a data folder.
    """
    if arguments.paths and arguments.data is not None:
        raise RequestError(
            f"--data {arguments.data} and {counted(len(arguments.paths), 'path')}, the first "
            f"{arguments.paths[0]}: give one or the other"
        )
    return reading_options(arguments) | {
        "data": arguments.paths or arguments.data,
        "mixed_sizes": arguments.mixed_sizes,
        "catalog": arguments.catalog,
        "catalog_columns": dict(map(_role_and_name, arguments.catalog_columns)),
    }


def _role_and_name(argument: str) -> tuple[str, str]:
    role, equals, name = argument.partition("=")
    if not (equals and name):
        raise RequestError(f"--catalog-column {argument}: write it as role=name")
    return role, name


def catalog_override(arguments: argparse.Namespace) -> list[str]:
    """Return `--catalog` as an argument of `--set`; nothing without it."""
    return [] if arguments.catalog is None else [f"data.catalog={json.dumps(arguments.catalog)}"]


def add_set_option(
    parser: argparse.ArgumentParser, what: str = "change one key of the configuration"
) -> None:
    """Add `--set key=value`, which changes one key of the configuration."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help=f"{what}; repeatable",
    )


def parse_shard(text: str) -> tuple[int, int]:
    """Return (i, n) from "i/n".

    Raises:
        RequestError: the text isn't two integers separated by a slash.
    """
    first, _, second = text.partition("/")
    try:
        return int(first), int(second)
    except ValueError:
        raise RequestError(f"--shard takes i/n, as in 1/8. Received: {text}") from None


def run_stage(main: Callable[[Sequence[str]], None]) -> NoReturn:
    """Run a stage with the arguments of the command line and exit with its exit code.

    Args:
        main: takes the arguments after the program's name; returns when the work is done.
    """
    signal.signal(signal.SIGTERM, _terminate)
    # It reports a home that it cannot write to, and that it looks for fonts.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    argv = sys.argv[1:]
    try:
        code = _exit_code(main, argv, debug="--debug" in argv)
    except BrokenPipeError:
        if not (_has_lost_reader(sys.stdout) or _has_lost_reader(sys.stderr)):  # another pipe
            raise
        code = 128 + signal.SIGPIPE  # exit silently, as programs in front of `head` do
    _redirect_unwritable_outputs()
    sys.exit(code)


def _exit_code(
    main: Callable[[Sequence[str]], None], argv: Sequence[str], debug: bool = False
) -> int:
    try:
        _require_supported_system()
        _run_and_flush(main, argv)
    except DeeplensError as error:
        return _report(str(error), error.exit_code, debug)
    except KeyboardInterrupt:
        return _report("stopped by SIGINT", 128 + signal.SIGINT, debug)
    except MemoryError as error:
        return _report(f"out of memory: {error}".rstrip(": "), 4, debug)
    except OSError as error:
        if error.errno not in RESOURCE_ERRNOS | INVALID_PATH_ERRNOS:
            raise
        line = f"{error.strerror}: {error.filename or 'unknown file'}"
        return _report(line, 4 if error.errno in RESOURCE_ERRNOS else 2, debug)
    return 0


def _require_supported_system() -> None:
    """Refuse a system without POSIX's file locks: runs, signals and workers are built on it.

    Raises:
        ResourceError: Windows, for which TensorFlow itself has packages.
    """
    if importlib.util.find_spec("fcntl") is None:
        raise ResourceError(
            "the stages run on Linux and macOS; on Windows, install them in WSL (wsl --install)"
        )


def _require_utf8(values: Sequence[Any]) -> None:
    """Refuse a name that is not valid Unicode: TensorFlow cannot open a file of that name."""
    for argument in (each for value in values for each in _texts(value)):
        if not argument.isascii() and argument.encode(errors="ignore").decode() != argument:
            raise RequestError(
                f"{argument}: not a name in UTF-8: rename it, or if it is one, set LC_ALL=C.UTF-8"
            )


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [str(each) for each in values if isinstance(each, str | os.PathLike)]


def _run_and_flush(main: Callable[[Sequence[str]], None], argv: Sequence[str]) -> None:
    """Run a stage and write its buffered output, which may fail as well."""
    try:
        main(argv)
    except SystemExit:  # after --help
        print(end="", flush=True)
        raise
    print(end="", flush=True)


def _report(message: str, exit_code: int, debug: bool) -> int:
    if debug:
        print_lines(*traceback.format_exc().splitlines(), stream=sys.stderr)
    print_lines("deeplens_tf: " + shortened(" ".join(message.split())), stream=sys.stderr)
    return exit_code


def _terminate(signum: int, frame: FrameType | None) -> NoReturn:
    print("deeplens_tf: stopped by SIGTERM", file=sys.stderr)
    raise SystemExit(128 + signal.SIGTERM)


def _has_lost_reader(output: TextIO) -> bool:
    """Return whether an output is a pipe whose reading end is closed."""
    poll = select.poll()
    poll.register(output, 0)  # without events, poll reports errors only
    return bool(poll.poll(0))


def _redirect_unwritable_outputs() -> None:
    """Redirect broken outputs to /dev/null: Python would report an error when flushing at exit."""
    for output in filter(None, (sys.stdout, sys.stderr)):
        try:
            output.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), output.fileno())
