"""Importing TensorFlow without its start-up messages."""

import contextlib
import gc
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from deeplens_tf.errors import RequestError


def import_tensorflow() -> None:
    """Import TensorFlow and Keras without their start-up messages.

    The C++ library writes some of them before any of its settings takes effect. Therefore the file
    descriptor of stderr is redirected during the import; if the import fails, what was written to
    it is shown.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    _set_allocator()
    with _stderr_held_back(), _garbage_left():
        import keras  # noqa: F401
        import tensorflow as tf

        tf.config.list_physical_devices()


def _set_allocator() -> None:
    """Let TensorFlow keep the memory of tensors for the next step, also without oneDNN.

    By default it does so only on processors for which it chooses oneDNN, such as those with
    AVX-512. On others each step gets hundreds of megabytes from the kernel, which zeroes them: a
    third of the processor time of a contrastive step.
    """
    os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "1")
    if "SC_PHYS_PAGES" in os.sysconf_names:  # TensorFlow's own limit is 64 GiB
        memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        os.environ.setdefault("TF_CPU_BFC_MEM_LIMIT_IN_MB", str(memory_bytes >> 20))


def import_for_stage() -> None:
    """Import TensorFlow and Keras for a stage, whose result no keras.json or variable changes.

    Keras reads keras.json, which another project of the user's may have written. The library leaves
    its settings alone and passes its own to each layer; a stage replaces them.

    Raises:
        RequestError: Keras cannot be imported with the user's keras.json.
    """
    try:
        import_tensorflow()
    except (AttributeError, TypeError, ValueError) as error:
        if not _keras_json().is_file():
            raise
        reason = f"Keras refuses it: {' '.join(str(error).split())}"
        raise RequestError(f"{_keras_json()}: {reason}; correct or remove it") from error
    import keras

    keras.config.set_image_data_format("channels_last")
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_dtype_policy("float32")
    # KERAS_MAX_EPOCHS and KERAS_MAX_STEPS_PER_EPOCH would end a run early, as if it had finished.
    keras.config.set_max_epochs(None)
    keras.config.set_max_steps_per_epoch(None)


def name_compiled_operations() -> None:
    """Let a profile name the operations in steps that XLA compiles; call it before the import."""
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_enable_xprof_traceme=true".strip()


def _keras_json() -> Path:
    return Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "keras.json"


@contextlib.contextmanager
def _garbage_left() -> Iterator[None]:
    """Collect no garbage within the block, and never look at what it has created again.

    Modules live as long as the process. Going through their objects time and again took an eighth
    of the time until the first training step.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()


@contextlib.contextmanager
def _stderr_held_back() -> Iterator[None]:
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as buffer:
        os.dup2(buffer.fileno(), 2)
        try:
            yield
        except BaseException:
            buffer.seek(0)
            os.write(stderr, buffer.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
