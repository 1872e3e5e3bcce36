"""Hidden states on disk: what is written is read, whole or in crops of frames."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from s3prl_speechclip.data.batches import PairDataset, load_batches
from s3prl_speechclip.data.feature_store import (
    ABOUT_FILE,
    INDEX_FILE,
    STATES_FILE,
    FeatureStore,
    collate_features,
    frame_count,
    write_features,
)
from s3prl_speechclip.data.manifest import Manifest, Utterance
from s3prl_speechclip.errors import AudioError, CorpusError
from s3prl_speechclip.structures import HOP, SpeechFeatures

LAYERS, WIDTH = 3, 4
FRAMES = (5, 0, 9, 7)  # of four recordings; the second could not be read


def block(recording: int) -> torch.Tensor:
    """States whose values say which recording, layer, frame and place they are."""
    layer, frame, place = torch.meshgrid(
        torch.arange(LAYERS), torch.arange(FRAMES[recording]), torch.arange(WIDTH), indexing="ij"
    )
    return (1000 * recording + 100 * layer + 10 * frame + place).half()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Written in another order than that of the split."""
    write_features(tmp_path, len(FRAMES), ((n, block(n)) for n in (2, 0, 3)))
    return tmp_path


@pytest.fixture
def dataset(folder: Path) -> PairDataset:
    utterances = [
        Utterance(
            utterance_id=str(n),
            audio=f"{n}.wav",
            image="one.png",
            pair_id=0,
            text="",
            split="train",
        )
        for n in range(len(FRAMES))
    ]
    manifest = Manifest(corpus="made", root=folder, utterances=tuple(utterances))
    limit = 400 + 5 * HOP  # the samples of six frames
    made = PairDataset(manifest, utterances, max_samples=limit, seed=3)
    return made.reading(FeatureStore(folder))


def states_of(dataset: PairDataset, recording: int) -> torch.Tensor:
    """(layers, T, D) float32, as a batch holds them."""
    batch, _ = dataset.read([recording])
    assert batch is not None and isinstance(batch.speech, SpeechFeatures)
    return torch.stack([layer[0] for layer in batch.speech.hidden_states])


def test_each_recording_gets_its_own_states(folder: Path) -> None:
    """Fault: the order of writing is taken for the order of the split."""
    store = FeatureStore(folder)
    assert len(store) == len(FRAMES)
    for n in (0, 2, 3):
        found = store.read(n)
        assert found is not None and torch.equal(found, block(n))
    assert store.read(1) is None


def test_padding_is_zero_and_lengths_are_frames() -> None:
    """Fault: padding holds what memory held before, perhaps NaN."""
    batch = collate_features([block(0), block(2)])
    assert batch.lengths.tolist() == [5, 9]
    assert len(batch.hidden_states) == LAYERS
    for layer, states in enumerate(batch.hidden_states):
        assert states.shape == (2, 9, WIDTH) and states.dtype == torch.float32
        assert torch.equal(states[0, :5], block(0)[layer].float())
        assert not states[0, 5:].any()


def test_crops_are_of_frames_and_a_function_of_seed_epoch_and_index(dataset: PairDataset) -> None:
    """Fault: a crop that resuming does not find again, or that layers do not share."""
    assert frame_count(400 + 5 * HOP) == 6
    starts = set()
    for epoch in range(20):
        cropped = states_of(dataset.at(epoch), 2)
        assert torch.equal(cropped, states_of(dataset.at(epoch), 2))
        start = round(float(cropped[0, 0, 0] - 2000) / 10)
        assert torch.equal(cropped, block(2)[:, start : start + 6].float())
        starts.add(start)
    assert starts == {0, 1, 2, 3}
    assert torch.equal(states_of(dataset, 0), block(0).float())


def test_a_recording_that_could_not_be_read_is_named_dropped_or_replaced(
    dataset: PairDataset,
) -> None:
    """Fault: a recording without frames is trained on as silence."""
    with pytest.raises(AudioError, match=r"1\.wav"):
        dataset.read([1])
    dataset.on_broken = "replace"
    replaced, _ = dataset.read([1])
    assert replaced is not None and replaced.indices.tolist() == [2]
    dataset.on_broken = "drop"
    (batch,) = load_batches(dataset, [[0, 1, 3]])
    assert isinstance(batch.speech, SpeechFeatures)
    assert batch.indices.tolist() == [0, 3]


def test_a_batch_of_features_has_one_row_a_recording(dataset: PairDataset) -> None:
    """Fault: states are taken for a waveform."""
    batch, _ = dataset.read([3, 0])
    assert batch is not None and isinstance(batch.speech, SpeechFeatures)
    assert batch.speech.lengths.tolist() == [6, 5]


@pytest.mark.parametrize("name", [ABOUT_FILE, INDEX_FILE, STATES_FILE])
@pytest.mark.parametrize("damage", ["missing", "cut", "empty"])
def test_a_damaged_cache_is_an_error_of_one_line(folder: Path, name: str, damage: str) -> None:
    """Fault: training on what a full disk left over."""
    path = folder / name
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: -24 if damage == "cut" else 0])
    with pytest.raises(CorpusError, match="damaged") as caught:
        FeatureStore(folder)
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [INDEX_FILE, STATES_FILE])
def test_a_changed_value_is_an_error_of_one_line(folder: Path, name: str) -> None:
    """Fault: training on values that were changed, with sizes that fit."""
    content = bytearray((folder / name).read_bytes())
    content[-3] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(CorpusError, match="damaged") as caught:
        FeatureStore(folder)
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


def test_a_recording_has_the_frames_of_its_samples() -> None:
    """Fault: crops that are a frame longer or shorter than those of recordings."""
    assert [frame_count(n) for n in (1, 399, 400, 719, 720, 32_000)] == [1, 1, 1, 1, 2, 99]
