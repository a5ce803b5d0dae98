"""One writer per run folder: a lock file that names the process holding it.

The lock is the operating system's (`flock`), which is released when the process ends, however it
ends. A process that has it is therefore the only holder, whichever process the file names. On a
file system that keeps `flock` local to each machine (Lustre mounted with `localflock`), two
machines are not excluded from each other. Without `flock` the holder that the file names decides:
two processes that start at the same moment are not excluded from each other then, and a holder on
another machine counts as alive.
"""

import contextlib
import errno
import json
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from deeplens_tf.errors import ResourceError, UnusableFile
from deeplens_tf.files.atomic_writing import writing
from deeplens_tf.files.json_objects import read_json
from deeplens_tf.terminal import print_lines

LOCK = ".lock"
NO_FLOCK = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL}


@dataclass(frozen=True)
class Holder:
    """The process that holds a lock.

    Attributes:
        pid: process id.
        host: machine it runs on.
        started: local time at which it took the lock.
        birth: distinguishes it from a later process with the same id; "" if unknown.
    """

    pid: int
    host: str
    started: str
    birth: str

    @classmethod
    def this_process(cls) -> "Holder":
        """Return the calling process."""
        started = time.strftime("%Y-%m-%d %H:%M:%S")
        return cls(os.getpid(), platform.node(), started, _birth(os.getpid()))

    @property
    def is_here(self) -> bool:
        """Whether it runs, or ran, on this machine."""
        return self.host == platform.node()

    @property
    def is_gone(self) -> bool:
        """Whether it is known to have ended; never so for a process on another machine."""
        return self.is_here and (not _exists(self.pid) or _birth(self.pid) != self.birth)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, started {self.started}"


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Hold the lock of a run folder during the block.

    Raises:
        ResourceError: another process holds it, or the folder cannot be written to.
    """
    path = folder / LOCK
    descriptor = _open_and_lock(path)
    try:
        _write_holder(path, descriptor)
        yield
    finally:
        # Removed while it is still locked, so that it cannot be another process's file. If it
        # cannot be removed, the holder that it names is recognised as ended.
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(descriptor)


def refuse_if_held(folder: Path) -> None:
    """Refuse early what `hold` would refuse later, by reading the lock file alone.

    Raises:
        ResourceError: a running process of this machine holds the folder.
    """
    holder = _read(folder / LOCK)
    if holder is not None and holder.is_here and not holder.is_gone:
        raise _refusal(folder, holder)


def _open_and_lock(path: Path) -> int:
    while True:
        descriptor = _open(path)
        try:
            _lock(path, descriptor)
            if _is_current(path, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its holder has just removed the file; lock the new one


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise ResourceError(f"{path.parent}: cannot be written to: {error.strerror}") from error


def _lock(path: Path, descriptor: int) -> None:
    import fcntl  # absent on Windows, where no stage runs but the library is imported

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _refusal(path.parent, _read(path)) from None
    except OSError as error:
        if error.errno not in NO_FLOCK:
            raise
        holder = _read(path)
        if holder is not None and not holder.is_gone:
            raise _refusal(path.parent, holder) from None


def _is_current(path: Path, descriptor: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    return False


def _write_holder(path: Path, descriptor: int) -> None:
    """Write this process to the lock file; report a holder that ended without releasing it."""
    earlier = _read(path)
    if earlier is not None:
        print_lines(f"lock: {path.parent} was left behind by {earlier}")
    with writing(path):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(asdict(Holder.this_process())).encode(), 0)


def _refusal(folder: Path, holder: Holder | None) -> ResourceError:
    who = holder or "another process"
    hint = "" if holder is None or holder.is_here else f"; if it has ended, remove {folder / LOCK}"
    return ResourceError(f"{folder} is in use by {who}: wait for it or stop it{hint}")


def _read(path: Path) -> Holder | None:
    try:
        values = read_json(path)
        return Holder(
            int(values["pid"]), *(str(values[key]) for key in ("host", "started", "birth"))
        )
    except (OSError, UnusableFile, KeyError, TypeError, ValueError):
        return None  # there is none, or it is being written


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # a process of another user
        return True
    return True


def _birth(pid: int) -> str:
    """Return the start time of a process as counted by the kernel, or "" without /proc."""
    with contextlib.suppress(OSError, IndexError):
        # The name, in brackets, may contain any character; the fields after it are numbers.
        after_name = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2]
        return after_name.split()[19]
    return ""
