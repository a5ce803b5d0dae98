"""One run folder, one writer: a lock that names the process which holds it.

The lock is the operating system's (`flock`), which releases it with the process, however that
ends; to have got it is proof enough that no other process has it, whomever the file names. On a
file system that keeps `flock` to each machine (Lustre mounted with `localflock`) two machines are
therefore not kept apart. Where there is no `flock`, what the file says of its holder decides
alone; two processes that start in the same instant are then not told apart, and a holder on
another machine counts as alive.
"""

import contextlib
import errno
import fcntl
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
        birth: what tells it from a later process of the same id; "" where unknown.
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
        """Whether it is known to have ended; of another machine that cannot be known."""
        return self.is_here and (not _exists(self.pid) or _birth(self.pid) != self.birth)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, started {self.started}"


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Hold the lock of a run folder for the length of the block.

    Raises:
        ResourceError: another process holds it, or the folder cannot be written to.
    """
    path = folder / LOCK
    descriptor = _open_locked(path)
    try:
        _introduce(path, descriptor)
        yield
    finally:
        # While it is still locked, so that nobody's but our own file is removed. What it says of
        # its holder is enough where it cannot be.
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(descriptor)


def refuse_if_held(folder: Path) -> None:
    """Refuse early, on the word of the lock file alone, what `hold` would refuse later.

    Raises:
        ResourceError: a process of this machine holds the folder, and is alive.
    """
    holder = _read(folder / LOCK)
    if holder is not None and holder.is_here and not holder.is_gone:
        raise _refusal(folder, holder)


def _open_locked(path: Path) -> int:
    while True:
        descriptor = _open(path)
        try:
            _lock(path, descriptor)
            if _is_still(path, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its holder removed the file just now; take the new one


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise ResourceError(f"{path.parent}: cannot be written to: {error.strerror}") from error


def _lock(path: Path, descriptor: int) -> None:
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


def _is_still(path: Path, descriptor: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    return False


def _introduce(path: Path, descriptor: int) -> None:
    """Write who holds the lock, in the place of a holder that ended without releasing it."""
    earlier = _read(path)
    if earlier is not None:
        print_lines(f"lock: {path.parent} was left behind by {earlier}")
    with writing(path):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(asdict(Holder.this_process())).encode(), 0)


def _refusal(folder: Path, holder: Holder | None) -> ResourceError:
    who = holder or "another process"
    hint = "" if holder is None or holder.is_here else f"; if it is gone, remove {folder / LOCK}"
    return ResourceError(f"{folder} is in use by {who}: wait for it or stop it{hint}")


def _read(path: Path) -> Holder | None:
    try:
        values = read_json(path)
        return Holder(
            int(values["pid"]), *(str(values[key]) for key in ("host", "started", "birth"))
        )
    except (OSError, UnusableFile, KeyError, TypeError, ValueError):
        return None  # none, or just being written


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def _birth(pid: int) -> str:
    """Return the kernel's start time of a process, or "" where there is no /proc."""
    with contextlib.suppress(OSError, IndexError):
        # The name, in brackets, may hold anything; the fields after it are numbers.
        after_name = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2]
        return after_name.split()[19]
    return ""
