"""The models in mteb: its own mock tasks, and the figures of a task over `stamps`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import soundfile
from small_models import small_model

pytest.importorskip("mteb", reason="mteb needs Python 3.11")
import mteb
from datasets import Dataset, Image
from mteb import AbsTask, ResultCache, TaskMetadata
from mteb.abstasks.retrieval import AbsTaskRetrieval

from s3prl_speechclip import evaluate
from s3prl_speechclip.benchmarks.leaderboard import check
from s3prl_speechclip.benchmarks.leaderboard.figures import gather
from s3prl_speechclip.checkpoints.released import RELEASED
from s3prl_speechclip.data.corpora import load_corpus
from s3prl_speechclip.data.manifest import Manifest, Utterance
from s3prl_speechclip.errors import ConfigError, ResultError
from s3prl_speechclip.model.config import VARIANTS
from s3prl_speechclip.mteb import MINI, SpeechClipEncoder

SPLIT = "test_image"
KS = (1, 5, 10)
DIRECTIONS = {"A2I": "speech_to_image", "I2A": "image_to_speech"}
PASSED = """
import logging, mteb, s3prl_speechclip.mteb
from mteb.mocks.mock_run import get_compatible_mock_tasks
from mteb.results.task_result import TaskResult
logging.disable(logging.WARNING)
first, *others = {names!r}
run = mteb.mock_run(mteb.get_model(first, device="cpu"))
compatible = {{name: status for name, status in run.items() if status is not None}}
failed = {{n: s.exception for n, s in compatible.items() if not isinstance(s, TaskResult)}}
assert not failed, failed
for name in others:
    model = mteb.get_model(name, device="cpu")
    spoken = [t for t in get_compatible_mock_tasks(model) if "audio" in t.metadata.modalities]
    done = mteb.evaluate(model, spoken, cache=None, show_progress_bar=False)
    assert spoken and len(done.task_results) == len(spoken)
print(*[row[0] for row in run.modality_summary()], sep="|")
"""


@pytest.fixture(scope="module")
def ffmpeg(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment in which torchcodec, mteb's reader of audio, finds PyAV's FFmpeg."""
    libraries = Path(str(metadata.distribution("av").locate_file("av.libs")))
    folder = tmp_path_factory.mktemp("ffmpeg")
    for path in libraries.iterdir():
        if name := re.fullmatch(r"(\w+)-[0-9a-f]+(\.so\.\d+)[\d.]*", path.name):
            (folder / f"{name[1]}{name[2]}").symlink_to(path)
    return {**os.environ, "LD_LIBRARY_PATH": f"{folder}:{libraries}", "HF_HUB_OFFLINE": "1"}


def test_mtebs_own_mock_run_passes(root: Path, ffmpeg: dict[str, str], tmp_path: Path) -> None:
    """Guards the documented lines, and the protocol: no mock task of audio, images, text fails.

    All of them on one shipped model, those of audio on the others.
    """
    page = (root / "docs" / "mteb.md").read_text(encoding="utf-8")
    documented = re.search(r"```python\n(.*?)```", page, re.DOTALL)[1]
    names = [MINI.format(name) for name in VARIANTS]
    done = subprocess.run(
        [sys.executable, "-c", documented + PASSED.format(names=names)],
        cwd=tmp_path,
        env=ffmpeg,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    text, image, audio, video = done.stdout.splitlines()[-1].split("|")
    assert all(row.startswith("✓") for row in (text, image, audio)), done.stdout
    assert video == "skipped"


@pytest.fixture(scope="module")
def stamps() -> Manifest:
    """Thirty images of unseen stamps, four recordings each."""
    manifest = load_corpus("stamps")
    by_pair: dict[int, list[Utterance]] = {}
    for u in manifest.split(SPLIT):
        by_pair.setdefault(u.pair_id, []).append(u)
    kept = [u for pair in sorted(by_pair)[:30] for u in by_pair[pair][:4]]
    return replace(manifest, utterances=tuple(kept))


def task_over(manifest: Manifest, way: str) -> AbsTask:
    """Return a task of mteb over a split, in one direction."""
    utterances = manifest.split(SPLIT)
    images = {str(u.pair_id): u.image for u in reversed(utterances)}
    sounds = [soundfile.read(manifest.path(u.audio), dtype="float32") for u in utterances]
    speech = Dataset.from_list(
        [
            {"id": u.utterance_id, "audio": {"array": samples.T, "sampling_rate": rate}}
            for u, (samples, rate) in zip(utterances, sounds, strict=True)
        ]
    )
    pictures = Dataset.from_list(
        [{"id": pair, "image": str(manifest.path(image))} for pair, image in images.items()]
    ).cast_column("image", Image())
    answers: dict[str, dict[str, int]] = {}
    for u in utterances:
        query, right = (u.utterance_id, str(u.pair_id))[:: 1 if way == "A2I" else -1]
        answers.setdefault(query, {})[right] = 1
    queries, corpus = (speech, pictures)[:: 1 if way == "A2I" else -1]

    class Stamps(AbsTaskRetrieval):
        metadata = TaskMetadata(
            name=f"Stamps{way}Retrieval",
            description="Drawings and what people and voices say of them.",
            dataset={"path": "local/stamps", "revision": "1"},
            type="Any2AnyRetrieval",
            category=way.lower(),
            modalities=["audio", "image"],
            eval_splits=[SPLIT],
            eval_langs=["eng-Latn"],
            main_score="hit_rate_at_10",
        )

        def load_data(self, *args: Any, **options: Any) -> None:
            parts = {"queries": queries, "corpus": corpus, "relevant_docs": answers}
            self.dataset = {"default": {SPLIT: {**parts, "top_ranked": None}}}
            self.data_loaded = True

    return Stamps()


@pytest.mark.parametrize("embedding", ["parallel", "sum"])
def test_figures_are_those_of_the_retrieval_benchmark(
    embedding: str, stamps: Manifest, tmp_path: Path
) -> None:
    """Guards preparation, embedding and metric, both ways, to mteb's five digits; and the board."""
    name = MINI.format("speechclip_hybrid")
    model = mteb.get_model(name, device="cpu", embedding=embedding)
    tasks = [task_over(stamps, way) for way in DIRECTIONS]
    found = mteb.evaluate(model, tasks, cache=ResultCache(tmp_path), show_progress_bar=False)
    expected = evaluate("speechclip_hybrid", "retrieval", corpus=stamps, split=SPLIT, device="cpu")
    recall = expected.metrics[SPLIT][embedding]
    for result, direction in zip(found.task_results, DIRECTIONS.values(), strict=True):
        (scores,) = result.scores[SPLIT]
        for k in KS:
            rounded = recall[direction][f"recall@{k}"] / 100
            assert scores[f"hit_rate_at_{k}"] == pytest.approx(rounded, abs=2e-5), (direction, k)
    (scores,) = found.task_results[1].scores[SPLIT]
    assert scores["recall_at_10"] < scores["hit_rate_at_10"]

    files = sorted((tmp_path / "results").rglob("Stamps*.json"))
    assert len(files) == 2
    for path in files:
        check(path)
    figures = gather([tmp_path], tmp_path).figures
    own = figures[figures.source.isin([path.name for path in files])]
    assert set(own.system) == {"speechclip_hybrid"} and set(own["size"]) == {"mini"}
    assert set(own.part) == {"mini"} and set(own.detail) == {embedding}
    assert own.groupby("run").ngroups == 1
    shown = dict(zip(own.column, own.value, strict=True))
    assert shown["S2I R@10"] == pytest.approx(recall["speech_to_image"]["recall@10"], abs=2e-3)
    assert shown["I2S R@1"] == pytest.approx(recall["image_to_speech"]["recall@1"], abs=2e-3)
    (tmp_path / "lost.json").write_text(files[0].read_text())
    with pytest.raises(ResultError, match=r"model_meta\.json"):
        check(tmp_path / "lost.json")


def test_every_model_is_declared() -> None:
    """Guards licences, and what mteb must not call zero-shot."""
    for name, released in RELEASED.items():
        meta = mteb.get_model_meta(name)
        seen = "FlickrAudioToImageRetrieval"
        unseen = "SpokenCOCOI2ARetrieval"
        if "/coco/" in released.file:
            seen, unseen = unseen, seen
        assert meta.is_zero_shot_on([seen]) is False and meta.is_zero_shot_on([unseen])
        assert set(meta.modalities) == {"audio", "image", "text"} and meta.license
    declared = {
        task for meta in map(mteb.get_model_meta, RELEASED) for task in meta.training_datasets
    }
    assert {task.metadata.name for task in mteb.get_tasks(tasks=sorted(declared))} == declared
    for variant in VARIANTS:
        model = mteb.get_model(MINI.format(variant), device="cpu")
        assert model.mteb_model_meta.embed_dim == model.model.clip.joint_width
        assert model.mteb_model_meta.is_zero_shot_on(sorted(declared))


def test_a_model_of_ones_own_has_its_name_and_hash(tmp_path: Path) -> None:
    small_model("speechclip_parallel").save_pretrained(tmp_path / "mine")
    encoder = SpeechClipEncoder(str(tmp_path / "mine"), device="cpu")
    assert encoder.mteb_model_meta.name == "own/mine"
    assert re.fullmatch("[0-9a-f]{12}", encoder.mteb_model_meta.revision)
    with pytest.raises(ConfigError, match="cascaded"):
        SpeechClipEncoder(str(tmp_path / "mine"), embedding="cascaded")
