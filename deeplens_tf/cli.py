"""What every stage's command line shares: options, exit codes, a quiet TensorFlow.

Nothing here imports TensorFlow, so that `--help` and a wrong request answer at once.
"""

import argparse
import errno
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from types import FrameType
from typing import NoReturn, TextIO

from deeplens_tf.errors import DeeplensError, RequestError
from deeplens_tf.terminal import print_lines, shortened

REFUSING_ERRNOS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.EIO, errno.ESTALE),  # a disk or a file server that fails
}
IMPOSSIBLE_PATH_ERRNOS = {errno.ENAMETOOLONG, errno.ENOTDIR, errno.ELOOP}  # a path that cannot be

MULTIWORKER = "multiworker"
STRATEGIES = ("auto", "none", "mirrored", MULTIWORKER)


class StageParser(argparse.ArgumentParser):
    """An argument parser whose errors are a `RequestError`, so one line on stderr."""

    def error(self, message: str) -> NoReturn:
        """Turn argparse's complaint into the package's own error.

        Raises:
            RequestError: always, with argparse's message and where help is.
        """
        raise RequestError(f"{message} (see {self.prog} --help)")


def stage_parser(stage: str, description: str) -> StageParser:
    """Return a parser for `python -m deeplens_tf.<stage>` with the option all stages have."""
    parser = StageParser(
        prog=f"python -m deeplens_tf.{stage}",
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def add_run_options(parser: argparse.ArgumentParser, config: str) -> None:
    """Add the options of the stages that start a run: a configuration, data, the run's folder."""
    parser.add_argument("--config", default=config, metavar="NAME|PATH", help="configuration")
    add_set_option(parser)
    parser.add_argument("--data", metavar="PATH", help="folder of images or of prepared shards")
    parser.add_argument(
        "--run-dir",
        metavar="PATH",
        help="folder of this run; one that was broken off in it goes on",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with the run in --run-dir, or else with the newest unfinished one, by its own "
        "configuration; train.epochs may be raised and checkpoint.* changed",
    )
    parser.add_argument(
        "--strategy",
        choices=STRATEGIES,
        default="auto",
        help="where to compute: none, one device; mirrored, all GPUs of this machine; "
        "multiworker, the machines that TF_CONFIG or SLURM names; auto, mirrored where there is "
        "more than one GPU",
    )


def add_set_option(parser: argparse.ArgumentParser) -> None:
    """Add `--set key=value`, which changes one key of the configuration."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="change one key of the configuration; repeatable",
    )


def run_stage(main: Callable[[Sequence[str]], None]) -> NoReturn:
    """Run a stage on the command line's words and leave with its exit code.

    Args:
        main: takes the words after the module's name; returns when the work is done.
    """
    signal.signal(signal.SIGTERM, _terminate)
    words = sys.argv[1:]
    try:
        code = _exit_code(main, words, debug="--debug" in words)
    except BrokenPipeError:
        if not (_is_unread(sys.stdout) or _is_unread(sys.stderr)):  # a pipe of the stage's own
            raise
        code = 128 + signal.SIGPIPE  # the usual, quiet end, as in front of `head`
    _turn_away_unwritable()
    sys.exit(code)


def _turn_away_unwritable() -> None:
    """Let go of what cannot be written: Python would try it again at its end, and complain."""
    for output in filter(None, (sys.stdout, sys.stderr)):
        try:
            output.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), output.fileno())


def _is_unread(output: TextIO) -> bool:
    """Tell whether an output goes to a pipe that nobody reads any more."""
    poll = select.poll()
    poll.register(output, 0)  # told of errors alone
    return bool(poll.poll(0))


def _exit_code(
    main: Callable[[Sequence[str]], None], words: Sequence[str], debug: bool = False
) -> int:
    try:
        _require_text(words)
        _run_to_the_last_line(main, words)
    except DeeplensError as error:
        return _report(str(error), error.exit_code, debug)
    except KeyboardInterrupt:
        return _report("stopped by SIGINT", 128 + signal.SIGINT, debug)
    except MemoryError as error:
        return _report(f"out of memory: {error}".rstrip(": "), 4, debug)
    except OSError as error:
        if error.errno not in REFUSING_ERRNOS | IMPOSSIBLE_PATH_ERRNOS:
            raise
        line = f"{error.strerror}: {error.filename or 'unknown file'}"
        return _report(line, 4 if error.errno in REFUSING_ERRNOS else 2, debug)
    return 0


def _run_to_the_last_line(main: Callable[[Sequence[str]], None], words: Sequence[str]) -> None:
    """Run a stage, and write what was held back of its output: that may fail as well."""
    try:
        main(words)
    except SystemExit:  # after --help
        print(end="", flush=True)
        raise
    print(end="", flush=True)


def _require_text(words: Sequence[str]) -> None:
    """Refuse a name that is no Unicode: TensorFlow can neither read nor write such a file."""
    for word in words:
        if not word.isascii() and word.encode(errors="ignore").decode() != word:
            advice = "rename it, or where it is one, set LC_ALL=C.UTF-8"
            raise RequestError(f"{word}: not a name in UTF-8: {advice}")


def _report(message: str, exit_code: int, debug: bool) -> int:
    if debug:
        print_lines(*traceback.format_exc().splitlines(), stream=sys.stderr)
    print_lines("deeplens_tf: " + shortened(" ".join(message.split())), stream=sys.stderr)
    return exit_code


def _terminate(signum: int, frame: FrameType | None) -> NoReturn:
    print("deeplens_tf: stopped by SIGTERM", file=sys.stderr)
    raise SystemExit(128 + signal.SIGTERM)
