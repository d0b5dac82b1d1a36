"""The errors of this package, and the translation of libraries' exceptions into them."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from accucheck._errors import ConfigurationError

__all__ = ["TORN_ARCHIVE", "FileError", "OutputError", "needs", "translate_errors", "translate_output_errors"]


TORN_ARCHIVE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    IndexError,
    KeyError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    ValueError,
)
"""What ``zipfile`` raises for archives that are damaged, protected or unsupported."""


class FileError(ConfigurationError):
    """A file cannot be read or written; the message names it and says what to do."""

    status = "FILE_ERROR"


class OutputError(FileError):
    """The system does not allow writing the output: no space, no permission, no directory, a read-only disk."""

    status = "OUTPUT_ERROR"


def needs(extra: str, what: str) -> FileError:
    """Return the error for a format whose library is not installed."""
    return FileError(f"{what} needs an extra package: pip install 'accucheck[{extra}]'")


@contextmanager
def translate_errors(name: str, *also: type[Exception]) -> Iterator[None]:
    """Turn what reading or writing ``name`` can raise (and the exceptions ``also``) into a FileError."""
    try:
        yield
    except FileError:
        raise
    except BrokenPipeError:
        raise  # the reader of our output closed the pipe, which is not an error: the caller ends quietly
    except FileNotFoundError as error:
        raise FileError(f"{name}: no such file or directory") from error
    except IsADirectoryError as error:
        raise FileError(f"{name}: this is a directory, not a file") from error
    except PermissionError as error:
        raise FileError(f"{name}: permission denied") from error
    except (EOFError, zlib.error) as error:
        raise FileError(f"{name}: the compressed data is damaged or cut off; copy the file again") from error
    except UnicodeError as error:
        raise FileError(
            f"{name}: the text does not match its encoding ({error}); set the right one with --encoding"
        ) from error
    except OSError as error:
        raise FileError(f"{name}: {error.strerror or error}") from error
    except also as error:
        detail = " ".join(str(error).split())[:200]
        raise FileError(f"{name}: the file is damaged or is not what its name says ({detail})") from error


@contextmanager
def translate_output_errors(name: str) -> Iterator[None]:
    """Like ``translate_errors`` for the output ``name``, but a refusal by the system is an ``OutputError``."""
    try:
        with translate_errors(name):
            yield
    except FileError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and not isinstance(cause, IsADirectoryError):
            raise OutputError(str(error)) from cause
        raise
