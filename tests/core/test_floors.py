"""The architecture: what may import what, what stays light, and that everything public is documented and used."""

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

from conftest import PROJECT

OPTIONAL = {
    "cleanlab",
    "cryptography",
    "dvc",
    "confluent_kafka",
    "google",
    "mne",
    "pydicom",
    "nibabel",
    "dask",
    "distributed",
    "dask_jobqueue",
}
HEAVY = {"torch", "torchvision", "mlflow", "optuna", "pandas", "sklearn", "scipy", "matplotlib", "seaborn", "PIL"}
MODULES = {
    path.relative_to(PROJECT).as_posix(): ast.parse(path.read_text())
    for folder in ("common", "step_*")
    for path in sorted(PROJECT.glob(f"{folder}/**/*.py"))
}
USES = ["common/**/*.py", "step_*/**/*.py", "step_*/*.ipynb", "step_*/*.md", "benchmarks/*.py", "docs/*", "README.md"]


def imports_of(tree, whole=True):
    """Packages that a module imports. Unless `whole`, only those that it imports when it is imported."""
    todo, found = list(tree.body), set()
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found.add(node.module.split(".")[0])
        elif not whole and (
            isinstance(node, ast.FunctionDef | ast.Lambda)
            or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
        ):
            continue
        todo += ast.iter_child_nodes(node)
    return found


def test_rooms_keep_to_their_floors_without_circles_and_tools_to_their_rooms():
    done = subprocess.run([Path(sys.executable).with_name("lint-imports")], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert not [path for path, tree in MODULES.items() if any(n.startswith("step_") for n in imports_of(tree))]


def test_an_optional_tool_has_one_module_which_names_the_extra():
    users = {}
    for path, tree in MODULES.items():
        for package in imports_of(tree) & OPTIONAL:
            users.setdefault(package, []).append(path)
            assert package not in imports_of(tree, whole=False), path
    assert all(len(paths) == 1 for paths in users.values()), users


def test_importing_common_and_asking_for_help_load_nothing_heavy():
    for step in range(1, 6):
        done = subprocess.run(
            [sys.executable, "-X", "importtime", f"step_{step}/train.py", "--help"],
            cwd=PROJECT,
            env={"PYTHONPATH": str(PROJECT)},
            capture_output=True,
            text=True,
        )
        loaded = {
            line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time")
        }
        assert done.returncode == 0 and "--data" in done.stdout and "common.cli" in loaded
        assert {name.split(".")[0] for name in loaded} & HEAVY == set(), step


def test_no_two_modules_share_a_name_nor_two_public_functions():
    modules = Counter(Path(path).stem for path in MODULES if path.startswith("common/"))
    assert {name for name, count in modules.items() if count > 1} <= {"__init__", "__main__"}
    names = Counter(name for path, name, _ in public(members=False))
    assert {name for name, count in names.items() if count > 1} <= {"main"}


def test_everything_public_is_documented():
    for path, tree in MODULES.items():
        first = (ast.get_docstring(tree) or "").split("\n")[0]
        assert first.endswith((".", ":", "?")) and tree.body[0].lineno == 1, f"{path}: {first!r}"
    assert [f"{path}: {name}" for path, name, node in public() if not ast.get_docstring(node)] == []


def test_everything_public_is_used_outside_of_tests():
    text = "\n".join(path.read_text() for glob in USES for path in PROJECT.glob(glob) if path.suffix != ".png")
    words = Counter(re.findall(r"\w+", text))
    lonely = [f"{path}: {name}" for path, name, node in public() if words[node.name] == 1 and not node.decorator_list]
    assert lonely == []


def public(members=True):
    """Public functions and classes of `common` and, with `members`, methods of classes without a base."""

    def of(tree, prefix=""):
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                yield prefix + node.name, node
                if members and isinstance(node, ast.ClassDef) and not node.bases:
                    yield from of(node, f"{prefix}{node.name}.")

    return [(path, *found) for path, tree in MODULES.items() if path.startswith("common/") for found in of(tree)]
