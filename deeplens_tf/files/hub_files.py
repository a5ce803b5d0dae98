"""Model files by name from the Hugging Face Hub, fetched and kept by huggingface_hub, an extra.

A name is `hf://OWNER/NAME[@REVISION][/FILE.keras]`. What comes from the hub is untrusted: only
model files of a bounded size and the records of their runs are fetched, and each file must have the
digest under which the hub's cache holds it.
"""

import contextlib
import hashlib
import re
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from deeplens_tf.errors import RequestError, ResourceError

PREFIX = "hf://"
# What a run's folder says of its product; fetched too where they are beside a model file.
RECORDS = ("config.yaml", "environment.json", "images.csv")
_WORD = r"[A-Za-z0-9][\w.-]*"
_NAME = re.compile(rf"hf://({_WORD}/{_WORD})(?:@([^/@]+))?(?:/(.+\.keras))?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_IN_CACHE = re.compile(r"/models--([^/]+?)--([^/]+)/snapshots/([0-9a-f]{40})/(.+)$")


class _HubName(NamedTuple):
    """The parts of a name; `file` is None for the first of the usual names that exists."""

    repository: str
    revision: str
    file: str | None


def is_hub_name(path_or_name: str | Path) -> bool:
    """Return whether a text names a file of the hub."""
    return isinstance(path_or_name, str) and path_or_name.startswith(PREFIX)


def hub_name(file: Path) -> str | None:
    """Return the name with the commit of a file in the hub's cache; None for any other file."""
    found = _IN_CACHE.search(file.absolute().as_posix())
    return "{}{}/{}@{}/{}".format(PREFIX, *found.groups()) if found else None


def repository_name(name: str) -> str:
    """Return the last part of a repository's name."""
    return _parse(name).repository.partition("/")[2]


def hub_file(name: str, usual: Sequence[str]) -> Path:
    """Return the file that a name refers to, in the hub's cache, fetched if it is not there.

    The revision is looked up on the hub, unless it is a commit that the cache has, or without a
    connection (`HF_HUB_OFFLINE=1`), where the cached file is taken.

    Args:
        name: see the module.
        usual: names of the files that it means where it ends with the repository or the revision.

    Raises:
        RequestError: not such a name, huggingface_hub is not installed, no such repository,
            revision or file, a file that is too large, or a cached file that was changed.
        ResourceError: the hub cannot be reached and the cache has no such file.
    """
    wanted = _parse(name)
    hub = _library(name)
    path = _first(hub, name, wanted, [wanted.file] if wanted.file else usual)
    _require_unchanged(path)
    _fetch_records(hub, wanted.repository, path)
    return path


def pinned(name: str, usual: Sequence[str]) -> str:
    """Return a name with its commit and file, so that it always means the same file.

    Args:
        name: of a file of the hub; any other text is returned as it is.
        usual: see `hub_file`, also for the errors.
    """
    if not is_hub_name(name):
        return name
    wanted = _parse(name)
    if wanted.file and _COMMIT.fullmatch(wanted.revision):
        return name
    return hub_name(hub_file(name, usual)) or name


def _parse(name: str) -> _HubName:
    found = _NAME.fullmatch(name)
    if found is None or ".." in name:
        raise RequestError(f"{name}: write it as hf://OWNER/NAME[@REVISION][/FILE.keras]")
    repository, revision, file = found.groups()
    return _HubName(repository, unquote(revision or "main"), file)


def _library(name: str) -> Any:
    try:
        import_module("huggingface_hub.file_download")  # with the errors and the constants
        return import_module("huggingface_hub")
    except ImportError:
        raise RequestError(
            f"{name}: needs huggingface_hub: pip install 'deeplens_tf[hf]'"
        ) from None


def _first(hub: Any, name: str, wanted: _HubName, files: Sequence[str]) -> Path:
    """Return the first file that the repository has."""
    unreachable = False
    for file in files:
        try:
            with _in_one_line(hub, name):
                return _fetched(hub, wanted.repository, wanted.revision, file, unreachable)
        except hub.errors.LocalEntryNotFoundError:
            unreachable = True  # which takes half a minute to find out: it is not asked again
        except hub.errors.EntryNotFoundError:
            continue
    if unreachable:
        offline = hub.constants.is_offline_mode()
        reason = "HF_HUB_OFFLINE is set" if offline else "the Hugging Face Hub cannot be reached"
        raise ResourceError(f"{name}: {reason}, and the file is not in {_cache(hub)}")
    raise RequestError(
        f"{name}: no {' or '.join(files)} in the repository; name a file: "
        f"{PREFIX}{wanted.repository}/FILE.keras"
    )


def _fetched(hub: Any, repository: str, revision: str, file: str, local: bool = False) -> Path:
    """Return a file in the cache; with `local`, only one that is there.

    Raises:
        hub.errors.EntryNotFoundError: there is none, or it is not known whether there is one.
    """
    from deeplens_tf.files.hdf5_arrays import MAX_WEIGHT_FILE_BYTES  # which imports h5py

    if _COMMIT.fullmatch(revision):
        known = hub.try_to_load_from_cache(repository, file, revision=revision)
        if known is hub.file_download._CACHED_NO_EXIST:
            raise hub.errors.EntryNotFoundError(file)
    options = {"revision": revision, "local_files_only": local}
    found = hub.hf_hub_download(repository, file, dry_run=True, **options)
    if (found.file_size or 0) > MAX_WEIGHT_FILE_BYTES:
        raise RequestError(
            f"{PREFIX}{repository}: {file} is larger than {MAX_WEIGHT_FILE_BYTES} bytes"
        )
    return Path(hub.hf_hub_download(repository, file, revision=found.commit_hash))


def _fetch_records(hub: Any, repository: str, path: Path) -> None:
    """Fetch the records of the run beside a model file, as far as there are any."""
    *_, commit, file = _IN_CACHE.search(path.as_posix()).groups()  # type: ignore[union-attr]
    for record in RECORDS:
        beside = Path(file).with_name(record).as_posix()
        try:
            with _in_one_line(hub, f"{PREFIX}{repository}@{commit}/{beside}"):
                _require_unchanged(_fetched(hub, repository, commit, beside))
        except hub.errors.LocalEntryNotFoundError:
            return  # without a connection: what the cache has
        except hub.errors.EntryNotFoundError:
            continue


@contextlib.contextmanager
def _in_one_line(hub: Any, name: str) -> Iterator[None]:
    """Turn the errors of the library, apart from that of a missing file, into the package's."""
    errors = hub.errors
    try:
        yield
    except errors.EntryNotFoundError:
        raise
    except errors.GatedRepoError as error:
        raise RequestError(
            f"{name}: access to it must be asked for on its page of the Hugging Face Hub; after "
            "that, `hf auth login`"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise RequestError(
            f"{name}: no such model on the Hugging Face Hub, or a private one, to which "
            "`hf auth login` gives access"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise RequestError(f"{name}: the repository has no such revision") from error
    except errors.HFValidationError as error:
        raise RequestError(f"{name}: not a valid name: {error}") from error
    except errors.HfHubHTTPError as error:
        raise ResourceError(f"{name}: {error}") from error


def _require_unchanged(path: Path) -> None:
    """Refuse a file whose content is not that of its digest, which is its name in the cache."""
    blob = path.resolve()
    content, expected = blob.read_bytes(), blob.name
    if re.fullmatch(r"[0-9a-f]{64}", expected):
        found = hashlib.sha256(content).hexdigest()
    elif _COMMIT.fullmatch(expected):  # of a small file, as git computes it
        found = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    else:  # a cache without symbolic links does not name files by their digest
        return
    if found != expected:
        raise RequestError(
            f"{hub_name(path)}: the cached file was changed: its digest is {found}, not "
            f"{expected}; remove {blob} to download it again"
        )


def _cache(hub: Any) -> str:
    return str(hub.constants.HF_HUB_CACHE)
