"""Bad studies end in exit 2 and a message to act on, before anything is written."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from engram.sweeps.commands import line


class Bad(NamedTuple):
    """A study with a fault, the line the message must name, and words it must hold."""

    text: str
    line: int | None
    words: tuple[str, ...]


def sweep(lines: str) -> str:
    return f"name: bad\nsweep:\n  {lines}\n"


BAD = {
    # types
    "text for a number": Bad(
        "name: bad\ntraining: {lr: fast}", 2, ("training.lr = 'fast'", "a number")
    ),
    "quoted number": Bad("name: bad\ntraining:\n  lr: '0.1'", 3, ("take the quotes away: 0.1",)),
    "percent": Bad("name: bad\nmodel: {dropout: 20%}", 2, ("write 0.2 for 20 %",)),
    "decimal comma": Bad('name: bad\nmodel: {dropout: "0,2"}', 2, ("write 0.2",)),
    "fraction for a count": Bad(
        "name: bad\ntraining: {epochs: 2.5}", 2, ("is not a whole number",)
    ),
    "exponent for a count": Bad("name: bad\ntraining: {epochs: 1e2}", 2, ("write 100",)),
    "truth for a number": Bad("name: bad\ntraining: {epochs: true}", 2, ("true or false",)),
    "yes for a truth": Bad(
        "name: bad\ndata: {random_labels: yes}", 2, ("yes is text", "write true")
    ),
    "number for a word": Bad("name: bad\nmodel: {activation: 3}", 2, ("relu, leaky_relu",)),
    "number for a name": Bad("name: 2026", 1, ("is a number, not text", '"2026"')),
    "list for a value": Bad(
        "name: bad\nmodel: {dropout: [0, 0.2]}", 2, ("under sweep", "model.dropout")
    ),
    "distribution for a value": Bad(
        "name: bad\ntraining:\n  lr: {loguniform: [1e-4, 1e-1]}",
        3,
        ("is a distribution", "under sweep"),
    ),
    "section that is a word": Bad(
        "name: bad\nmodel: gru", 2, ("model = 'gru'", "not keys and values")
    ),
    "empty value": Bad("name: bad\ntraining:\n  lr:", 3, ("training.lr = null", "is empty")),
    "stack 0": Bad("name: bad\nreplicas: {stack: 0}", 2, ("replicas.stack = 0 is below 1",)),
    # ranges
    "dropout 1.2": Bad(
        "name: bad\nmodel: {dropout: 1.2}", 2, ("model.dropout = 1.2 is outside [0, 1]", "20 %")
    ),
    "replicas 0": Bad(
        "name: bad\nreplicas: {count: 0}", 2, ("replicas.count = 0 is outside [1, 4096]",)
    ),
    "negative lr": Bad("name: bad\ntraining: {lr: -0.1}", 2, ("training.lr = -0.1",)),
    "infinite weight decay": Bad(
        "name: bad\ntraining: {weight_decay: .inf}", 2, ("not a finite number",)
    ),
    "lr that is no number": Bad("name: bad\ntraining: {lr: .nan}", 2, ("not a finite number",)),
    "train_size 0": Bad("name: bad\ndata: {train_size: 0}", 2, ("is below 1",)),
    "enormous train_size": Bad("name: bad\ndata: {train_size: 9999999999}", 2, ("is larger than",)),
    "validation 1.5": Bad("name: bad\ndata: {validation: 1.5}", 2, ("fraction below 1",)),
    "GPU and a half": Bad(
        "name: bad\nresources: {gpu: 1.5}", 2, ("more than one GPU", "whole GPUs")
    ),
    "cron": Bad("name: bad\nnightly: {cron: 0 25 * * *}", 2, ("hour", "0 to 23")),
    "time zone": Bad(
        "name: bad\nnightly: {timezone: Mars/Olympus}", 2, ("time zone", "Europe/Berlin")
    ),
    "store without a scheme": Bad(
        "name: bad\ntracking: {uri: '10.0.0.1:5000'}", 2, ("no scheme", "http://10.0.0.1:5000")
    ),
    "store that is a word": Bad("name: bad\ntracking: {uri: mlflow}", 2, ("no URI", "http://host")),
    "model under a name with a slash": Bad(
        "name: bad\ntracking: {register_as: a/b}", 2, ("tracking.register_as",)
    ),
    # names
    "no name": Bad("question: what?", 1, ("no name", "name: my_study")),
    "name with a slash": Bad("name: a/b", 1, ("path", "letters, digits")),
    "name that climbs": Bad("name: '..'", 1, ("path",)),
    "hidden name": Bad("name: .hidden", 1, ("begins with '.'",)),
    "name with a control character": Bad('name: "a\\tb"', 1, ("holds '\\t'",)),
    "name without end": Bad(f"name: {'a' * 101}", 1, ("101 characters",)),
    # unknown keys
    "unknown key": Bad(
        "name: bad\ntraining: {wd: 1}", 2, ("unknown key 'wd' under training", "'weight_decay'")
    ),
    "unknown section": Bad(
        "name: bad\ntrainig: {lr: 1}", 2, ("unknown key 'trainig'", "'training'")
    ),
    "key of another section": Bad("name: bad\nmodel: {lr: 1}", 2, ("belongs under training",)),
    "key at the top": Bad("name: bad\ndropout: 0.2", 2, ("belongs under model",)),
    "dotted key at the top": Bad(
        "name: bad\nmodel.dropout: 0.2", 2, ("only sweep has dotted keys",)
    ),
    "unknown sweep key": Bad(
        sweep("model.droput: [0]"), 3, ("unknown key 'model.droput'", "model.dropout")
    ),
    "bare sweep key": Bad(sweep("width: [10]"), 3, ("did you mean 'model.width'?",)),
    "nested sweep key": Bad(sweep("model: {dropout: [0]}"), 3, ("with a dot: model.dropout",)),
    "unknown family": Bad("name: bad\nmodel: {family: gru_}", 2, ("did you mean 'gru'?",)),
    "unknown sampler": Bad("name: bad\nsearch: {sampler: tpee}", 2, ("did you mean 'tpe'?",)),
    "no space after the colon": Bad(
        "name: bad\nmodel: {width:3}", 2, ("put a space after the colon",)
    ),
    # sweeps
    "sweep over replicas": Bad(sweep("replicas.count: [4, 8]"), 3, ("cannot be swept", "in pairs")),
    "sweep over validation": Bad(
        sweep("data.validation: [0.1, 0.2]"), 3, ("cannot be swept", "held out once")
    ),
    "sweep over search": Bad(sweep("search.seed: [1, 2]"), 3, ("cannot be swept",)),
    "empty list": Bad(sweep("model.dropout: []"), 3, ("is an empty list",)),
    "one value": Bad(sweep("model.dropout: 0.2"), 3, ("[0.2]",)),
    "value listed twice": Bad(
        sweep("model.dropout: [0, 0.5,\n    0.0]"), 4, ("0.0 is listed twice",)
    ),
    "bad value in a list": Bad(
        sweep("model.dropout:\n  - 0\n  - 1.2"), 5, ("1.2 is outside [0, 1]",)
    ),
    "bad bound": Bad(sweep("dropout: {uniform: [0, 1.2]}"), 3, ("1.2 is outside [0, 1]",)),
    "bounds the wrong way": Bad(sweep("lr: {uniform: [0.1, 0.01]}"), 3, ("low bound",)),
    "logarithm of zero": Bad(sweep("weight_decay: {loguniform: [0, 1]}"), 3, ("above 0",)),
    "three bounds": Bad(sweep("lr: {uniform: [0.1, 0.2, 0.3]}"), 3, ("two bounds",)),
    "unknown distribution": Bad(
        sweep("lr: {loguniforn: [0.1, 1]}"), 3, ("did you mean 'loguniform'?",)
    ),
    "fractions of epochs": Bad(sweep("training.epochs: {uniform: [1, 9]}"), 3, ("{int: [1, 9]}",)),
    "distribution of words": Bad(
        sweep("model.activation: {uniform: [0, 1]}"), 3, ("list the values",)
    ),
    "grid of a distribution": Bad(sweep("lr: {uniform: [0.1, 1]}"), 3, ("grid", "random or tpe")),
    "one key by two names": Bad(sweep("lr: [1]\n  training.lr: [2]"), 4, ("second time", "line 3")),
    "sweep that is a list": Bad(
        "name: bad\nsweep: [model.dropout]", 2, ("not keys with their values",)
    ),
    "cases that are none": Bad(sweep("cases: [1]"), 3, ("no list of mappings",)),
    "case and list": Bad(sweep("cases: [{lr: 0.1}]\n  lr: [0.1]"), 4, ("second time",)),
    "endless grid": Bad(
        sweep(
            "\n  ".join(
                f"{key}: {list(range(1, 60))}"
                for key in ("model.width", "model.depth", "training.epochs")
            )
        ),
        2,
        ("205,379 trials",),
    ),
    # between keys
    "early stopping on nothing": Bad(
        "name: bad\ndata: {validation: 0}\ntraining: {early_stopping: 3}",
        3,
        ("data.validation is 0",),
    ),
    "pruning on nothing": Bad(
        "name: bad\ndata: {validation: 0}\nscheduler: {name: asha}", 3, ("validation is 0",)
    ),
    "searching on nothing": Bad(
        "name: bad\ndata: {validation: 0}\nsearch: {sampler: tpe}\nsweep: {lr: [1, 2]}",
        3,
        ("validation is 0",),
    ),
    "search without a space": Bad("name: bad\nsearch: {sampler: tpe}", 2, ("sweep is empty",)),
    "cmaes of words": Bad(
        "name: bad\nsearch: {sampler: cmaes}\nsweep: {lr: [1, 2]}",
        2,
        ("two or more distributions",),
    ),
    "selecting on test": Bad(
        "name: bad\nsearch:\n  objective: {test_error: min}",
        3,
        ("test is reported, never selected on",),
    ),
    "unknown objective": Bad(
        "name: bad\nsearch: {objective: {validation_eror: min}}", 2, ("'validation_error'",)
    ),
    "objective without direction": Bad(
        "name: bad\nsearch: {objective: {bias2: down}}", 2, ("bias2: min",)
    ),
    "pruning by two objectives": Bad(
        "name: bad\nscheduler: {name: asha}\nsearch: {objective: {bias2: min, variance: min}}",
        2,
        ("one objective",),
    ),
    "grace beyond training": Bad(
        "name: bad\ntraining: {epochs: 5}\nscheduler: {name: asha, grace: 5}",
        3,
        ("after 5 epochs",),
    ),
    "linear recurrent network": Bad(
        "name: bad\nmodel: {family: gru, depth: 0}", 2, ("linear model", "gru")
    ),
    "GPU on the CPU": Bad("name: bad\nresources: {device: cpu, gpu: 1}", 2, ("asks for a GPU",)),
    "CUDA without a GPU": Bad(
        "name: bad\nresources: {device: cuda, gpu: 0}", 2, ("resources.gpu is 0",)
    ),
    "swept epochs under steps": Bad(
        "name: bad\ntraining: {steps: 9}\nsweep: {training.epochs: [1, 2]}", 3, ("changes nothing",)
    ),
    "swept momentum of adam": Bad(
        sweep("training.momentum: [0.1, 0.9]"), 3, ("changes nothing", "sgd")
    ),
    # data and models
    "train_size beyond the pool": Bad("name: bad\ndata:\n  train_size: 3500", 3, ("3500", "3200")),
    "a swept train_size beyond the pool": Bad(
        sweep("train_size:\n  - 100\n  - 3500"), 5, ("3500", "3200")
    ),
    "disjoint draws that do not fit": Bad(
        "name: bad\ndata: {train_size: 1000}\nreplicas: {draw: disjoint}",
        2,
        ("8", "disjoint", "3200"),
    ),
    "fresh draws of finite data": Bad(
        "name: bad\nreplicas: {draw: fresh}", 2, ("fresh", "disjoint")
    ),
    "count that inits do not divide": Bad(
        "name: bad\nreplicas: {count: 8, inits: 3}", 2, ("3", "8")
    ),
    "unknown dataset": Bad("name: bad\ndata: {name: mnist_1d}", 2, ("mnist1d",)),
    "no such data file": Bad("name: bad\ndata: {name: csv:nowhere.csv}", 2, ("nowhere.csv",)),
    "a data file with NaN": Bad(
        "name: bad\ndata: {name: csv:nan.csv, train_size: 2}", 2, ("nan.csv",)
    ),
    "a data file with one class": Bad(
        "name: bad\ndata: {name: csv:one.csv, train_size: 2}", 2, ("one.csv", "class")
    ),
    "image augmentation of sequences": Bad(
        "name: bad\ndata: {augmentation: flip}", 2, ("flip", "shift")
    ),
    "a class that is nowhere": Bad(
        "name: bad\nmodel: {family: nowhere:Net}", 2, ("no module 'nowhere'",)
    ),
    "a class that is not there": Bad(
        "name: bad\nmodel: {family: user_net:Ney}", 2, ("names no 'Ney'", "Net")
    ),
    "a class that is no module": Bad(
        "name: bad\nmodel: {family: user_net:Plain}", 2, ("torch.nn.Module",)
    ),
    "a class that cannot be used": Bad(
        "name: bad\nmodel: {family: user_net:Net}", 2, ("cannot be used",)
    ),
    "a module that breaks": Bad(
        "name: bad\nmodel: {family: broken:Net}", 2, ("ZeroDivisionError",)
    ),
    # the file itself
    "duplicate key": Bad(
        "name: bad\nmodel:\n  width: 1\n  depth: 1\n  width: 2", 5, ("duplicate key", "line 3")
    ),
    "duplicate section": Bad("name: bad\nmodel: {}\nmodel: {}", 3, ("duplicate key 'model'",)),
    "unclosed bracket": Bad(
        "name: bad\nsweep: {model.dropout: [0, 1\n", 3, ("is not YAML", "line 2")
    ),
    "tab": Bad("name: bad\nmodel:\n\twidth: 3", 3, ("tab",)),
    "colon in text": Bad("name: bad\nquestion: this: that", 2, ("is not YAML", "quotes")),
    "two documents": Bad("name: bad\n---\nname: worse", 2, ("one document",)),
    "empty file": Bad("", 1, ("is empty",)),
    "comments alone": Bad("# nothing\n", 1, ("is empty",)),
    "a list": Bad("- name: bad", 1, ("a list, not keys and values",)),
    "a word": Bad("bad", 1, ("text, not keys and values",)),
    "Python object": Bad("name: !!python/object/apply:os.system ['true']", 1, ("tag",)),
    "odd key": Bad("name: bad\n? [1, 2]\n: 3", 2, ("for a key",)),
    "merge key": Bad("name: bad\nmodel: &a {width: 3}\ntraining: {<<: *a}", 3, ("merge keys",)),
    "alias bomb": Bad(
        "name: bad\na: &a [1,1,1,1,1,1,1,1,1,1]\n"
        + "\n".join(
            f"{x}: &{x} [{', '.join([f'*{y}'] * 10)}]"
            for x, y in zip("bcdefgh", "abcdefg", strict=True)
        ),
        None,
        ("too large",),
    ),
    "endless alias": Bad("name: bad\nsweep: &a {model.dropout: *a}", 2, ("too large",)),
    "deep nesting": Bad("name: " + "[" * 5000, None, ("bad.yaml",)),
    "number of 5000 digits": Bad(f"name: bad\nmodel: {{width: {'9' * 5000}}}", 2, ("bad.yaml:2",)),
}


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to run in, with a state folder that must stay absent, and some bad data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ENGRAM_HOME", str(tmp_path / "home"))
    rows = [f"{i},{i * 2},{'ab'[i % 2]}" for i in range(40)]
    (tmp_path / "nan.csv").write_text("u,v,z\n" + "\n".join([*rows, "nan,3,a"]))
    (tmp_path / "one.csv").write_text("u,v,z\n" + "\n".join(row[:-1] + "a" for row in rows))
    (tmp_path / "user_net.py").write_text(
        "import torch\nclass Plain: pass\nclass Net(torch.nn.Module):\n    def __init__(self): ...\n"
    )
    (tmp_path / "broken.py").write_text("1 / 0\n")
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert line.main(arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert "Traceback" not in output.err
    return output.err


@pytest.mark.parametrize("kind", BAD)
def test_bad_study_is_refused_with_place_and_rule(kind: str, house: Path, capsys):
    bad = BAD[kind]
    (house / "bad.yaml").write_text(bad.text)
    said = refused(capsys, "run", "bad.yaml")
    place = "bad.yaml:" if bad.line is None else f"bad.yaml:{bad.line}: "
    assert said.startswith(place), said
    for word in bad.words:
        assert word in said
    assert said.count("bad.yaml") < 4, "one fault, one message"
    assert not (house / "home").exists(), "nothing was written"


def test_all_problems_are_told_at_once_in_file_order(house: Path, capsys):
    (house / "bad.yaml").write_text(
        "name: a/b\nmodel: {dropout: 1.2}\ntraining:\n  wd: 3\n  lr: x\ndata: {train_size: 9000}\n"
        "sweep:\n  model.width: [1, 0, 1]\nscheduler: {name: asa}\nextra: 1\n"
    )
    lines = [
        line for line in refused(capsys, "plan", "bad.yaml").splitlines() if line.startswith("bad")
    ]
    assert [int(line.split(":")[1]) for line in lines] == [1, 2, 4, 5, 8, 8, 9, 10]


def test_data_problems_join_the_others(house: Path, capsys):
    (house / "bad.yaml").write_text("name: bad\nmodel: {width: 0}\ndata: {train_size: 9000}\n")
    said = refused(capsys, "plan", "bad.yaml")
    assert "bad.yaml:2" in said
    assert "bad.yaml:3" in said


@pytest.mark.parametrize(
    ("option", "words"),
    {
        "model.dropout=1.2": ("--set model.dropout=1.2: model.dropout = 1.2 is outside [0, 1]",),
        "model.dropuot=0.2": ("did you mean 'model.dropout'?",),
        "wd=0.2": ("did you mean 'training.weight_decay'?",),
        "nothing": ("not of the form key=value",),
        "=3": ("not of the form key=value",),
        "model.width=[": ("is not YAML",),
        "train_size=3": ("swept by this study",),
        "sweep.lr=[0.1,fast]": ("training.lr = 'fast'",),
        "data.name=mnist": ("--set data.name=mnist",),
        "replicas=3": ("not keys and values",),
    }.items(),
)
def test_set_goes_through_the_same_door(option: str, words: tuple[str, ...], house: Path, capsys):
    said = refused(capsys, "run", "quickstart", "--set", option)
    for word in words:
        assert word in said
    assert not (house / "home").exists()


def test_what_is_no_study(house: Path, capsys):
    (house / "folder.yaml").mkdir()
    (house / "latin.yaml").write_bytes("name: bad\nquestion: f\xfcr".encode("latin-1"))
    (house / "null.yaml").write_bytes(b"name: bad\x00")
    (house / "huge.yaml").write_text("#" * 1_000_001)
    for given, words in {
        "nowhere.yaml": ("does not exist", "quickstart"),
        "quickstat": ("did you mean 'quickstart'?", "shipped studies"),
        "folder.yaml": ("is a directory",),
        "latin.yaml": ("latin.yaml:2", "UTF-8", "0xfc"),
        "null.yaml": ("null.yaml:1", "does not allow"),
        "huge.yaml": ("larger than",),
        "/dev/null": ("not a regular file",),
        "": ("neither",),
        "x" * 300: ("neither",),
    }.items():
        said = refused(capsys, "plan", given)
        for word in words:
            assert word in said, (given, said)


def test_run_name_stays_in_the_state_folder(house: Path, capsys):
    assert "path" in refused(capsys, "run", "quickstart", "--name", "../x")
    assert not (house / "home").exists()
