#!/usr/bin/env python3
"""Prints docs/python-api.md: what the docstrings of the package say. With ``--write`` it is written there.

A test compares the page with what is printed.
"""

import ast
import inspect
import sys
import textwrap
from pathlib import Path
from typing import Any, Dict, List, Optional

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "python-api.md"

HEAD = """\
# Python API

Generated from the docstrings of [`python/`](../python/README.md) by `python3 python/docs.py --write`; do not edit.
Everything is in `volumedriver.storagerouter.storagerouterclient`. Arguments behind `*` can only be given by name; the
original had none of those. Ids, paths and sizes are texts.
"""

#: Sections of the page, and what belongs to each: the first whose test holds.
CLIENTS = ("StorageRouterClient", "LocalStorageRouterClient", "LockedClient", "MDSClient")
REGISTRIES = (
    "ClusterRegistry",
    "ObjectRegistryClient",
    "FileSystemMetaDataClient",
    "ObjectRegistration",
    "DirectoryEntry",
)


def signature(function: Any) -> str:
    """Arguments and result as the source has them, so that all versions of Python print the same."""
    node = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    assert isinstance(node, ast.FunctionDef)
    arguments = node.args
    for group in (arguments.posonlyargs, arguments.args):
        if group and group[0].arg == "self":
            del group[0]
            break
    for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
        argument.annotation = unquoted(argument.annotation)
    returns = unquoted(node.returns)
    result = "" if returns is None else f" -> {ast.unparse(returns)}"
    return f"({ast.unparse(arguments)}){result}".replace("'", '"')


def unquoted(annotation: Optional[ast.expr]) -> Optional[ast.expr]:
    """An annotation whose text is not in quotes, as it is where a name is not defined yet."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return ast.parse(annotation.value, mode="eval").body
    return annotation


def prose(thing: Any) -> str:
    """A docstring as Markdown: what is code there is code here, roles of Sphinx are plain names."""
    text = inspect.getdoc(thing) or ""
    return text.replace("``", "`").replace(":class:", "").replace(":mod:", "")


def members(kind: Any) -> Dict[str, Any]:
    """What a class offers, its parents' that are no class of the page included, in the order of the sources."""
    from volumedriver.storagerouter import storagerouterclient as module

    found: Dict[str, Any] = {}
    for parent in kind.__mro__:
        if parent is not kind and parent.__name__ in module.__all__:
            break
        if parent.__module__.startswith("volumedriver"):
            for name, value in vars(parent).items():
                if not name.startswith("_"):
                    found.setdefault(name, value)
    return found


def methods(kind: Any) -> List[str]:
    """A list of properties and methods."""
    lines: List[str] = []
    for name, value in members(kind).items():
        if isinstance(value, property):
            lines.append(f"* `{name}`: {flat(value.fget)}")
        elif isinstance(value, (staticmethod, classmethod)):
            lines.append(f"* `{name}{signature(value.__func__)}`: {flat(value.__func__)}")
        elif inspect.isfunction(value):
            lines.append(f"* `{name}{signature(inspect.unwrap(value))}`: {flat(value)}")
    return lines


def flat(thing: Any) -> str:
    """A docstring as one paragraph of a list, lines within the page's width."""
    return " ".join(prose(thing).split())


def section(name: str, kind: Any) -> List[str]:
    """The part of one class."""
    from volumedriver.storagerouter.enums import Enumeration

    if issubclass(kind, Enumeration):
        values = ", ".join(f"`{member}` = {int(value)}" for member, value in kind.names.items())
        return [f"* `{name}`: {flat(kind)} {values}"]
    if issubclass(kind, Exception) and not members(kind):
        base = kind.__base__.__name__
        return [f"* `{name}({base})`: {flat(kind)}"]
    parents = [base.__name__ for base in kind.__bases__ if base.__name__ in storage_names()]
    lines = [f"### `{name}`" + (f" (a `{parents[0]}`)" if parents else ""), "", prose(kind), ""]
    init = vars(kind).get("__init__")
    if init is not None:
        lines += [f"`{name}{signature(init).split(' -> ')[0]}`: {flat(init)}", ""]
    listed = methods(kind)
    return lines + listed + ([""] if listed else [])


def storage_names() -> List[str]:
    """The names of the page."""
    from volumedriver.storagerouter import storagerouterclient as module

    return module.__all__


def page() -> str:
    """The whole page."""
    from volumedriver.storagerouter import storagerouterclient as module
    from volumedriver.storagerouter.enums import Enumeration

    groups: Dict[str, List[str]] = {
        "Clients": list(CLIENTS),
        "Registries": list(REGISTRIES),
        "Values": [],
        "Enumerations": [],
        "Exceptions": [],
    }
    for name in module.__all__:
        kind = getattr(module, name)
        if name in CLIENTS or name in REGISTRIES:
            continue
        if issubclass(kind, Enumeration):
            groups["Enumerations"].append(name)
        elif issubclass(kind, Exception):
            groups["Exceptions"].append(name)
        else:
            groups["Values"].append(name)
    lines = [HEAD]
    for title, names in groups.items():
        lines += [f"## {title}", ""]
        for name in names:
            lines += section(name, getattr(module, name))
        if lines[-1]:
            lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    """Prints or writes the page."""
    sys.path.insert(0, str(HERE / "src"))
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(page())
    elif sys.argv[1:]:
        sys.exit("usage: docs.py [--write]")
    else:
        sys.stdout.write(page())


if __name__ == "__main__":
    main()
