"""Config files: what loads, what each mistake is told as, and that a written config reads back."""

import ast
import logging
import math
import pickle
import re
import signal
import string
import subprocess
import sys
from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import optuna
import pytest

from common.cli import Terminated, UserError
from common.config import settings
from common.config.file import load_config, load_experiment
from common.config.places import find_spaces, resolve
from common.config.settings import SGD, AdamW, Augmentation, TrainingConfig
from common.config.source import to_source
from common.config.spaces import Categorical, FieldError, Float, Int
from common.interrupting import interrupt
from common.state import PROJECT

IMPORTS = "from common.config import Categorical, Float, HyperParameter, Int\n"
IMPORTS += "from common.config import SGD, AdamW, Augmentation, TrainingConfig\n"


class Colour(Enum):
    RED = "red"


@dataclass(frozen=True)
class Anything:
    value: object = None


@pytest.fixture
def write(tmp_path):
    def write(text: str | bytes) -> Path:
        path = tmp_path / "config.py"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_the_configs_of_step_5_load():
    spaces = find_spaces(load_config(PROJECT / "step_5" / "config.py", TrainingConfig))
    warm_up = ["warmup_learning_rate", "warmup_weight_decay"]
    assert list(spaces) == ["hidden_dim", "dropout_rate", *warm_up, "learning_rate", "weight_decay"]
    for path in (PROJECT / "step_5" / "configs").glob("*.py"):
        configs, _ = load_experiment(path)
        assert find_spaces(configs[0]) or len(configs) > 1 or path.name == "fashion_mnist.py", path


def test_a_file_is_run_as_a_module_and_leaves_the_import_path_alone(write):
    before = sys.path[:]
    path = write(
        "from __future__ import annotations\nimport sys\nfrom dataclasses import dataclass\nfrom pathlib import Path\n"
        + IMPORTS
        + "sys.path.insert(0, 'elsewhere')\n@dataclass\nclass Own:\n    rate: float = 0.5\n"
        "here = Path(__file__).name\nconfig = TrainingConfig(weights=here, dropout_rate=Own().rate)\n"
    )
    assert load_config(path, TrainingConfig) == TrainingConfig(weights="config.py", dropout_rate=0.5)
    assert sys.path == before


def test_a_config_file_of_an_earlier_version_loads(write):
    text = "from common.search import Categorical, Float, Int\nfrom common.training import SGD, AdamW, TrainingConfig\n"
    path = write(
        f"{text}config = TrainingConfig(epochs=Int(1, 3), optimizer=Categorical([SGD(), AdamW(Float(0, 0.5))]))"
    )
    assert list(find_spaces(load_config(path, TrainingConfig))) == ["epochs", "optimizer", "optimizer.AdamW.beta1"]


def test_an_edit_is_seen_at_once(write):
    for epochs in (1, 2):
        assert load_config(write(f"{IMPORTS}config = TrainingConfig(epochs={epochs})"), TrainingConfig).epochs == epochs


def test_the_older_form_loads(write):
    config = load_config(
        write(
            IMPORTS + "from optuna.trial import Trial\n"
            "config = TrainingConfig(\n"
            "  learning_rate=HyperParameter(method='suggest_float', name='lr', kwargs={'low': 0.1, 'high': 1}),\n"
            "  hidden_dim=HyperParameter(method=Trial.suggest_int, name='units', kwargs={'low': 8, 'high': 64}))\n"
        ),
        TrainingConfig,
    )
    resolved = resolve(config, optuna.trial.FixedTrial({"lr": 0.5, "units": 16}))
    assert resolved == TrainingConfig(learning_rate=0.5, hidden_dim=16)


MISTAKES = [
    ("config = TrainingConfig(\n  epochs=1,\n  learnig_rate=1)", 5, "learnig_rate=1; did you mean `learning_rate`?"),
    ("config = TrainingConfig(optimizer=SGD(momentun=0.9))", 3, "SGD, found momentun=0.9; did you mean `momentum`?"),
    ("config = TrainingConfig(\n  epochs=1,\n  batch_size='32')", 5, "TrainingConfig.batch_size: expected int .*'32'"),
    ("config = TrainingConfig(\n  dropout_rate=1.5)", 4, "TrainingConfig.dropout_rate: .*below 1, found 1.5"),
    ("config = TrainingConfig(\n  learning_rate=Float(0, 1, log=True))", 4, "TrainingConfig.learning_rate: .*log"),
    ("config = TrainingConfig(\n\n  optimizer=SGD(\n    momentum=2.0))", 6, "SGD.momentum: .*2.0"),
    ("config = TrainingConfig(optimizer=Categorical([SGD(), 'Adam']))", 3, "TrainingConfig.optimizer: .*'Adam'"),
    ("config = TrainingConfig(dropout_rate=Float(0, 1.5))", 3, "TrainingConfig.dropout_rate: .*1.5 as high"),
    ("x = HyperParameter(method='suggest_flot', name='lr', kwargs={})", 3, "HyperParameter.method: .*'suggest_flot'"),
    ("config = TrainingConfg()", 3, "'TrainingConfg' is not defined; did you mean `TrainingConfig`?"),
    ("\nfrom common.config import Adam", 4, "ImportError: .*Adam"),
    ("def f():\n  return 1 / 0\nf()", 4, "ZeroDivisionError"),
    ("raise ValueError('two\\nlines')", 3, "ValueError: two lines"),
    ("config = TrainingConfig(epochs=1", 3, "never closed: config = TrainingConfig(epochs=1"),
    ("config = TrainingConfig(epochs=1, epochs=2)", 3, "repeated: epochs"),
    ("cofig = TrainingConfig()", None, "expected a variable `config` of class TrainingConfig.*did you mean `cofig`?"),
    ("\nconfig = {'epochs': 1}", 4, "config: expected a TrainingConfig, found {'epochs': 1}"),
    ("config = TrainingConfig", 3, "config: expected a TrainingConfig, found the class TrainingConfig"),
]


@pytest.mark.parametrize(("text", "line", "told"), MISTAKES)
def test_a_mistake_is_one_line_with_file_line_field_and_value(write, text, line, told):
    path = write(IMPORTS + text)
    with pytest.raises(UserError) as error:
        load_config(path, TrainingConfig)
    message = str(error.value)
    assert message.startswith(f"{path}:{line}: " if line else f"{path}: ")
    assert "\n" not in message
    assert re.search(re.escape(told).replace(r"\.\*", ".*"), message), message


@pytest.mark.parametrize(
    ("variable", "told"),
    [
        ("register = True", "register: expected a text, found True"),
        ("n_trials = 0", "n_trials: expected a whole number of at least 1, found '0'"),
        ("root_splits = 10**30", "root_splits: expected a whole number from 1 to 1000000000, found '1000000"),
        ("root_splits = 10**5000", "ValueError: Exceeds the limit"),
        ("promotion = 'best'", "promotion: expected paired or highest, found 'best'"),
        ("register = 'a b'", "register: expected up to 250 letters, digits, '_' and '-', found 'a b'"),
        ("experiment = '../x'", "experiment: expected a folder's name: no slashes"),
        ("inner_splits = True", "inner_splits: expected a whole number, found True"),
        ("data = 5", "data: expected a text, found 5"),
        ("data = ''", "data: found an empty text; expected a name or a path"),
    ],
)
def test_a_variable_beside_config_is_checked_as_its_flag_would_be(write, variable, told):
    path = write(f"{IMPORTS}config = TrainingConfig()\n{variable}")
    with pytest.raises(UserError, match=re.escape(told)) as error:
        load_experiment(path)
    assert str(error.value).startswith(str(path))


# What a config may do, in a function's body on line 4, and where that function is called.
ENDINGS = ["raise GeneratorExit", "raise Own", "exit()", "raise Mute"]
PLACES = [
    "f()",
    "config = TrainingConfig(model=type('M', (), {'__repr__': f})())",
    "config = TrainingConfig(model=type('M', (), {'__deepcopy__': f})())",
    "config = TrainingConfig(learning_rate=type('L', (float,), {'__str__': f})(0.1))",
    "config = TrainingConfig(epochs=type('E', (int,), {'__eq__': f, '__ge__': f})(3))",
    "config = TrainingConfig(optimizer=Categorical([SGD(), type('S', (), {'__eq__': f, '__hash__': f})()]))",
    "config = type('C', (), {'__repr__': f})()",
    "config = type('C', (), {'__class__': property(f)})()",
    "config = TrainingConfig(); data = type('D', (str,), {'__str__': f})()",
    "config = TrainingConfig(); models = type('M', (list,), {'__len__': f})()",
    "config = TrainingConfig(); models = [type('M', (), {'__repr__': f})()]",
]


@pytest.mark.hostile("a config that raises or ends what it likes is one line", cases=len(ENDINGS))
@pytest.mark.parametrize("place", PLACES)
def test_a_config_that_ends_or_raises_whatever_it_likes_is_one_line_with_its_line(place, write):
    for ending in ENDINGS:
        path = write(
            f"{IMPORTS}def f(*_):\n    {ending}\n"
            "class Own(KeyboardInterrupt): pass\n"
            "class Mute(Exception):\n    def __str__(self): exit()\n" + place
        )
        with pytest.raises(UserError) as error:
            load_experiment(path)
        assert str(error.value).startswith(f"{path}:4: "), (ending, str(error.value))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(("number", "kind"), [("SIGINT", KeyboardInterrupt), ("SIGTERM", Terminated)])
def test_a_signal_while_a_config_runs_ends_the_script_and_is_no_mistake_of_the_config(number, kind, write):
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        with pytest.raises(kind):
            load_config(write(f"import signal\nsignal.raise_signal(signal.{number})"), TrainingConfig)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_file_that_cannot_be_read_is_named(tmp_path, write):
    for path in (tmp_path / "none.py", tmp_path, tmp_path / "none" / "config.py"):
        with pytest.raises(UserError, match="expected a Python file that can be read") as error:
            load_config(path, TrainingConfig)
        assert str(path) in str(error.value)
    for content in (b"\xff\xfe config", b"config = 1\0"):
        with pytest.raises(UserError, match=r"config\.py"):
            load_config(write(content), TrainingConfig)


CONFIGS = [
    TrainingConfig(),
    TrainingConfig(learning_rate=0.1 + 0.2, weight_decay=1e-300, dropout_rate=1 / 3, optimizer=SGD()),
    TrainingConfig(weights='it\'s "C:\\weights"\n', optimizer=AdamW(beta1=0), augmentation=Augmentation(flip=1)),
    TrainingConfig(augmentation=None),
    TrainingConfig(optimizer=Categorical([AdamW(), SGD(momentum=Float(0.5, 0.99))]), hidden_dim=Int(1, 9, name="n")),
    Anything([[], (), {}, (1,), (SGD(),), [1, (2.5, None)], {"a": [True], 2: {"b": -1e-7}}, Anything()]),
    Anything({"path": Path("a/b"), "colour": Colour.RED, "class": optuna.samplers.TPESampler, "def": math.isclose}),
    Anything([logging.Formatter, string.Formatter, OrderedDict, SGD, float, math.inf]),
    Anything([list(range(100)), ["x" * 30] * 4, ["µ", 'a"b', "a'b"]]),
]


def test_a_written_config_reads_back_equal_and_is_as_ruff_would_leave_it(write, tmp_path):
    folder = tmp_path / "step_5"
    folder.mkdir()
    for number, config in enumerate(CONFIGS):
        text = to_source(config)
        assert load_config(write(text), type(config)) == config
        assert to_source(load_config(write(text), type(config))) == text
        (folder / f"best_{number}.py").write_text(text)
    ruff, settings_file = [sys.executable, "-m", "ruff"], ["--no-cache", "--config", PROJECT / "pyproject.toml"]
    for command in (["format", "--check"], ["check"]):
        done = subprocess.run([*ruff, *command, *settings_file, folder], capture_output=True, text=True, cwd=PROJECT)
        assert done.returncode == 0, done.stdout + done.stderr


def test_what_python_text_cannot_stand_for_is_refused_by_its_path(write):
    @dataclass(frozen=True)
    class Local:
        pass

    own = load_config(write(f"{IMPORTS}class Own: pass\nconfig = TrainingConfig(model=Own)\n"), TrainingConfig).model
    for value in (object(), Local(), lambda: 0, own, {1, 2}):
        with pytest.raises(FieldError, match=r"Anything\.value\.a\.0: expected "):
            to_source(Anything({"a": [value]}))


@pytest.mark.parametrize("model", ["Own", "Categorical([OrderedDict, Own])"])
def test_a_network_that_is_defined_in_the_config_file_itself_is_refused_when_it_is_read(model, write):
    path = write(
        f"{IMPORTS}from collections import OrderedDict\nclass Own: pass\nconfig = TrainingConfig(model={model})"
    )
    with pytest.raises(UserError) as error:
        load_experiment(path)
    told = "TrainingConfig.model: expected what can be imported from a module, found <class "
    assert str(error.value).startswith(f"{path}:5: {told}") and str(error.value).endswith(".Own'>")


def test_every_setting_has_a_line_of_documentation():
    body = ast.parse(Path(settings.__file__).read_text()).body
    for node in (node for node in body if isinstance(node, ast.ClassDef) and "dataclass" in ast.unparse(node)):
        for statement, after in zip(node.body, [*node.body[1:], None], strict=True):
            if isinstance(statement, ast.AnnAssign):
                assert isinstance(after, ast.Expr) and isinstance(after.value.value, str), ast.unparse(statement)


def test_a_wrong_value_can_be_told_by_another_process():
    error = pickle.loads(pickle.dumps(FieldError("TrainingConfig.epochs", "expected int, found 'a'")))
    assert (str(error), error.field) == ("TrainingConfig.epochs: expected int, found 'a'", "TrainingConfig.epochs")


def test_reading_a_config_imports_neither_torch_nor_optuna():
    code = "import sys, common.config.file, common.config.settings; print({'torch', 'optuna'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT, check=True)
    assert done.stdout.strip() == "set()"
