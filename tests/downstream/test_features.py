"""Features of a frozen upstream: what is kept, that it is the upstream's, and that it suffices."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from downstream_runs import ask
from small_models import small_model
from torch import nn

from s3prl_speechclip.benchmarks.peers.runner import write_mini_hubert
from s3prl_speechclip.data.audio import read_audio
from s3prl_speechclip.downstream import compat, recordings
from s3prl_speechclip.downstream import features as features_module
from s3prl_speechclip.downstream import training as training_module
from s3prl_speechclip.downstream.batches import Items
from s3prl_speechclip.downstream.features import Features
from s3prl_speechclip.downstream.plan import resolve
from s3prl_speechclip.downstream.request import Request
from s3prl_speechclip.downstream.run import run
from s3prl_speechclip.downstream.run_state import RunFolder, read_state
from s3prl_speechclip.downstream.training import Training
from s3prl_speechclip.downstream.upstreams import check_selection, load_upstream
from s3prl_speechclip.errors import ConfigError, CorpusError
from s3prl_speechclip.runtime.devices import build_fabric

Write = Callable[[str], Path]
CPU = torch.device("cpu")
POOLED = ("fluent_commands", "speech_commands", "voxceleb1", "emotion")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    small_model("speechclip_hybrid").save_pretrained(folder)
    return folder


def asked(task: str, root: Path, folder: Path, model: Path, **options: Any) -> Request:
    request = ask(task, root, folder, options.pop("steps", 4), options.pop("changes", ""))
    return replace(request, upstream="speechclip_hybrid", checkpoint=str(model), **options)


def training_of(request: Request) -> Training:
    compat.apply()
    plan = resolve(request)
    plan.folder.mkdir(parents=True, exist_ok=True)
    upstream = load_upstream(
        str(plan.request.upstream), plan.request.checkpoint, plan.request.upstream_config, CPU
    )
    return Training(build_fabric("cpu", "fp32"), [plan], upstream)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    path = RunFolder(folder).last()
    assert path is not None
    parts = read_state(path).parts
    return {f"{part}.{name}": value for part in parts for name, value in parts[part].items()}


def without_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where a recording is read or encoded."""
    monkeypatch.setattr(recordings, "read_audio", lambda path: pytest.fail(f"reads {path}"))
    monkeypatch.setattr(Features, "_encode", lambda *_: pytest.fail("encodes"))


@pytest.mark.parametrize("task", POOLED)
def test_means_over_time_train_as_frames_do(task: str, write_corpus: Write, tmp_path: Path, model):
    """Guards the heads that are linear up to the mean, in logits and in steps of Adam."""
    root = write_corpus(task)
    found = {}
    for kind in ("pooled", "frames"):
        training = training_of(asked(task, root, tmp_path / kind, model, cache=kind))
        split = training.runner.train_dataloader
        training.prepare(split)
        probe = training.trials[0].probe
        logits: list[torch.Tensor] = []
        probe.expert.model.register_forward_hook(lambda *call, to=logits: to.append(call[2][0]))
        with torch.no_grad():
            for batch in training._items_of(split).read(training._items_of(split).each()):
                probe(split, *training._inputs(batch), batch.others, 0)
        result = run(asked(task, root, tmp_path / f"{kind} run", model, cache=kind)).result
        assert result is not None and result.protocol["cache"]["kind"] == kind
        found[kind] = torch.cat(logits), weights(tmp_path / f"{kind} run"), result.metrics
    one, other = found["pooled"], found["frames"]
    torch.testing.assert_close(one[0], other[0], atol=2e-6, rtol=0)
    for name, value in one[1].items():
        torch.testing.assert_close(value, other[1][name], atol=1e-5, rtol=0)
    assert one[2]["test"]["acc"] == other[2]["test"]["acc"]


@pytest.mark.parametrize("layer", [None, -2])
def test_frames_are_the_upstreams(write_corpus: Write, tmp_path: Path, model, layer: int | None):
    """Guards each frame of each state against padding, other rows and other states."""
    root = write_corpus("fluent_commands")
    training = training_of(
        asked("fluent_commands", root, tmp_path / "run", model, cache="frames", layer=layer)
    )
    training.prepare("test")
    assert training.features.batched
    with torch.no_grad():
        for batch in training._items_of("test").read(training._evaluation_draws("test")):
            wavs, features = training._inputs(batch)
            for row, name in enumerate(batch.others[1]):
                (path,) = root.rglob(f"test/{name}.wav")
                wav = torch.from_numpy(read_audio(path))
                alone = training._upstream.module([wav])["hidden_states"]
                frames = round(len(wav) / 320)
                assert len(wavs[row]) == len(wav)
                assert len(features["hidden_states"]) == len(alone)
                for number, state in enumerate(alone):
                    if layer is None or number == len(alone) + layer:
                        kept = features["hidden_states"][number][row, :frames]
                        torch.testing.assert_close(kept, state[0, :frames], atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["pooled", "frames"])
def test_features_in_bf16_are_those_of_fp32(write_corpus: Write, tmp_path: Path, kind: str):
    """Guards what bf16 keeps, batches in it, and that a result names it. With 8 bits of mantissa a
    product is off by up to 0.4 per cent, a state after a few layers by 2 on average."""
    root, found = write_corpus("fluent_commands"), {}
    hubert = write_mini_hubert(tmp_path / "hubert")
    for precision in ("fp32", "bf16"):
        changes = f"runner.encoder_precision={precision}"
        request = ask("fluent_commands", root, tmp_path / precision, changes=changes)
        named = {"upstream": "hf_hubert_custom", "checkpoint": str(hubert), "cache": kind}
        training = training_of(replace(request, **named))
        training.prepare("test")
        assert training.features.batched
        assert training.features.about()["encoder_precision"] == precision
        names = training._names.recordings
        found[precision] = [training.features.folder.read(each.key) for each in names]
    for one, other in zip(found["fp32"], found["bf16"], strict=True):
        assert one.shape == other.shape and not torch.equal(one, other)
        for state, rounded in zip(one, other, strict=True):
            assert (state - rounded).abs().mean() < 0.02 * state.abs().mean()


@pytest.mark.parametrize("task", ["fluent_commands", "speech_commands", "libriphone"])
def test_a_recording_is_read_and_encoded_once(
    task: str, write_corpus: Write, tmp_path: Path, model, monkeypatch: pytest.MonkeyPatch
):
    """Guards the store between runs, seeds and learning rates, also of random crops."""
    root = write_corpus(task)
    first = run(asked(task, root, tmp_path / "one", model)).result
    without_reading(monkeypatch)
    again = run(asked(task, root, tmp_path / "two", model)).result
    assert first is not None and again is not None and first.metrics == again.metrics
    assert run(asked(task, root, tmp_path / "other", model, changes="optimizer.lr=0.5")).result


@pytest.mark.parametrize("task", ["speech_commands", "libriphone"])
def test_processes_that_read_ahead_change_nothing(
    task: str, write_corpus: Write, tmp_path: Path, model, monkeypatch: pytest.MonkeyPatch
):
    """Guards digests and features that come from other processes, and an error's one line."""
    root = write_corpus(task)
    alone = run(asked(task, root, tmp_path / "alone", model)).result
    shutil.rmtree(tmp_path / "cache")
    monkeypatch.setattr(features_module, "PATIENCE", -1.0)
    monkeypatch.setitem(features_module.BATCH, "cpu", 1)
    changes = "runner.num_workers=2"
    ahead = run(asked(task, root, tmp_path / "ahead", model, changes=changes)).result
    assert alone is not None and ahead is not None
    for split in ("dev", "test"):
        assert ahead.metrics[split] == pytest.approx(alone.metrics[split], abs=1e-5)
    shutil.rmtree(tmp_path / "cache")
    broken = sorted(root.rglob("*.flac" if task == "libriphone" else "z_nohash_0.wav"))[-1]
    broken.write_bytes(b"RIFFnothing")
    with pytest.raises(CorpusError, match=broken.name) as error:
        run(asked(task, root, tmp_path / "broken", model, changes=changes))
    assert "\n" not in str(error.value)


def test_a_changed_recording_is_encoded_again(write_corpus: Write, tmp_path: Path, model):
    """Guards against the features of a file that was replaced."""
    root = write_corpus("fluent_commands")
    files = sorted((root / "wavs" / "speakers" / "train").glob("*.wav"))
    one = training_of(asked("fluent_commands", root, tmp_path / "one", model))
    one.prepare("train")
    before = len(one.features.folder)
    files[0].write_bytes(files[1].read_bytes())
    soundfile.write(files[2], 0.1 * np.random.default_rng(0).standard_normal(8000), 16_000)
    two = training_of(asked("fluent_commands", root, tmp_path / "two", model))
    two.prepare("train")
    assert len(two.features.folder) == before + 1
    assert two._names.recordings[0].key == two._names.recordings[1].key


@pytest.mark.parametrize(
    ("task", "changes", "options", "kind"),
    [
        ("fluent_commands", "", {}, "pooled"),
        ("fluent_commands", "", {"normalize": True}, "frames"),
        ("fluent_commands", "", {"trainable": True}, "off"),
        ("fluent_commands", "", {"cache": "off"}, "off"),
        ("fluent_commands", "runner.cache=frames", {}, "frames"),
        (
            "fluent_commands",
            "downstream_expert.modelrc.UtteranceLevel.pooling=AttentivePooling",
            {},
            "frames",
        ),
        ("libriphone", "", {}, "frames"),
        ("libriphone", "runner.cache_gb=1e-6", {}, "off"),
    ],
)
def test_what_is_kept_is_what_the_head_needs(
    task: str, changes: str, options: dict, kind: str, write_corpus: Write, tmp_path: Path, model
):
    """Guards heads that need frames against means, and the disk against frames beyond a budget."""
    request = asked(task, write_corpus(task), tmp_path / "run", model, changes=changes, **options)
    training = training_of(request)
    training.prepare("train")
    assert training.features.kind == kind


def test_means_that_do_not_suffice_are_refused(write_corpus: Write, tmp_path: Path, model):
    request = asked(
        "libriphone", write_corpus("libriphone"), tmp_path / "run", model, cache="pooled"
    )
    with pytest.raises(ConfigError, match="--cache pooled: the head of libriphone reads frames"):
        run(request)


def test_a_run_keeps_its_kind(write_corpus: Write, tmp_path: Path, model):
    """Guards bit-exact resumption against another rounding of what a run began with."""
    request = asked(
        "fluent_commands",
        write_corpus("fluent_commands"),
        tmp_path / "run",
        model,
        steps=2,
        cache="frames",
    )
    run(request)
    longer = request.override.replace("total_steps=2", "total_steps=4")
    resumed = replace(request, override=longer, cache=None, auto_resume=True)
    result = run(resumed).result
    assert result is not None and result.protocol["cache"]["kind"] == "frames"
    with pytest.raises(ConfigError, match="was trained with 'frames'"):
        run(replace(resumed, cache="pooled"))


def test_training_draws_crops_from_a_few(write_corpus: Write, tmp_path: Path, model):
    """Guards the number of draws that a result states, and evaluation's own draws."""
    root = write_corpus("speech_commands")
    changes = "runner.cache_draws=3,,runner.total_steps=8"
    request = asked("speech_commands", root, tmp_path / "run", model, changes=changes)
    training = training_of(request)
    training.prepare("train")
    items = training._items_of("train")
    noise = [place for place, seed in items._drawn]
    assert len(noise) == 3 and len(set(noise)) == 1
    crops = [training._names.sources[n]() for n in range(len(training._names.recordings))]
    drawn = [crop for crop in crops if len(crop) == 16_000]
    assert len({crop.tobytes() for crop in drawn}) >= 3
    for crop in drawn:
        assert np.isfinite(crop).all() and crop.std() > 0
    result = run(request).result
    assert result is not None and result.protocol["cache"]["draws"].startswith("3 of each")


def test_with_crops_of_their_own_items_train_as_recordings_do(
    write_corpus: Write, tmp_path: Path, model, monkeypatch: pytest.MonkeyPatch
):
    """Guards the seeds, keys and order of crops: the few draws of training are all that differs."""
    root = write_corpus("speech_commands")
    changes = "downstream_expert.datarc.batch_size=16"
    run(asked("speech_commands", root, tmp_path / "off", model, changes=changes, cache="off"))
    each = Items._item
    monkeypatch.setattr(Items, "_item", lambda items, *draw: each(without_few(items), *draw))
    run(asked("speech_commands", root, tmp_path / "kept", model, changes=changes))
    one, other = weights(tmp_path / "off"), weights(tmp_path / "kept")
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], atol=1e-5, rtol=1e-4)


def without_few(items: Items) -> Items:
    items._draws = None
    return items


def test_a_sweep_trains_as_one_rate_after_another(write_corpus: Write, tmp_path: Path, model):
    """Guards each rate's weights against the others that read the same batches; SF has dropout."""
    root = write_corpus("snips")
    rates = (1e-2, 1e-3)
    request = asked("snips", root, tmp_path / "sweep", model)
    run(replace(request, sweep=rates))
    for rate in rates:
        run(asked("snips", root, tmp_path / f"{rate}", model, changes=f"optimizer.lr={rate}"))
        one, other = weights(tmp_path / "sweep" / f"lr-{rate:g}"), weights(tmp_path / f"{rate}")
        assert all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("task", ["libriphone", "snips"])
def test_evaluation_in_batches_moves_no_score(
    task: str, write_corpus: Write, tmp_path: Path, model, monkeypatch: pytest.MonkeyPatch
):
    """Guards metrics, losses and the order of transcripts against padding and sorting."""
    root = write_corpus(task)
    found = []
    for folder, together in (("alone", 0), ("together", 10**9)):
        monkeypatch.setattr(training_module, "TOGETHER", together)
        result = run(
            asked(task, root, tmp_path / folder, model, changes="optimizer.lr=0.02")
        ).result
        assert result is not None
        found.append((result.metrics, (tmp_path / folder / "test-hyp.ark").read_text()))
    for split in ("dev", "test"):
        assert found[0][0][split] == pytest.approx(found[1][0][split], abs=1e-5)
    assert found[0][1] == found[1][1]


class Padded(nn.Module):
    """Features that depend on what else is in the batch, unless they do not."""

    def __init__(self, leak: float) -> None:
        super().__init__()
        self.leak = leak

    def get_downsample_rates(self, key: str) -> int:
        return 320

    def forward(self, wavs: list[torch.Tensor]) -> dict[str, Any]:
        padded = nn.utils.rnn.pad_sequence(wavs, batch_first=True)
        padded = nn.functional.pad(padded, (0, -padded.shape[1] % 320))
        frames = padded.reshape(len(wavs), -1, 320)[..., :8]
        return {"hidden_states": [frames + self.leak * padded.shape[1]]}


@pytest.mark.parametrize(("leak", "batched"), [(0.0, True), (1e-6, False)])
def test_an_upstream_that_hangs_on_the_batch_encodes_one_at_a_time(
    write_corpus: Write, tmp_path: Path, leak: float, batched: bool
):
    """Guards features of others' upstreams against padding and neighbours."""
    root = write_corpus("libriphone")
    training = training_of(replace(ask("libriphone", root, tmp_path / "run"), cache="frames"))
    training.features.upstream = replace(training._upstream, module=Padded(leak))
    training.features.rate = 320
    training.prepare("train")
    assert training.features.batched is batched


def test_loaders_give_the_same_items_named_and_read(write_corpus: Write, tmp_path: Path, model):
    """Guards stand-ins: labels, names, order and lengths are those of a data set that reads."""
    for task in ("libriphone", "voxceleb1"):
        training = training_of(asked(task, write_corpus(task), tmp_path / task, model))
        draws = training._evaluation_draws("test")
        named = list(training._items_of("test").read(draws))
        training.features.kind = "off"
        training._items.clear()
        for one, other in zip(named, training._items_of("test").read(draws), strict=True):
            assert [len(wav) for wav in one.wavs] == [len(wav) for wav in other.wavs]
            assert str(one.others) == str(other.others)
            for stand_in, wav in zip(one.wavs, other.wavs, strict=True):
                number = training._names.number(stand_in)
                assert number is not None
                assert np.array_equal(training._names.sources[number](), wav)
                assert training._names.number(wav) is None


def test_an_unknown_feature_is_an_error(model):
    """Guards against s3prl's habit to take hidden_states instead."""
    upstream = load_upstream("speechclip_hybrid", str(model), None, CPU).module
    with pytest.raises(ConfigError, match="did you mean 'last_hidden_state'"):
        check_selection(upstream, "last_hidden_states", None, CPU)
    with pytest.raises(ConfigError, match="gives no frames"):
        check_selection(upstream, "parallel", None, CPU)
    assert check_selection(upstream, "hidden_states", None, CPU) == 4
    with pytest.raises(ConfigError, match="from -4 to 3"):
        check_selection(upstream, "hidden_states", 4, CPU)


def test_an_own_upstream_is_known_by_its_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Guards against stale features of a module that was edited, and has no weights to tell it."""
    monkeypatch.syspath_prepend(str(tmp_path))
    shipped = load_upstream("fbank_no_cmvn", None, None, CPU)
    assert features_module._own_code(shipped) == {}
    found = []
    for number in range(2):
        name = f"mine_{number}"
        code = f"import torch\nclass Mine(torch.nn.Module):\n    factor = {number}\n"
        (tmp_path / f"{name}.py").write_text(code, encoding="utf-8")
        own = replace(shipped, module=importlib.import_module(name).Mine(), digest=f"{number}")
        found.append(features_module._own_code(own))
        assert features_module._own_code(own) == found[-1]
    assert found[0]["own_code"] != found[1]["own_code"]
    assert found[0]["checkpoint"] != found[1]["checkpoint"]
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    for place in ("__nowhere__", "__main__"):  # typed into an interpreter or a notebook
        typed = type("Typed", (nn.Module,), {"__module__": place})()
        once, again = (features_module._own_code(replace(shipped, module=typed)) for _ in range(2))
        assert once != again, "what no file holds is computed anew"
