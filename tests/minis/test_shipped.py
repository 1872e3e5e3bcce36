"""The models that the package ships."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest
import torch

from s3prl_speechclip.checkpoints.locate import locate_model
from s3prl_speechclip.checkpoints.native import WEIGHTS_FILE, read_checkpoint
from s3prl_speechclip.hashing import file_hash
from s3prl_speechclip.minis.synthesis import fetch_libraries, read_aloud
from s3prl_speechclip.minis.synthesis.voices import VOICES
from s3prl_speechclip.minis.training.recipe import CARD
from s3prl_speechclip.model.config import VARIANTS
from s3prl_speechclip.model.speechclip import SpeechClip
from s3prl_speechclip.results import read_result

SHIPPED = Path(str(resources.files("s3prl_speechclip") / "assets" / "mini"))
LIMIT = 40 * 2**20  # bytes, all of them


def test_they_fit_in_a_package():
    """Guards the wheel's size, and against encoders that are copied into every model."""
    files = [path for path in SHIPPED.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= LIMIT


@pytest.mark.parametrize("name", ["hubert", "clip", *VARIANTS])
def test_each_has_a_card(name):
    """Guards against weights that nobody can tell the origin of."""
    card = (SHIPPED / name / CARD).read_text(encoding="utf-8")
    assert "license: gpl-2.0" in card
    assert "recall" in card or "Scores" in card


@pytest.mark.parametrize("name", VARIANTS)
def test_a_card_has_the_recall_of_what_ships(name, root: Path):
    """Guards cards against the figures of other weights, such as those before rounding."""
    card = (SHIPPED / name / CARD).read_text(encoding="utf-8")
    result = read_result(root / "benchmarks" / "results" / "stamps" / f"retrieval-{name}.json")
    for split, found in result.metrics.items():
        for embedding in found.keys() & {"parallel", "cascaded"}:
            recall = found[embedding]["mean"]["recall@10"]
            assert f"| {split}, {embedding}, recall@10 | {recall:.1f} % |" in card


@pytest.mark.parametrize("name", VARIANTS)
def test_a_name_without_a_run_means_the_shipped_model(name, tmp_path):
    """Guards a first user's `-u NAME`: the model is found, loads on the shipped encoders, and
    embeds speech."""
    located = locate_model(name, results=tmp_path)
    model = SpeechClip.from_pretrained(located.source)
    assert set(read_checkpoint(Path(located.source)).encoders) == {"speech_encoder", "clip"}
    reading = read_aloud("a red bird", VOICES["flite-kal16"], fetch_libraries())
    waveform = torch.from_numpy(reading.samples.astype("float32") / 32768)
    output = model.encode_speech([waveform, waveform[:8000]])
    for vectors in output.embeddings.values():
        assert torch.allclose(vectors.norm(dim=1), torch.ones(2), atol=1e-4)
    assert (output.keywords is None) == (VARIANTS[name].keywords is None)


def test_committed_results_are_of_the_weights_that_ship(root: Path):
    """Guards documents and leaderboard against figures of weights that were exchanged since."""
    results = [read_result(path) for path in (root / "benchmarks" / "results").rglob("*.json")]
    shipped = [result for result in results if "assets/mini" in result.checkpoint]
    assert len(shipped) > 30
    for result in shipped:
        weights = root / result.checkpoint / WEIGHTS_FILE
        assert result.checkpoint_hash == file_hash(weights), (result.task, result.system)
