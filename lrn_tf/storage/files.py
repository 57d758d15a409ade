"""Files that are whole or not there, and that show when they were changed."""

import hashlib
import json
import os
import pathlib
from typing import Any

SEAL = "sha256"


def replace(path: pathlib.Path, content: str | bytes) -> None:
    """Writes a file whole or not at all: what had the name before stays until all is written.

    Raises:
        OSError: the disk refuses; it names the file.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        os.replace(partial, path)
    except OSError as error:
        error.filename = str(path)  # a full disk is reported without one
        _remove(partial)
        raise


def seal(values: dict[str, Any]) -> dict[str, Any]:
    """The values, which JSON can hold, and a checksum of them."""
    return {**values, SEAL: _digest(values)}


def unseal(values: dict[str, Any]) -> dict[str, Any]:
    """What was sealed. Values without a checksum, as of earlier versions, are taken as they are.

    Raises:
        ValueError: the values are not those that were sealed.
    """
    rest = {name: value for name, value in values.items() if name != SEAL}
    if SEAL in values and values[SEAL] != _digest(rest):
        raise ValueError("its checksum does not fit")
    return rest


def checksums(folder: pathlib.Path) -> dict[str, str]:
    """SHA-256 of every file under a folder, by its name in it."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                found[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _digest(values):
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _remove(path):
    try:
        path.unlink(missing_ok=True)
    except OSError:
        pass  # it could not even be made
