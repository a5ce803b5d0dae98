"""SIGTERM and SIGINT during training: the first one waits for the step and a checkpoint."""

import contextlib
import os
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Self

from deeplens_tf.errors import STOP_SIGNALS, Stopped

# `timeout`, a terminal and a batch system may signal a process and its group: one request.
SAME_REQUEST_SECONDS = 0.5


class StopRequest:
    """Records the first signal in a `with` block; a second one ends the process at once.

    The second signal works even while the interpreter waits for a long step: the signal handler
    writes to a pipe (`signal.set_wakeup_fd`) that a thread reads. Outside of the main thread,
    where Python does not allow handlers, the block changes nothing. An ignored signal, as under
    `nohup`, stays ignored.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self._exits = contextlib.ExitStack()

    @property
    def requested(self) -> bool:
        """Whether a signal was received."""
        return self.signum is not None

    def stopped(self, where: object) -> Stopped:
        """Return the error that ends the stage.

        Args:
            where: the checkpoint to resume from.
        """
        signum = signal.Signals(self.signum or signal.SIGTERM)
        return Stopped(
            f"stopped by {signum.name} after saving {where}; the same command with --run-dir, "
            "or --resume, continues from there",
            128 + signum,
        )

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._listen()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._exits.close()

    def _listen(self) -> None:
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        watcher = threading.Thread(target=_watch, args=(reader,), daemon=True)
        watcher.start()
        self._exits.callback(os.close, reader)
        self._exits.callback(watcher.join)
        self._exits.callback(os.close, writer)  # this ends the watcher
        self._exits.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(writer))
        for signum in STOP_SIGNALS:
            if signal.getsignal(signum) is not signal.SIG_IGN:
                self._exits.callback(signal.signal, signum, signal.signal(signum, self._note))

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self.signum = self.signum or signum


def _watch(reader: int) -> None:
    first = None
    while received := os.read(reader, 64):
        for signum in set(received) & set(STOP_SIGNALS):
            first = first or time.monotonic()
            if time.monotonic() - first > SAME_REQUEST_SECONDS:
                _leave(signum)


def _leave(signum: int) -> None:
    name = signal.Signals(signum).name
    os.write(2, f"deeplens_tf: stopped by a second {name}, at once\n".encode())
    os._exit(128 + signum)
