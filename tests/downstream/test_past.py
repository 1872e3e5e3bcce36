"""Settings that a run takes from a past experiment, and changes that are errors."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from downstream_runs import ask

from s3prl_speechclip.benchmarks.leaderboard.superb import superb_figures
from s3prl_speechclip.cli import downstream
from s3prl_speechclip.downstream.plan import Data, _is_another, resolve
from s3prl_speechclip.downstream.request import Request
from s3prl_speechclip.downstream.run import run
from s3prl_speechclip.errors import CheckpointError, ConfigError
from s3prl_speechclip.results import read_result

Write = Callable[[str], Path]
IC = "fluent_commands"


@pytest.fixture
def request_of_past(write_corpus: Write, tmp_path: Path) -> Request:
    """The request of a run that is over."""
    request = replace(ask(IC, write_corpus(IC), tmp_path / "run"), seed=7, layer=0)
    assert run(request).result is not None
    return request


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": 8}, "--seed 8, but the past experiment has 7"),
        ({"layer": 1}, "-l 1, but the past experiment has 0"),
        ({"variant": "fold2"}, "-v fold2, but the past experiment has None"),
        ({"selection": "last_hidden_state"}, "-s last_hidden_state, but"),
        ({"trainable": True}, "-f True, but"),
        ({"override": "optimizer.lr=1e-6"}, "another optimizer"),
    ],
)
@pytest.mark.parametrize("evaluate", [False, True])
def test_a_probe_is_what_its_run_made_it(request_of_past: Request, changes, said, evaluate: bool):
    """Guards a record against a seed, layer or rate that the probe was not trained with."""
    past = Request(past=request_of_past.folder, evaluate=evaluate, device="cpu")
    with pytest.raises(ConfigError, match=said):
        resolve(replace(past, **changes))
    resolve(past)


def test_a_run_goes_on_in_its_own_folder(request_of_past: Request, tmp_path: Path):
    """Guards against the best probe of another run, or the last one called the best."""
    past = Request(past=request_of_past.folder, device="cpu")
    for elsewhere in ({"folder": tmp_path / "other"}, {"name": "other"}):
        with pytest.raises(ConfigError, match="in its own folder"):
            resolve(replace(past, **elsewhere))
    resolve(replace(past, folder=request_of_past.folder))
    resolve(replace(past, folder=tmp_path / "other", evaluate=True))
    with pytest.raises(ConfigError, match="leave -e out"):
        resolve(replace(past, sweep=(1e-3,)))


def test_labels_in_another_order_are_refused(request_of_past: Request, tmp_path: Path):
    """Guards against scores of permuted labels: s3prl numbers them as the lists name them."""
    other = shutil.copytree(str(request_of_past.data_root), tmp_path / "other")
    lists = Path(other) / "data" / "train_data.csv"
    head, *rows = lists.read_text(encoding="utf-8").splitlines()
    lists.write_text("\n".join([head, *rows[::-1]]) + "\n", encoding="utf-8")
    past = Request(past=request_of_past.folder, evaluate=True, device="cpu")
    with pytest.raises(CheckpointError, match="in another order"):
        run(replace(past, data_root=str(other)))


def test_another_corpus_has_no_score_of_the_first(request_of_past: Request, tmp_path: Path):
    """Guards against a dev score under the name of a corpus that it was not measured on."""
    other = shutil.copytree(str(request_of_past.data_root), tmp_path / "other")
    folder = request_of_past.folder
    arguments = ["-m", "evaluate", "-e", str(folder), "--data-root", str(other), "--device", "cpu"]
    path = downstream.command(arguments)
    assert path is not None and path.name == "result-other-corpus.json"
    assert read_result(path).metrics.keys() == {"test"}
    same = downstream.command(["-m", "evaluate", "-e", str(folder), "--device", "cpu"])
    assert same is not None and read_result(same).metrics.keys() == {"dev", "test"}


def test_an_overridden_corpus_has_a_name_of_its_own(write_corpus: Write, tmp_path: Path):
    """Guards against the official name on data that `-o` named in an evaluation."""
    root = write_corpus(IC)
    request = ask(IC, root, tmp_path / "run")
    assert run(request).result is not None
    past = Request(past=request.folder, evaluate=True, device="cpu")
    changed = f"downstream_expert.datarc.file_path={shutil.copytree(root, tmp_path / 'o')}"
    plan = resolve(replace(past, override=changed))
    assert (plan.data.corpus, plan.moved) == ("own (Fluent Speech Commands layout)", True)


@pytest.mark.parametrize("name", ["eval_dataloaders=[test]", "test_dataloaders=[dev, test]"])
def test_a_sweep_needs_dev(write_corpus: Write, tmp_path: Path, name: str):
    """Guards against a traceback after all rates were trained."""
    request = ask(IC, write_corpus(IC), tmp_path / "run", changes=f"runner.{name}")
    with pytest.raises(ConfigError, match="chooses on dev"):
        resolve(replace(request, sweep=(1e-3,)))


@pytest.mark.parametrize(("variant", "fold"), [(None, "fold1"), ("fold2", "fold2")])
def test_a_result_of_emotion_says_its_fold(write_corpus: Write, tmp_path: Path, variant, fold):
    """Guards against results of folds that the board cannot read."""
    request = replace(ask("emotion", write_corpus("emotion"), tmp_path / "run"), variant=variant)
    found = run(request).result
    assert found is not None
    assert [figure.fold for figure in superb_figures(found)] == [fold]


@pytest.mark.parametrize(
    ("changes", "corpus"),
    [
        ({}, "SUPERB"),
        ({"layer": 3}, "SUPERB, layer 3"),
        ({"upstream_trained": True}, "SUPERB, fine-tuned"),
        ({"normalize": True}, "SUPERB, normalised"),
    ],
)
def test_other_features_than_superbs_stand_apart(request_of_past: Request, changes, corpus: str):
    """Guards SUPERB's table against one layer, or a fine-tuned upstream."""
    found = read_result_of(request_of_past)
    protocol = {**found.protocol, "layer": None, **changes}
    (figure,) = superb_figures(replace(found, corpus=IC, protocol=protocol))
    assert figure.corpus == corpus


def read_result_of(request: Request):
    found = run(Request(past=request.folder, evaluate=True, device="cpu")).result
    assert found is not None
    return found


def test_a_resumed_sweep_is_that_of_its_probes(write_corpus: Write, tmp_path: Path):
    """Guards a sweep's record against a seed that none of its probes was trained with."""
    request = replace(ask(IC, write_corpus(IC), tmp_path / "run"), sweep=(1e-3, 1e-2), seed=7)
    assert run(request).result is not None
    again = replace(request, auto_resume=True)
    assert run(again).result is not None
    with pytest.raises(ConfigError, match="--seed 8, but the past experiment has 7"):
        run(replace(again, seed=8))


def test_a_published_corpus_is_the_same_wherever_it_lies():
    """Guards a resumed run, whose corpus was staged in another place, against losing its scores."""
    about = {"corpus": IC, "root": "/a/fluent"}
    assert not _is_another(Data(corpus=IC, root="/b/fluent"), about)
    assert _is_another(
        Data(corpus="own (X layout)", root="/b"), {**about, "corpus": "own (X layout)"}
    )
