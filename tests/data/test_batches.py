"""Batches: what is read, in what order, and what becomes of recordings that cannot be read."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

from s3prl_speechclip.data.batches import (
    PairDataset,
    approximate_lengths,
    collate_speech,
    load_batches,
    read_ahead,
    unique_images,
)
from s3prl_speechclip.data.manifest import Manifest, Utterance, Word
from s3prl_speechclip.data.sampling import BucketBatchSampler, evaluation_batches, in_split_order
from s3prl_speechclip.errors import AudioError, ConfigError
from s3prl_speechclip.structures import WINDOW, PairBatch

RATE = 16_000  # Hz
COUNT = 6


def utterance(number: int, **changes: object) -> Utterance:
    fields: dict = {
        "utterance_id": f"u{number}",
        "audio": f"{number}.wav",
        "image": f"{number // 2}.png",
        "pair_id": 10 + number // 2,
        "text": f"caption {number}",
        "split": "train",
    }
    return Utterance(**(fields | changes))


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """Six recordings of three images; sample k of recording n is (1000 n + k) / 2**15."""
    for number in range(COUNT):
        samples = np.arange(1000 * number, 1000 * number + 500 + 100 * number, dtype=np.int16)
        soundfile.write(tmp_path / f"{number}.wav", samples, RATE)
    utterances = tuple(utterance(number) for number in range(COUNT))
    return Manifest(corpus="made", root=tmp_path, utterances=utterances)


def dataset(manifest: Manifest, **options: object) -> PairDataset:
    return PairDataset(manifest, manifest.utterances, **options)


def read(items: PairDataset, *indices: int) -> PairBatch:
    batch, _ = items.read(indices)
    assert batch is not None
    return batch


def speech_of(items: PairDataset, index: int) -> torch.Tensor:
    return read(items, index).speech.waveforms[0]


# --- word times ---


def test_words_move_with_the_crop(manifest: Manifest) -> None:
    """Fault: times count from the start of the file, and name other sounds than were said."""
    words = (Word("a", 0.0, 0.02), Word("b", 0.02, 0.06))
    timed = replace(manifest, utterances=(utterance(5, words=words),))
    whole = read(dataset(timed), 0).speech
    assert whole.words[0].tolist() == [[0, 320], [320, 960]]
    cropped = read(dataset(timed, max_samples=500), 0).speech
    start = round(float(cropped.waveforms[0, 0]) * 2**15) - 5000
    assert 0 < start <= 500
    moved = [[max(0, a - start), min(500, b - start)] for a, b in ((0, 320), (320, 960))]
    assert cropped.words[0].tolist() == [[a, b] for a, b in moved if b > 0]


def test_recordings_without_words_have_none(manifest: Manifest) -> None:
    """Fault: a recording without times takes those of its neighbour."""
    words = (Word("a", 0.0, 0.02),)
    mixed = replace(manifest, utterances=(utterance(0), utterance(1, words=words)))
    assert read(dataset(mixed), 0, 1).speech.words.tolist() == [[[0, 0]], [[0, 320]]]
    assert not read(dataset(mixed), 0).speech.words.numel()


# --- collating ---


def test_padding_is_zero_and_lengths_are_kept() -> None:
    """Fault: padding is what another recording left there."""
    batch = collate_speech([torch.ones(500), torch.ones(700)])
    assert batch.lengths.tolist() == [500, 700]
    assert batch.waveforms.shape == (2, 700)
    assert batch.waveforms.sum(dim=1).tolist() == [500, 700]


def test_short_recording_counts_as_one_frame() -> None:
    """Fault: a recording under one frame has no valid frame, and its mean is 0/0."""
    batch = collate_speech([torch.ones(3)])
    assert batch.lengths.tolist() == [WINDOW]
    assert batch.waveforms.shape == (1, WINDOW)
    assert batch.waveforms.sum() == 3


def test_batch_keeps_rows_together(manifest: Manifest) -> None:
    """Fault: a caption, image or identity belongs to another row."""
    items = dataset(manifest)
    assert items.image_paths == ("0.png", "1.png", "2.png")
    batch = read(items.reading(images=torch.tensor([[0.0], [1.0], [2.0]])), 5, 2)
    assert batch.indices.tolist() == [5, 2]
    assert batch.images.tolist() == [[2.0], [1.0]]
    assert batch.pair_ids.tolist() == [12, 11]
    assert batch.texts == ("caption 5", "caption 2")
    assert (batch.speech.waveforms[:, 0] * 2**15).tolist() == [5000, 2000]


def test_each_image_is_listed_once(manifest: Manifest) -> None:
    """Fault: the image encoder runs once a caption instead of once an image."""
    paths, indices = unique_images(manifest.utterances)
    assert paths == ("0.png", "1.png", "2.png")
    assert indices.tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"caption": "a dog"}, "a dog"),
        ({"caption": "a dog", "text": "ein Hund", "language": "de"}, "a dog"),
        ({"text": "ein Hund", "language": "de"}, ""),
        ({"text": "a dog", "language": "en_GB"}, "a dog"),
        ({"text": " a dog", "language": "en-GB"}, "a dog"),
    ],
)
def test_text_is_english_or_empty(manifest: Manifest, changes: dict, text: str) -> None:
    """Fault: an English text encoder is given German."""
    assert read(PairDataset(manifest, [utterance(0, **changes)]), 0).texts == (text,)


# --- cropping ---


def test_without_a_limit_recordings_are_whole(manifest: Manifest) -> None:
    """Fault: evaluation reads a part."""
    items = dataset(manifest)
    batch = read(items, *range(COUNT))
    assert batch.speech.lengths.tolist() == [500 + 100 * i for i in range(COUNT)]


def test_crop_is_a_part_of_the_recording(manifest: Manifest) -> None:
    """Fault: a crop wraps round, or has another length."""
    waveform = speech_of(dataset(manifest, max_samples=450), 5) * 2**15
    assert len(waveform) == 450
    assert (waveform.diff() == 1).all()
    assert waveform[0] >= 5000


def test_crops_repeat_with_seed_and_epoch(manifest: Manifest) -> None:
    """Fault: a resumed run reads other crops than the run that it resumes."""
    first, again = (dataset(manifest, max_samples=450, seed=3).at(7) for _ in range(2))
    assert all(torch.equal(speech_of(first, i), speech_of(again, i)) for i in range(COUNT))


@pytest.mark.parametrize("other", [{"seed": 4, "epoch": 7}, {"seed": 3, "epoch": 8}])
def test_crops_vary_with_seed_and_epoch(manifest: Manifest, other: dict) -> None:
    """Fault: every epoch reads the same part of long recordings."""
    first = dataset(manifest, max_samples=450, seed=3).at(7)
    second = dataset(manifest, max_samples=450, seed=other["seed"]).at(other["epoch"])
    assert any(speech_of(first, i)[0] != speech_of(second, i)[0] for i in range(COUNT))


# --- reading, with and without workers ---


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_in_the_order_asked(manifest: Manifest, workers: int) -> None:
    """Fault: workers overtake each other."""
    batches = [[4, 5], [0, 1], [2, 3]]
    found = list(load_batches(dataset(manifest), batches, workers))
    assert [batch.indices.tolist() for batch in found] == batches


def test_reading_ahead_keeps_order_and_errors(manifest: Manifest) -> None:
    """Fault: a batch is lost or overtaken, or an error stays in the thread that met it."""
    batches = [[4, 5], [0, 1], [2, 3]]
    found = list(read_ahead(load_batches(dataset(manifest), batches)))
    assert [batch.indices.tolist() for batch in found] == batches
    (manifest.root / "2.wav").write_bytes(b"not a recording")
    ahead = read_ahead(load_batches(dataset(manifest), batches))
    assert [next(ahead).indices.tolist() for _ in range(2)] == batches[:2]
    with pytest.raises(AudioError, match="2.wav"):
        next(ahead)


@pytest.mark.parametrize("workers", [0, 2])
def test_reading_leaves_the_global_generator_alone(manifest: Manifest, workers: int) -> None:
    """Fault: dropout after a resumption depends on how often a loader was made."""
    before = torch.get_rng_state()
    list(load_batches(dataset(manifest), [[0, 1]], workers))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_recording_is_named_on_one_line(manifest: Manifest, workers: int) -> None:
    """Fault: torch wraps the message of a worker in its traceback."""
    path = manifest.root / "3.wav"
    path.write_bytes(b"not a recording")
    with pytest.raises(AudioError) as error:
        list(load_batches(dataset(manifest), [[0, 1], [2, 3]], workers))
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_recording_is_replaced_and_counted(manifest, workers, caplog) -> None:
    """Fault: --skip-broken skips in silence, or makes a batch smaller on one process only."""
    for number in (3, 4):
        (manifest.root / f"{number}.wav").write_bytes(b"not a recording")
    items = dataset(manifest, on_broken="replace")
    with caplog.at_level(logging.WARNING):
        for epoch in range(2):
            (batch,) = load_batches(items.at(epoch), [[2, 3]], workers)
            assert batch.indices.tolist() == [2, 5]
    assert len(items.broken) == 2
    assert len(caplog.records) == 2


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_recording_is_dropped_from_evaluation(manifest: Manifest, workers: int) -> None:
    """Fault: a stand-in counts twice in retrieval."""
    for number in (0, 1, 3):
        (manifest.root / f"{number}.wav").write_bytes(b"not a recording")
    items = dataset(manifest, on_broken="drop")
    found = list(load_batches(items, [[0, 1], [2, 3]], workers))
    assert [batch.indices.tolist() for batch in found] == [[2]]
    assert len(items.broken) == 3


def test_last_recording_is_replaced_by_the_first(manifest: Manifest) -> None:
    """Fault: an IndexError at the end of the split."""
    (manifest.root / "5.wav").unlink()
    assert read(dataset(manifest, on_broken="replace"), 5).indices.tolist() == [0]


def test_nothing_sound_is_an_error(manifest: Manifest) -> None:
    """Fault: the search for a sound recording never ends."""
    for number in range(COUNT):
        (manifest.root / f"{number}.wav").unlink()
    with pytest.raises(AudioError, match="6 recordings in a row cannot be read"):
        read(dataset(manifest, on_broken="replace"), 0)


# --- lengths ---


def test_lengths_come_from_duration_file_size_or_header(manifest: Manifest) -> None:
    """Fault: buckets of arbitrary lengths, or a failure before the file's turn."""
    soundfile.write(manifest.root / "half.flac", np.zeros(22_050), 44_100)
    chosen = [
        utterance(0),
        utterance(1, duration=2.0),
        utterance(2, audio="half.flac"),
        utterance(3, audio="none.wav"),
        utterance(4, audio="none.ogg"),
    ]
    assert approximate_lengths(manifest, chosen).tolist() == [500, 32_000, 8_000, 0, 0]
    assert approximate_lengths(manifest, chosen, 900).tolist() == [500, 900, 900, 0, 0]


# --- order ---

worlds = st.integers(1, 4)
splits = st.tuples(
    st.lists(st.integers(400, 102_400), min_size=8, max_size=200),
    worlds,
    st.integers(1, 2),  # recordings of a batch per process
    st.integers(0, 5),  # seed
    st.integers(0, 3),  # epoch
)


def order(lengths, batch_size, seed, epoch, start=0, **share) -> list[list[int]]:
    return list(BucketBatchSampler(lengths, batch_size, seed, **share).batches(epoch, start))


@given(splits)
def test_no_recording_comes_twice_in_an_epoch(case) -> None:
    """Fault: some recordings weigh double, others nothing."""
    lengths, world, each, seed, epoch = case
    batches = order(lengths, world * each, seed, epoch)
    drawn = [index for batch in batches for index in batch]
    assert len(set(drawn)) == len(drawn)
    assert all(len(batch) == world * each for batch in batches)
    assert len(lengths) - len(drawn) < world * each


@given(splits)
def test_order_repeats_with_seed_and_epoch(case) -> None:
    """Fault: the order depends on what was drawn before."""
    lengths, world, each, seed, epoch = case
    sampler = BucketBatchSampler(lengths, world * each, seed)
    first = list(sampler.batches(epoch))
    list(sampler.batches(epoch + 1))
    assert list(sampler.batches(epoch)) == first == order(lengths, world * each, seed, epoch)
    assert len(first) == len(sampler)


@given(splits, st.integers(0, 50))
def test_resuming_gives_the_tail(case, start) -> None:
    """Fault: a resumed run sees recordings again, or passes some over."""
    lengths, world, each, seed, epoch = case
    whole = order(lengths, world * each, seed, epoch)
    assert order(lengths, world * each, seed, epoch, start) == whole[start:]


@given(splits)
def test_processes_share_what_one_would_see(case) -> None:
    """Fault: a run on several GPUs is another run than on one."""
    lengths, world, each, seed, epoch = case
    alone = order(lengths, world * each, seed, epoch)
    shares = [
        order(lengths, world * each, seed, epoch, rank=rank, world_size=world)
        for rank in range(world)
    ]
    for step, batch in enumerate(alone):
        parts = [share[step] for share in shares]
        assert {len(part) for part in parts} == {each}
        assert sorted(index for part in parts for index in part) == sorted(batch)


def test_epochs_and_seeds_differ() -> None:
    """Fault: every epoch has the same batches, against which the contrast is always the same."""
    lengths = list(range(400, 600))
    orders = [order(lengths, 10, seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert all(a != b for n, a in enumerate(orders) for b in orders[:n])


def test_little_is_padding() -> None:
    """Fault: a batch of one long and many short recordings spends its time on zeros."""
    lengths = np.random.default_rng(0).integers(8_000, 102_400, 5_000)
    batches = order(lengths, 32, 0, 0)
    padded = sum(max(lengths[batch]) * len(batch) for batch in batches)
    spoken = sum(lengths[batch].sum() for batch in batches)
    # Batches at random would pad by a factor of about 1.8 here; perfect order by none.
    assert padded / spoken < 1.05


def test_long_batches_are_spread_over_the_epoch() -> None:
    """Fault: an epoch goes from short to long, and the model drifts with it."""
    lengths = np.arange(2_000)
    means = [lengths[batch].mean() for batch in order(lengths, 20, 0, 0)]
    # Correlation of 100 shuffled means with their place is within 0.3 at 3 standard deviations.
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 11}, "data.batch_size is 11 but the training split has 10"),
        ({"batch_size": 0}, "at least 1"),
        ({"batch_size": 5, "seed": -1}, "seed must not be negative"),
        ({"batch_size": 5, "world_size": 2}, "multiple of the 2 processes"),
    ],
)
def test_impossible_batches_are_refused(options: dict, message: str) -> None:
    """Fault: an epoch of no batches, or processes that wait for each other for ever."""
    with pytest.raises(ConfigError, match=message) as error:
        BucketBatchSampler(range(10), **({"seed": 0} | options))
    assert "\n" not in str(error.value)


@given(st.lists(st.integers(0, 1_000), min_size=1, max_size=50), st.integers(1, 9))
def test_evaluation_covers_the_split_and_is_put_back(lengths, batch_size) -> None:
    """Fault: embeddings are scored against other recordings' images."""
    batches = evaluation_batches(lengths, batch_size)
    indices = torch.tensor([index for batch in batches for index in batch])
    rows, places = in_split_order(torch.tensor(lengths)[indices], indices)
    assert rows.tolist() == lengths
    assert places.tolist() == list(range(len(lengths)))
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert [lengths[i] for i in indices] == sorted(lengths, reverse=True)


def test_dropped_recordings_leave_their_places() -> None:
    """Fault: after a dropped recording all others move up by one."""
    rows, places = in_split_order(torch.tensor([30, 0, 10]), torch.tensor([3, 0, 1]))
    assert rows.tolist() == [0, 10, 30]
    assert places.tolist() == [0, 1, 3]


def test_evaluation_batch_must_hold_something() -> None:
    """Fault: a range with step 0."""
    with pytest.raises(ConfigError, match="at least 1"):
        evaluation_batches([1, 2], 0)
