"""The architecture: what may import what, what stays light, and that everything public is documented."""

import ast
import subprocess
import sys

import pytest

from conftest import PROJECT

FLOORS = [
    {"seeds", "progress", "cli", "figures", "state"},
    {"tracking", "model"},
    {"data", "search"},
    {"evaluation", "training"},
    {"lesson", "predict", "watch", "pretrain"},
]
ONLY_UNDER = {"mlflow": "common/tracking/", "optuna": "common/search/"}
OPTIONAL = {"dvc", "confluent_kafka", "google", "mne", "dask"}
HEAVY = {"torch", "torchvision", "mlflow", "optuna", "pandas", "sklearn", "scipy", "matplotlib", "seaborn", "PIL"}

MODULES = {
    path.relative_to(PROJECT).as_posix(): ast.parse(path.read_text())
    for folder in ("common", "step_*")
    for path in sorted(PROJECT.glob(f"{folder}/**/*.py"))
}


def imports_of(tree, whole=True):
    """Names that a module imports: `from a import b` gives a.b. Unless `whole`, only those that run at import."""
    todo, found = list(tree.body), set()
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif not whole and (
            isinstance(node, ast.FunctionDef | ast.Lambda)
            or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
        ):
            continue
        todo += ast.iter_child_nodes(node)
    return found


def floor_of(room):
    return next(floor for floor, rooms in enumerate(FLOORS) if room in rooms)


def test_every_room_has_a_floor():
    rooms = {path.split("/")[1].removesuffix(".py") for path in MODULES if path.startswith("common/")}
    assert rooms - {"__init__"} <= set.union(*FLOORS)


def test_a_room_imports_only_from_its_own_floor_or_below():
    upwards = []
    for path, tree in MODULES.items():
        steps = {name for name in imports_of(tree) if name.startswith("step_")}
        upwards += [f"{path} imports {name}" for name in steps]
        if not path.startswith("common/"):
            continue
        room = path.split("/")[1].removesuffix(".py")
        for name in imports_of(tree):
            package, _, rest = name.partition(".")
            if package == "common" and floor_of(rest.split(".")[0]) > floor_of(room):
                upwards.append(f"{path} imports {name}")
    assert upwards == []


def test_no_module_imports_itself_by_way_of_others():
    names = {path.removesuffix(".py").removesuffix("/__init__").replace("/", "."): path for path in MODULES}
    edges = {
        module: {target for name in imports_of(MODULES[path]) for target in reached(name, names)}
        for module, path in names.items()
    }
    settled = set()

    def visit(module, trail):
        assert module not in trail, " -> ".join([*trail, module])
        if module not in settled:
            for target in edges[module] - {module}:
                visit(target, (*trail, module))
            settled.add(module)

    for module in names:
        visit(module, ())


def reached(name, modules):
    """The module that an imported name is or lies in."""
    return {m for m in (name, name.rpartition(".")[0]) if m in modules and m != "common"}


@pytest.mark.parametrize("package", ONLY_UNDER)
def test_a_tool_is_imported_under_its_own_room_only(package):
    users = {path for path, tree in MODULES.items() if package in {n.split(".")[0] for n in imports_of(tree)}}
    assert users and all(path.startswith(ONLY_UNDER[package]) for path in users)


def test_an_optional_tool_has_one_module_which_names_the_extra():
    users = {}
    for path, tree in MODULES.items():
        for package in {name.split(".")[0] for name in imports_of(tree)} & OPTIONAL:
            users.setdefault(package, []).append(path)
            assert package not in {name.split(".")[0] for name in imports_of(tree, whole=False)}, path
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


def test_each_module_says_in_its_first_line_what_it_is_about():
    for path, tree in MODULES.items():
        first = (ast.get_docstring(tree) or "").split("\n")[0]
        assert first.endswith((".", ":", "?")) and tree.body[0].lineno == 1, f"{path}: {first!r}"


def test_everything_public_is_documented():
    bare = [
        f"{path}: {name}"
        for path, tree in MODULES.items()
        if path.startswith("common/")
        for name, node in public(tree)
        if not ast.get_docstring(node)
    ]
    assert bare == []


def public(tree, prefix=""):
    """Public functions and classes, and the methods of classes that inherit no documentation."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef) and not node.bases:
                yield from public(node, f"{prefix}{node.name}.")
