"""Hidden states on disk: what is written is read, whole or in crops of frames."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from s3prl_speechclip.data import feature_store
from s3prl_speechclip.data.__main__ import main
from s3prl_speechclip.data.batches import PairDataset, load_batches
from s3prl_speechclip.data.cache import CACHE_VARIABLE
from s3prl_speechclip.data.feature_store import (
    DATA,
    INDEX,
    LIMIT_VARIABLE,
    FeatureFolder,
    FeatureStore,
    KnownRecordings,
    collate_features,
    evict,
    frame_count,
    pad_at_once,
    stored,
)
from s3prl_speechclip.data.manifest import Manifest, Utterance
from s3prl_speechclip.errors import AudioError, CorpusError
from s3prl_speechclip.structures import HOP, SpeechFeatures

LAYERS, WIDTH = 3, 4
NO_GPU = not torch.cuda.is_available()
FRAMES = (5, 0, 9, 7)  # of four recordings; the second could not be read


def block(recording: int) -> torch.Tensor:
    """States whose values say which recording, layer, frame and place they are."""
    layer, frame, place = torch.meshgrid(
        torch.arange(LAYERS), torch.arange(FRAMES[recording]), torch.arange(WIDTH), indexing="ij"
    )
    return (1000 * recording + 100 * layer + 10 * frame + place).half()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def made(name: str = "one", precision: str = "float16") -> FeatureFolder:
    return FeatureFolder({"encoder": name}, precision)


@pytest.fixture
def folder() -> FeatureFolder:
    """Written in another order than that of the split."""
    folder = made()
    with folder.writer() as writer:
        for n in (2, 0, 3):
            writer.add(str(n), block(n))
    return folder


def split(folder: FeatureFolder) -> FeatureStore:
    return FeatureStore(folder, ["0", None, "2", "3"])


@pytest.fixture
def dataset(folder: FeatureFolder, tmp_path: Path) -> PairDataset:
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
    manifest = Manifest(corpus="made", root=tmp_path, utterances=tuple(utterances))
    limit = 400 + 5 * HOP  # the samples of six frames
    recordings = PairDataset(manifest, utterances, max_samples=limit, seed=3)
    return recordings.reading(split(folder))


def states_of(dataset: PairDataset, recording: int) -> torch.Tensor:
    """(layers, T, D) float32, as a batch holds them."""
    batch, _ = dataset.read([recording])
    assert batch is not None and isinstance(batch.speech, SpeechFeatures)
    return torch.stack([layer[0] for layer in batch.speech.hidden_states])


def test_each_recording_gets_its_own_states(folder: FeatureFolder) -> None:
    """Fault: the order of writing is taken for the order of the split."""
    store = split(folder)
    assert len(store) == len(FRAMES)
    for n in (0, 2, 3):
        found = store.read(n)
        assert found is not None and torch.equal(found, block(n))
    assert store.read(1) is None


@pytest.mark.parametrize(
    "device",
    ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(NO_GPU, reason="needs a GPU"))],
)
def test_a_copy_in_a_devices_memory_reads_the_same(
    folder: FeatureFolder, dataset: PairDataset, device: str
) -> None:
    """Fault: a store that was copied to a GPU gives another recording, or one it could not read."""
    store = split(folder).to(torch.device(device))
    assert store.size() == sum(2 * LAYERS * FRAMES[n] * WIDTH for n in (0, 2, 3))
    assert store.read(1) is None
    dataset.on_broken = "drop"
    copied, read = (
        [*load_batches(each, [[0, 1, 3], [2, 0]])] for each in (dataset.reading(store), dataset)
    )
    for one, other in zip(copied, read, strict=True):
        assert isinstance(one.speech, SpeechFeatures) and isinstance(other.speech, SpeechFeatures)
        assert one.indices.tolist() == other.indices.tolist()
        assert torch.equal(one.speech.lengths, other.speech.lengths)
        for a, b in zip(one.speech.hidden_states, other.speech.hidden_states, strict=True):
            assert a.device.type == device and torch.equal(a.cpu(), b.cpu())


def test_padding_at_once_is_padding_one_by_one() -> None:
    """Fault: what a GPU pads differs from what a CPU pads."""
    blocks = [block(0), block(2), block(3)]
    assert torch.equal(pad_at_once(blocks), torch.stack([*collate_features(blocks).hidden_states]))


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


@pytest.mark.parametrize("ending", [DATA, INDEX])
@pytest.mark.parametrize("damage", ["cut", "empty", "changed"])
def test_damage_is_an_error_of_one_line(folder: FeatureFolder, ending: str, damage: str) -> None:
    """Fault: training on what a full disk left over, or on values that were changed."""
    (path,) = folder.path.glob(f"*{ending}")
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    cut = content[: -24 if damage == "cut" else 0]
    path.write_bytes(content if damage == "changed" else cut)
    with pytest.raises(CorpusError, match="damaged") as caught:
        read = made()
        for n in (0, 2, 3):
            read.read(str(n))
    assert str(folder.path) in str(caught.value) and "\n" not in str(caught.value)


def test_processes_append_side_by_side(folder: FeatureFolder) -> None:
    """Fault: what another process appended is lost, or found only at the next start."""
    other = made()
    with folder.writer() as one, other.writer() as two:
        one.add("a", block(0))
        two.add("b", block(2))
    folder.refresh()
    other.refresh()
    for reader in (folder, other, made()):
        assert torch.equal(reader.read("a"), block(0)) and torch.equal(reader.read("b"), block(2))
        assert len(reader) == 5


def test_a_kill_leaves_nothing_half_made(cache: Path) -> None:
    """Fault: half a recording is read as a whole one."""
    program = (
        "import os, torch\n"
        "from s3prl_speechclip.data.feature_store import FeatureFolder\n"
        "folder = FeatureFolder({'encoder': 'one'}, 'float16')\n"
        "with folder.writer() as writer:\n"
        "    writer.add('a', torch.ones(3, 5, 4).half())\n"
        "    writer.publish()\n"
        "    writer.add('b', torch.ones(3, 5, 4).half())\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=False)
    folder = made()
    assert "a" in folder and "b" not in folder and len(folder) == 1


@pytest.mark.parametrize("room", [20_000, 500])  # bytes; less than one recording has
def test_a_full_disk_is_one_line_and_keeps_what_was_there(folder: FeatureFolder, room: int) -> None:
    """Fault: a traceback, or values of a recording that was not written whole, or none of it."""
    program = (
        "import resource, signal, torch\n"
        "from s3prl_speechclip.data.feature_store import FeatureFolder\n"
        "from s3prl_speechclip.errors import CorpusError\n"
        "folder = FeatureFolder({'encoder': 'one'}, 'float16')\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}))\n"
        "try:\n"
        "    with folder.writer() as writer:\n"
        "        for n in range(100):\n"
        "            writer.add(f'new {n}', torch.ones(3, 50, 4).half())\n"
        "except CorpusError as error:\n"
        "    print('one line:', error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.startswith("one line: cannot write") and not done.stderr, done.stderr
    assert len(made()) == 3 and torch.equal(made().read("2"), block(2))


def test_folders_differ_by_what_they_hold_and_how_precisely(folder: FeatureFolder) -> None:
    """Fault: features of another encoder, or rounded ones for exact ones."""
    paths = {made().path, made("two").path, made("one", "float32").path}
    assert len(paths) == 3 and folder.path in paths and not len(made("two"))
    with made("two", "float32").writer() as writer:
        writer.add("a", block(0).float() / 3)
    assert torch.equal(made("two", "float32").read("a"), block(0).float() / 3)


def test_what_was_not_used_for_longest_goes_first(
    folder: FeatureFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault: a disk that fills up; or features that vanish under a process that reads them."""
    for name in ("old", "new", "newest"):
        with made(name).writer() as writer:
            writer.add("a", block(2))
    for age, name in enumerate(("newest", "new", "old", "one")):
        lock = made(name).path / feature_store.LOCK_FILE
        os.utime(lock, (1e9 - age, 1e9 - age))
    gc.collect()  # folders that nobody holds are no longer in use
    sizes = [found.size for found in stored()]
    held = folder.path  # the oldest
    monkeypatch.setenv(LIMIT_VARIABLE, str((sum(sizes) - 1) / 1e9))
    evict()
    assert [found.about["encoder"] for found in stored()] == ["one", "new", "newest"]
    assert held.exists()
    monkeypatch.setenv(LIMIT_VARIABLE, "0")
    evict()
    assert [found.about["encoder"] for found in stored()] == ["one"]


def test_the_command_shows_and_clears(
    folder: FeatureFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    with made("two").writer() as writer:
        writer.add("a", block(2))
    names = [found.path.name for found in stored()]
    assert main(["cache"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in names) and "two, None, float16" in printed
    gc.collect()
    assert main(["cache", "--clear", "nothing"]) == 2
    assert main(["cache", "--clear", made("two").path.name]) == 0
    assert [found.about["encoder"] for found in stored()] == ["one"]
    assert main(["cache", "--all"]) == 2  # this process holds one
    assert "in use" in capsys.readouterr().err


def test_a_folder_of_another_user_is_not_read(
    folder: FeatureFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 12_345)
    if folder.path.stat().st_uid != 0:  # root's are trusted
        with pytest.raises(CorpusError, match="belongs to another user"):
            made()


def test_files_are_known_until_they_change(tmp_path: Path) -> None:
    """Fault: features of a file that was replaced; or a corpus that is read at every start."""
    path = tmp_path / "a.wav"
    path.write_bytes(b"one")
    known = KnownRecordings("reader")
    found = known.add(path, np.ones(500, np.float32), converted=True)
    known.save()
    again = KnownRecordings("reader").find(path)
    assert again == found and again.samples == 500 and again.converted
    assert KnownRecordings("another reader").find(path) is None
    path.write_bytes(b"changed")
    assert KnownRecordings("reader").find(path) is None
    assert found.key != known.add(path, np.zeros(500, np.float32)).key


def test_a_recording_has_the_frames_of_its_samples() -> None:
    """Fault: crops that are a frame longer or shorter than those of recordings."""
    assert [frame_count(n) for n in (1, 399, 400, 719, 720, 32_000)] == [1, 1, 1, 1, 2, 99]
