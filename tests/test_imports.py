"""Data flows one way through the package's folders: none imports one that comes after it."""

import ast
import pathlib

import pytest

import lrn_tf

PACKAGE = pathlib.Path(lrn_tf.__file__).parent
# As in the README's table, after what all of them may import; what stands beside them otherwise comes last.
FOLDERS = ("data", "modules", "policy", "methods", "storage", "results", "training")
FOR_ALL = ("settings", "errors", "replicas")


def imported(path):
    """The first name after `lrn_tf.` in every import of a file, those inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "lrn_tf":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module.startswith("lrn_tf."):
            yield node.module.split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (a.name.split(".")[1] for a in node.names if a.name.startswith("lrn_tf."))


def test_every_folder_is_known():
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} == set(FOLDERS)


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_imports_what_comes_before_it(folder):
    allowed = {*FOR_ALL, *FOLDERS[: FOLDERS.index(folder) + 1]}
    for path in (PACKAGE / folder).glob("*.py"):
        assert set(imported(path)) <= allowed, path


def test_what_all_may_import_imports_no_folder():
    for name in FOR_ALL:
        assert not set(imported(PACKAGE / f"{name}.py")) & set(FOLDERS)
