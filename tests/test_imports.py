"""Data flows one way through the package's rooms: each is a folder, or a file beside the folders."""

import ast
import functools
import itertools
import pathlib
import re

import pytest
import setuptools

import lrn_tf

PACKAGE = pathlib.Path(lrn_tf.__file__).parent
ROOM_OF = {path: path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in PACKAGE.rglob("*.py")}
ROOMS = sorted(set(ROOM_OF.values()))
FOLDERS = sorted({room for path, room in ROOM_OF.items() if path.parent != PACKAGE})
# Files beside the folders that folders may import; all others there are programs, and the package itself.
FOR_ALL = {"errors"}
MOST_ROOMS, MOST_FLOORS, MOST_FILES_AT_THE_TOP = 20, 7, 9


def modules_imported(path):
    """The modules that a file imports, also inside of functions, and the lines where it does."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno} is relative to its folder; write lrn_tf out"
            # What is imported from the package itself is a file of it.
            names = [f"lrn_tf.{a.name}" for a in node.names] if node.module == "lrn_tf" else [node.module]
        else:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        yield from ((name, node.lineno) for name in names)


def rooms_imported():
    """For each room those that it imports, and one place where it does."""
    found = {room: {} for room in ROOMS}
    for path, room in ROOM_OF.items():
        for name, line in modules_imported(path):
            package, *inner = name.split(".")
            if package == "lrn_tf":
                other = inner[0] if inner else "__init__"
                found[room].setdefault(other, f"{path.relative_to(PACKAGE)}:{line}")
    for module in lrn_tf._PUBLIC.values():  # which the package imports when somebody asks for it
        found["__init__"].setdefault(module.split(".")[0], "__init__.py")
    return {room: {other: at for other, at in of.items() if other != room} for room, of in found.items()}


IMPORTS = rooms_imported()


def told(chain):
    """A chain of rooms with the places of its imports."""
    return " -> ".join([chain[0], *(f"{b} ({IMPORTS[a][b]})" for a, b in itertools.pairwise(chain))])


def circle(chain):
    """A circle of rooms that a chain of imports leads into; None if it leads into none."""
    if chain[-1] in chain[:-1]:
        return chain[chain.index(chain[-1]) :]
    return next(filter(None, (circle((*chain, other)) for other in IMPORTS[chain[-1]])), None)


@functools.cache
def longest_chain(room):
    """Of imports, from a room down to one that imports none."""
    return (room, *max((longest_chain(other) for other in IMPORTS[room]), key=len, default=()))


def floor(room):
    """1 for a room that imports no other; otherwise one above the highest that it imports."""
    return len(longest_chain(room))


def test_every_folder_is_installed():
    assert sorted(setuptools.find_packages(PACKAGE)) == FOLDERS


def test_every_import_is_of_something_that_there_is():
    assert {other for of in IMPORTS.values() for other in of} <= set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_no_imports_lead_in_a_circle(room):
    found = circle((room,))
    assert found is None, told(found)


def test_few_rooms_on_few_floors():
    assert len(ROOMS) <= MOST_ROOMS, ROOMS
    assert len(list(PACKAGE.glob("*.py"))) <= MOST_FILES_AT_THE_TOP
    highest = max(ROOMS, key=floor)
    assert floor(highest) <= MOST_FLOORS, told(longest_chain(highest))


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_imports_no_program(folder):
    allowed = {*FOLDERS, *FOR_ALL}
    assert not {f"{other} in {place}" for other, place in IMPORTS[folder].items() if other not in allowed}


def test_what_all_may_import_imports_no_folder():
    for name in FOR_ALL:
        assert not set(IMPORTS[name]) & set(FOLDERS)


def below(room):
    """All rooms that a room imports, and those that they do."""
    return set(IMPORTS[room]).union(*map(below, IMPORTS[room]))


def test_what_must_not_know_of_what():
    """Results are of anything that is evaluated; what is learned from is apart from who learns."""
    for folder in ("results", "learning", "router", "modules", "data", "storage", "devices"):
        assert not {"methods", "training", "serving"} & below(folder)
    assert not {"router", "results"} & below("learning")
    assert not {"learning", "router"} & below("modules")
    assert floor("training") == 1 + max(floor("methods"), floor("results"))
    assert not {"training", "results"} & below("serving")


def test_the_architecture_lists_the_folders_from_the_lowest_up():
    """Each after all that it imports, and with all of its files."""
    page = (pathlib.Path(__file__).parents[1] / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| (.*?) \|(.*)\|$", page, re.MULTILINE)
    listed, files, room = [], set(), ""
    for first, rest in rows:
        room = first.removesuffix("/") if first.strip() else room
        if room in FOLDERS and room not in listed:
            listed.append(room)
        files |= set(re.findall(r"\(\.\./lrn_tf/(.*?\.py)\)", rest))
    assert sorted(listed) == FOLDERS
    for i, folder in enumerate(listed):
        assert not set(IMPORTS[folder]) & set(listed[i:]), folder
    there = {str(path.relative_to(PACKAGE)) for path in ROOM_OF if path.name != "__init__.py"}
    assert files == there
