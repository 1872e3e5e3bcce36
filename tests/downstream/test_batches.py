"""Batches as a function of seed, epoch and position."""

from __future__ import annotations

import random
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler

from s3prl_speechclip.data.audio import read_audio
from s3prl_speechclip.data.feature_store import recording_key
from s3prl_speechclip.downstream import recordings
from s3prl_speechclip.downstream.batches import (
    Batch,
    Items,
    evaluation_batches,
    training_batches,
)
from s3prl_speechclip.downstream.recordings import Naming
from s3prl_speechclip.errors import CorpusError
from s3prl_speechclip.runtime.randomness import own_randomness


class Crops(Dataset[Any]):
    """Recordings whose first sample is their index, and whose second is drawn."""

    def __init__(self, count: int, length: int = 400) -> None:
        self.count, self.length = count, length

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[np.ndarray, int, str]:
        wav = np.zeros(self.length, dtype=np.float32)
        wav[0], wav[1] = index, random.random()
        return wav, index, f"name{index}"


class Buckets(Crops):
    """Items of three recordings each."""

    def __getitem__(self, index: int) -> Any:
        return [Crops.__getitem__(self, index + n) for n in range(3)]


def collate(items: list[Any]) -> Any:
    return zip(*(items[0] if isinstance(items[0], list) else items), strict=True)


def loader(data: Dataset[Any], size: int = 4, **options: Any) -> DataLoader[Any]:
    return DataLoader(data, batch_size=size, collate_fn=collate, **options)


def batches(source: DataLoader[Any], count: int, position: int = 0, **options: Any) -> list[Batch]:
    read = training_batches(Items(source, "train split"), 3, position, **options)
    return list(islice(read, count))


def drawn(batch: Batch) -> list[tuple[float, float]]:
    return [(float(wav[0]), float(wav[1])) for wav in batch.wavs]


@pytest.mark.parametrize("position", [1, 3, 4, 7])
def test_batches_go_on_from_anywhere(position):
    """Guards resuming: the order, the epoch's end, and random crops."""
    source = loader(Crops(14), shuffle=True)  # 4 batches to an epoch
    whole = [drawn(batch) for batch in batches(source, 10)]
    rest = [drawn(batch) for batch in batches(source, 10 - position, position)]
    assert rest == whole[position:]


def test_weighted_draws_go_on_too():
    weights = WeightedRandomSampler([1.0, 5.0, 1.0, 1.0, 3.0, 1.0], 6)
    source = loader(Crops(6), size=2, sampler=weights)
    whole = [drawn(batch) for batch in batches(source, 7)]
    assert [drawn(batch) for batch in batches(source, 4, 3)] == whole[3:]


def test_epochs_differ():
    source = loader(Crops(12), shuffle=True)
    read = [drawn(batch) for batch in batches(source, 6)]
    assert read[:3] != read[3:]
    assert sorted(i for batch in read[:3] for i, _ in batch) == list(range(12))


def test_workers_change_nothing():
    """Guards against random numbers of reading that belong to a worker."""
    source = loader(Crops(8), shuffle=True)
    alone, two = batches(source, 3, workers=0), batches(source, 3, workers=2)
    assert [drawn(batch) for batch in alone] == [drawn(batch) for batch in two]


@pytest.mark.parametrize("data", [Crops(11), Buckets(9)])
def test_processes_see_between_them_what_one_would(data):
    """Guards the batch size, and the weight of shares that are not alike or empty."""
    size = 1 if isinstance(data, Buckets) else 4
    source = loader(data, size=size, shuffle=True)
    alone = batches(source, 6)
    shares = [batches(source, 6, rank=rank, world_size=4) for rank in range(4)]
    for batch, *parts in zip(alone, *shares, strict=True):
        counted = [wav for part in parts if part.weight for wav in drawn(part)]
        assert sorted(counted) == sorted(drawn(batch))
        assert sum(part.weight for part in parts) == pytest.approx(4)
        mean = sum(part.weight * np.mean([i for i, _ in drawn(part)]) for part in parts) / 4
        assert mean == pytest.approx(np.mean([i for i, _ in drawn(batch)]))
        for part in parts:
            assert [f"name{int(i)}" for i, _ in drawn(part)] == list(part.others[1])


def test_the_callers_random_numbers_stay():
    torch.manual_seed(5)
    before = random.getstate(), torch.get_rng_state()
    with own_randomness(1):
        torch.rand(3), random.random()
    batches(loader(Crops(8), shuffle=True), 1, workers=0)
    assert random.getstate() == before[0]


def test_evaluation_reads_the_loaders_order():
    source = loader(Crops(7))
    read = evaluation_batches(source, "dev split", seed=0)
    assert [i for batch in read for i, _ in drawn(batch)] == list(range(7))


@pytest.mark.parametrize("workers", [0, 1])
def test_what_cannot_be_read_is_one_line(workers):
    """Guards against a worker's traceback, which names this project's code and no recording."""

    class Broken(Crops):
        def __getitem__(self, index: int) -> tuple[np.ndarray, int, str]:
            raise OSError(f"cannot open '{index}.wav'\nfor a reason")

    with pytest.raises(CorpusError, match=r"item \d: OSError: cannot open '\d.wav' for a reason"):
        batches(loader(Broken(4)), 1, workers=workers)


@pytest.mark.parametrize("length", [0, 100])
def test_a_recording_too_short_for_a_frame_is_an_error(length):
    """Guards against features of no frames, whose mean is not a number."""

    class Short(Crops):
        def __getitem__(self, index: int) -> tuple[np.ndarray, int, str]:
            return np.zeros(length, dtype=np.float32), index, "name"

    with pytest.raises(CorpusError, match=f"{length} samples"):
        batches(loader(Short(4)), 1, workers=0)


def test_samples_that_are_no_numbers_are_an_error():
    class NotNumbers(Crops):
        def __getitem__(self, index: int) -> tuple[np.ndarray, int, str]:
            return np.full(400, np.nan, dtype=np.float32), index, "name"

    with pytest.raises(CorpusError, match="each a number"):
        batches(loader(NotNumbers(4)), 1, workers=0)


def test_a_split_smaller_than_its_batch_is_an_error():
    """Guards against a run that waits for ever for its first batch."""
    with pytest.raises(CorpusError, match="lower the batch size"):
        batches(loader(Crops(3), drop_last=True), 1)


class Louder(Dataset[Any]):
    """Recordings that the data set computes with after reading them."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[np.ndarray, str]:
        return 2 * recordings._read(self.paths[index])[0], f"name{index}"


def test_a_recording_that_a_data_set_computes_is_known_by_its_samples(tmp_path: Path):
    """Guards against a key made of a stand-in's value: other corpora have the same numbers."""
    kept = {}
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
        paths = [tmp_path / folder / f"{k}.wav" for k in range(2)]
        for path in paths:
            noise = np.random.default_rng([ord(folder[0]), ord(folder[1]), int(path.stem)])
            soundfile.write(path, 0.1 * noise.standard_normal(4_000), 16_000)
        names = Naming()
        items = Items(loader(Louder(paths)), "train split", names)
        (batch,) = items.read([[(0, (0,)), (1, (0,))]])
        numbers = [names.number(wav) for wav in batch.wavs]
        for number, path in zip(numbers, paths, strict=True):
            samples = 2 * read_audio(path)
            assert names.recordings[number].key == recording_key(samples)
            assert np.array_equal(names.sources[number](), samples)
        kept[folder] = {names.recordings[number].key for number in numbers}
    assert len(kept["one"] | kept["other"]) == 4
