"""Files that are whole or not there, and that show when they were changed."""

import contextlib
import errno
import hashlib
import json
import os
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

SEAL = "sha256"


@contextlib.contextmanager
def beside(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields where to write what shall be moved to a path once it is whole.

    It lies in a new folder on the same disk, which nobody else has and which is deleted afterwards.
    """
    # Its name is as short as can be: the path's own may have all the letters that a disk allows.
    with tempfile.TemporaryDirectory(prefix=".", dir=path.parent, ignore_cleanup_errors=True) as folder:
        yield pathlib.Path(folder, path.name)


def replace(path: pathlib.Path, content: str | bytes) -> None:
    """Writes a file whole or not at all: what had the name before stays until all is written.

    Raises:
        OSError: the disk refuses; it names the file.
    """
    try:
        with beside(path) as partial:
            partial.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
            os.replace(partial, path)
    except OSError as error:
        error.filename = str(path)  # a full disk is reported without one
        raise


def check_writable(folder: pathlib.Path) -> None:
    """Sees that a folder, and what is missing above it, can be made and written: tries, and leaves nothing.

    Raises:
        OSError: it cannot.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    tempfile.TemporaryDirectory(prefix=".", dir=there).cleanup()


def read(path: pathlib.Path) -> bytes:
    """The content of a file. Not of a pipe or a device, for which one might wait for ever.

    Raises:
        OSError: there is no such file, or it cannot be read.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise OSError(errno.EINVAL, "Not a regular file", str(path))
    return path.read_bytes()


def seal(values: dict[str, Any]) -> dict[str, Any]:
    """The values, which JSON can hold, and a checksum of them."""
    return {**values, SEAL: _digest(values)}


def unseal(values: dict[str, Any]) -> dict[str, Any]:
    """What was sealed.

    Raises:
        ValueError: the values are not those that were sealed.
    """
    rest = {name: value for name, value in values.items() if name != SEAL}
    if values.get(SEAL) != _digest(rest):
        raise ValueError("its checksum does not fit")
    return rest


def checksums(folder: pathlib.Path) -> dict[str, str]:
    """SHA-256 of every file under a folder, by its name in it; empty for a pipe or a device."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file():
            with path.open("rb") as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()
        elif not path.is_dir():
            found[name] = ""
    return found


def _digest(values):
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
