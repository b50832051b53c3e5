"""Keeps settings of the user's shell and home from changing a stage's results, unless the stage states them."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory, TemporaryFile

from pipeline.processor import STATED

#: Environment variables that a stage keeps: of the system, the interpreter, the network that data come from, DVC, and
#: the ones that say what TensorFlow writes to the terminal and how its workers find one another.
KEPT = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|PWD|TMPDIR|TEMP|TMP|TERM|COLUMNS|LINES|NO_COLOR|CI|LANG|LANGUAGE|LC_.*|TZ|XDG_.*"
    r"|LD_.*|DYLD_.*|MALLOC_.*|PYTHON.*|VIRTUAL_ENV|COVERAGE_.*"
    r"|\w+_PROXY|\w+_proxy|SSL_CERT_\w+|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|APT_CONFIG|[A-Z0-9_]+_ARCHIVES|TFDS_DATA_DIR"
    r"|DVC_.*|TF_CONFIG|TF_CPP_.*"
)


def forget_settings() -> None:
    """Removes all other variables, before any library is loaded: each reads some, and a new version may read more.

    `KERAS_BACKEND`, `TF_XLA_FLAGS` or `OMP_NUM_THREADS` would change results, or end a run late. The variables of
    `pipeline.processor.STATED` change results and may be set, as every stage states them.
    """
    for name in [name for name in os.environ if not KEPT.fullmatch(name) and name not in STATED]:
        del os.environ[name]
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # results belong to the processor class, which is a CPU's
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@contextmanager
def no_home() -> Iterator[None]:
    """Keeps libraries from reading settings in the user's home while they are imported, and from writing them there.

    Keras reads and writes keras.json in its folder. Matplotlib reads matplotlibrc in its own and lists there the fonts
    it found; that list is kept in the folder of the environment.
    """
    with TemporaryDirectory() as folder:
        os.environ |= {"KERAS_HOME": folder, "MPLCONFIGDIR": os.path.join(sys.prefix, "matplotlib")}
        yield


@contextmanager
def quiet_import() -> Iterator[None]:
    """Keeps back what TensorFlow's libraries write to the terminal while they load, unless loading fails."""
    with TemporaryFile() as kept, os.fdopen(os.dup(2), "wb") as terminal:
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except BaseException:
            kept.seek(0)
            terminal.write(kept.read())
            raise
        finally:
            os.dup2(terminal.fileno(), 2)
