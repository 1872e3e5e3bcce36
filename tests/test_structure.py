"""The shape of the code: what may import what, read from the source by `ast`."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "s3prl_speechclip"
FOLDERS = {  # where setup.py takes the package's parts from
    f"{PACKAGE}.upstream": ROOT / "upstream",
    f"{PACKAGE}.benchmarks": ROOT / "benchmarks",
    f"{PACKAGE}.downstream_configs": ROOT / "downstream_configs",
    PACKAGE: ROOT / PACKAGE,
}

# Each part imports from its own tier and those before; within a tier without going in circles.
TIERS = (
    ("structures", "errors", "config", "model.config", "atomic", "hashing", "options", "results"),
    ("modules", "data"),
    ("data.corpora", "minis"),
    ("encoders",),
    ("model.branch",),
    ("checkpoints",),
    ("model", "runtime"),
    (
        *("pretrain", "upstream", "downstream", "registration", "benchmarks"),
        *("downstream_configs", "mteb"),
    ),
    ("minis.training",),
    ("cli",),
)
TIER = {part: number for number, parts in enumerate(TIERS) for part in parts}
MAY_IMPORT_S3PRL = {"upstream", "downstream", "encoders"}
MAY_PRINT = {"cli"}


@dataclass(frozen=True)
class Module:
    name: str
    """As installed, such as `s3prl_speechclip.benchmarks.retrieval`."""
    path: Path
    tree: ast.Module

    @property
    def part(self) -> str:
        """The name below the package that this belongs to; empty for the package itself.

        A `__main__` is a command line, wherever it lies.
        """
        if self.name.endswith(".__main__"):
            return "cli"
        return part_of(self.name) or ""

    def imports(self) -> Iterator[tuple[str, int]]:
        """Every imported name with its line, relative ones resolved, wherever in the file."""
        package = self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((alias.name, node.lineno) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:
                    above = package.split(".")[: len(package.split(".")) - node.level + 1]
                    base = ".".join([*above, *filter(None, [node.module])])
                yield from ((f"{base}.{alias.name}", node.lineno) for alias in node.names)


def read_modules() -> list[Module]:
    modules = []
    for package, folder in FOLDERS.items():
        for path in sorted(folder.rglob("*.py")):
            inner = path.relative_to(folder).with_suffix("").parts
            name = ".".join([package, *inner]).removesuffix(".__init__")
            modules.append(Module(name, path, ast.parse(path.read_text(encoding="utf-8"))))
    return modules


MODULES = read_modules()


def place(module: Module, line: int) -> str:
    return f"{module.path.relative_to(ROOT)}:{line}"


def part_of(name: str) -> str | None:
    """The longest part of `TIERS` that holds a dotted name; None for other packages."""
    top, _, rest = name.partition(".")
    if top != PACKAGE:
        return None
    names = rest.split(".")
    joined = (".".join(names[:length]) for length in range(len(names), 0, -1))
    return next((part for part in joined if part in TIER), names[0])


def test_the_sources_are_read():
    """Guards this file's other tests against finding nothing to check."""
    assert {"errors", "config", "benchmarks"} <= {module.part for module in MODULES}


def test_every_part_has_a_tier():
    """Guards the table above against a new part that nobody placed."""
    assert {module.part for module in MODULES} - {""} <= TIER.keys()


def test_imports_point_one_way():
    """The package's own __init__ gathers names for users, and may import all but the programs."""
    wrong = []
    for module in MODULES:
        for imported, line in module.imports():
            part = part_of(imported)
            if part not in TIER:
                if part is not None and module.part:
                    wrong.append(
                        f"{place(module, line)} takes '{imported}' from the package itself"
                    )
            elif TIER[part] > TIER.get(module.part, TIER["cli"] - 1):
                wrong.append(f"{place(module, line)} imports {imported}")
    assert not wrong, "\n".join(wrong)


def test_parts_import_one_another_in_no_circle():
    """Within a tier too; a circle is named."""
    graph: dict[str, set[str]] = {part: set() for part in TIER}
    for module in MODULES:
        for imported, _ in module.imports():
            part = part_of(imported)
            if module.part and part in TIER and part != module.part:
                graph.setdefault(module.part, set()).add(part)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"imports in a circle: {' -> '.join(error.args[1])}")


def test_only_the_bridges_import_s3prl():
    """Guards training and evaluation against s3prl's import time and its old dependencies."""
    wrong = [
        f"{place(module, line)} imports {imported}"
        for module in MODULES
        for imported, line in module.imports()
        if imported.partition(".")[0] == "s3prl"
        and module.part
        and module.part not in MAY_IMPORT_S3PRL
    ]
    assert not wrong, "\n".join(wrong)


def test_every_import_is_declared():
    """Guards a user's installation against a package that only this environment happens to have."""
    declared = {PACKAGE}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    del extras["docs"]  # tools that no module imports
    for text in (*project["dependencies"], *(text for extra in extras.values() for text in extra)):
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate():
            for file in metadata.files(requirement.name) or ():
                declared.add(file.parts[0].partition(".")[0])
    wrong = [
        f"{place(module, line)} imports {imported}"
        for module in MODULES
        for imported, line in module.imports()
        if imported.partition(".")[0] not in declared | sys.stdlib_module_names
    ]
    assert not wrong, "not among pyproject.toml's dependencies:\n" + "\n".join(wrong)


def calls(module: Module, names: set[str]) -> list[str]:
    return [
        f"{place(module, node.lineno)} calls {node.func.id}"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names
    ]


def test_only_the_command_line_prints():
    """Guards the promise that the last line on standard output is a path."""
    wrong = [line for m in MODULES if m.part not in MAY_PRINT for line in calls(m, {"print"})]
    assert not wrong, "\n".join(wrong)


def test_nothing_is_evaluated():
    wrong = [line for module in MODULES for line in calls(module, {"eval", "exec"})]
    assert not wrong, "\n".join(wrong)


def test_files_are_loaded_as_data():
    """Guards users against files from elsewhere: YAML without objects, no pickled code."""
    needed = {
        ("torch", "load"): ("weights_only", True),
        ("tar", "extractall"): ("filter", "data"),
        ("archive", "extractall"): ("filter", "data"),
    }
    wrong = []
    for module in MODULES:
        for node in ast.walk(module.tree):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            owner = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
            call = (owner, node.func.attr)
            given = {
                word.arg: word.value.value
                for word in node.keywords
                if isinstance(word.value, ast.Constant)
            }
            unsafe = given.get("allow_pickle", False) or call in {
                ("pickle", "load"),
                ("pickle", "loads"),
                ("yaml", "load"),
                ("yaml", "unsafe_load"),
                ("yaml", "full_load"),
            }
            if call in needed:
                name, value = needed[call]
                unsafe = given.get(name) != value
            if unsafe:
                wrong.append(f"{place(module, node.lineno)} calls {owner}.{call[1]}")
    assert not wrong, "\n".join(wrong)
