"""The mini sets: whole, in the official layouts, read by s3prl's own experts, without leaks."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from s3prl_speechclip.downstream import compat
from s3prl_speechclip.errors import ConfigError, CorpusError
from s3prl_speechclip.minis import DESCRIPTION, MiniSet, making, mini_set, sources
from s3prl_speechclip.minis.making import Saying, record
from s3prl_speechclip.minis.sets import (
    fluent_commands,
    libriphone,
    quesst14_dtw,
    snips,
    speech_commands,
)
from s3prl_speechclip.minis.synthesis.voices import SPEAKERS, SPLITS

FEW = {"train": ("Alex", "Linda"), "valid": ("F4",), "test": ("Paul",)}
VOCABULARY = set("ABCDEFGHIJKLMNOPQRSTUVWXYZ'")


@pytest.fixture(scope="session", autouse=True)
def s3prl_runs() -> None:
    compat.apply()


@pytest.fixture
def small(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, in which a set of a few recordings is made without any download."""
    monkeypatch.setattr(making, "fetch_libraries", lambda archive: ())
    monkeypatch.setattr(fluent_commands, "SIZES", {"train": 8, "valid": 2, "test": 3})
    monkeypatch.setattr(fluent_commands, "SPLITS", FEW)
    return empty_cache


def counts(made: MiniSet) -> dict[str, int]:
    """Recordings by part, as the set says."""
    return json.loads((made.root / DESCRIPTION).read_text(encoding="utf-8"))["counts"]


def transcripts(root: Path) -> dict[str, dict[str, str]]:
    """Text by utterance by split."""
    return {
        split.name: {
            name: text
            for path in split.rglob("*.trans.txt")
            for name, _, text in (line.partition(" ") for line in path.read_text().splitlines())
        }
        for split in sorted(root.iterdir())
        if split.is_dir()
    }


def assert_disjoint(*sets: set[str]) -> None:
    assert len(set.union(*sets)) == sum(map(len, sets))


def test_a_set_is_made_once_and_the_same_in_every_cache(
    small: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    """Guards against a set that is made at each use or in silence, and an unseeded choice."""
    with caplog.at_level("INFO"):
        made = mini_set("fluent_commands")
    assert caplog.messages[-1].startswith("fluent_commands: made in ")
    files = [path.relative_to(made.root) for path in made.root.rglob("*") if path.is_file()]
    assert len(files) == sum(counts(made).values()) + 4 == 17
    stamp = (made.root / files[0]).stat().st_mtime_ns
    assert mini_set("fluent_commands") == made
    assert (made.root / files[0]).stat().st_mtime_ns == stamp
    monkeypatch.setenv("S3PRL_SPEECHCLIP_CACHE", str(tmp_path / "other"))
    other = mini_set("fluent_commands").root
    assert other != made.root
    assert all((made.root / f).read_bytes() == (other / f).read_bytes() for f in files)


def test_an_unknown_or_half_set_is_named(small: Path):
    """Guards against a traceback where a user mistypes a name, removes or damages a file."""
    with pytest.raises(ConfigError, match="unknown mini set 'snip'; did you mean 'snips'"):
        mini_set("snip")
    root = mini_set("fluent_commands").root
    (root / DESCRIPTION).write_text("{", encoding="utf-8")
    with pytest.raises(CorpusError, match="no whole mini set; remove the folder"):
        mini_set("fluent_commands")


def test_no_speakers_name_begins_another():
    """Guards s3prl's SNIPS reader, which takes a file whose name begins with a speaker's."""
    assert not [(a, b) for a in SPEAKERS for b in SPEAKERS if a != b and b.startswith(a)]
    assert all(name.isalnum() for name in SPEAKERS)
    assert not set(SPLITS["valid"]) & set(SPLITS["test"])
    assert sorted(name for names in SPLITS.values() for name in names) == sorted(SPEAKERS)


def test_speakers_sound_different(tmp_path: Path):
    """Guards against a variant that espeak-ng does not know and replaces silently."""
    sayings = {f"{name}.wav": Saying(v, "A red apple.") for name, v in SPEAKERS.items()}
    made = record(sayings, tmp_path, None).values()
    assert min(one.duration for one in made) > 0.4
    assert len({one.content for one in made}) == len(SPEAKERS)


def test_commands_are_balanced_and_distinct():
    """Guards the score against a class that is rare, speakers against a repeated sentence, and
    labels against two intents that one sentence could mean."""
    drawn = fluent_commands.commands("test", 310)
    assert len({command[:2] for command in drawn}) == 310
    counts = Counter(command[2:] for command in drawn)
    assert len(counts) == 31 and min(counts.values()) >= 6
    assert {command.speakerId for command in drawn} == set(SPLITS["test"])
    many = [command for split in SPLITS for command in fluent_commands.commands(split, 1000)]
    meant = {(command.transcription, command[2:]) for command in many}
    assert len(meant) == len({text for text, _ in meant})


def test_requests_have_a_label_for_each_word():
    """Guards s3prl's slot encoder, which pairs words and labels by place."""
    drawn = snips.requests(800)
    assert len({request.words for request in drawn}) == 800
    for request in drawn:
        assert len(request.words) == len(request.slots)
        assert set("".join(request.words).upper()) <= VOCABULARY
    assert {slot for request in drawn for slot in request.slots} == {"O", *snips.VALUES}


def test_readings_share_no_text_between_splits():
    """Guards phoneme recognition against sentences that training has."""
    texts = [f"{a} {b}" for a in ("red", "green", "blue") for b in map(str, range(100))]
    drawn = libriphone.readings(texts, ["a prompt"])
    seen = {
        split: {part for u in some for part in re.findall(r"\w+ \d+", u.text)}
        for split, some in drawn.items()
    }
    assert all(seen.values())
    assert_disjoint(*seen.values())
    assert_disjoint(*({u.speaker for u in some} for some in drawn.values()))


def test_silence_is_cut_off_and_stays_where_all_is_silent():
    """Guards sounds at both ends, and against a traceback at a recording without sound."""
    samples = np.array([0, 0, 0, 0.5, -1, 0.2, 0, 0])
    assert making.trimmed(samples, 1).tolist() == [0, 0.5, -1, 0.2]
    assert len(making.trimmed(np.zeros(9), 1)) == 9


def test_digits_and_hyphens_are_words():
    text = "press one then re enter it's four two"
    assert sources.words("Press 1, then re-enter; it's 42.") == text.split()


def test_prompts_hold_no_tones_or_signs():
    """Guards the lexicon against beeps, letters and what is written but not said."""
    prompts = sources.clear_prompts(None)
    assert 450 < len(prompts) < 560
    texts = {spoken.path.stem: spoken.words for spoken in prompts}
    assert texts["vm-first"] == "first" and texts["vm-Cust1"] == "folder five"
    assert not {"beep", "tt-monkeys", "vm-intro", "a-m"} & texts.keys()
    assert all(re.fullmatch(r"[a-z' ]+", text) for text in texts.values())


def test_actors_recordings_are_distinct():
    """Guards test speakers against files that two of the game's voices share."""
    spoken = sources.english_phrases(None)
    contents = [one.path.read_bytes() for one in spoken]
    assert len(set(contents)) == len(contents) > 250
    assert {one.speaker for one in spoken} == set(sources.ENGLISH_PACKS) - {"Classic"}
    words = Counter(one.text for one in spoken)
    assert min(words[sources.PHRASES[word]] for word in speech_commands.WORDS) >= 5


def test_a_room_is_quiet_and_steady():
    """Guards silence against words and clicks."""
    room = sources.room_noise(speech_commands.PARTS["test"].room, None)
    assert len(room) > 10 * 16_000
    seconds = room[: len(room) // 16_000 * 16_000].reshape(-1, 16_000)
    levels = np.sqrt((seconds**2).mean(axis=1))
    assert levels.max() < 4 * sources.ROOM_LEVEL and levels.min() > sources.ROOM_LEVEL / 10


def test_s3prl_sorts_speakers_as_asked(tmp_path: Path):
    """Guards against s3prl putting a development or test actor into training."""
    from s3prl.downstream.speech_commands.expert import split_dataset

    (tmp_path / "yes").mkdir()
    named = {}
    for part in speech_commands.PARTS:
        for actor in sources.ENGLISH_PACKS:
            digest = speech_commands.speaker_id(actor, part)
            named[digest] = part
            (tmp_path / "yes" / f"{digest}_nohash_0.wav").touch()
    found = {"test": set(named)}
    for part, entries in zip(("train", "valid"), split_dataset(tmp_path), strict=True):
        found[part] = {path.name.partition("_")[0] for _, path in entries}
        found["test"] -= found[part]
    assert found == {
        part: {digest for digest, own in named.items() if own == part} for part in named.values()
    }


def test_queries_are_found_as_whole_words():
    held = ("the", "third", "of", "may")
    assert quesst14_dtw.holds(held, ("third", "of"))
    for query in (("third", "may"), ("thir",), (*held, "two")):
        assert not quesst14_dtw.holds(held, query)


def test_s3prl_reads_commands(small: Path):
    """Guards the table's columns and paths; s3prl's own data set reads them."""
    from s3prl.downstream.fluent_commands.expert import DownstreamExpert

    made = mini_set("fluent_commands")
    with open(made.root / "data" / "test_data.csv", encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    columns = ",path,speakerId,transcription,action,object,location"
    assert list(rows[0]) == columns.split(",")
    assert [row[""] for row in rows] == ["0", "1", "2"]
    datarc = {"file_path": str(made.root), "num_workers": 0, "train_batch_size": 2}
    pooling = {"select": "UtteranceLevel", "UtteranceLevel": {"pooling": "MeanPooling"}}
    options = {
        "datarc": datarc | {"eval_batch_size": 2},
        "modelrc": pooling | {"projector_dim": 4},
    }
    expert = DownstreamExpert(4, options, str(small))
    assert len(expert.train_dataset) == counts(made)["train"]
    assert len(expert.dev_dataset) == counts(made)["valid"]
    waveforms, labels, _ = next(iter(expert.get_dataloader("train")))
    assert all(len(waveform) > 4000 for waveform in waveforms)
    assert all(label.shape == (3,) for label in labels)


def test_keywords_are_read_by_s3prl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Guards the two folders, the lists and the actors' splits."""
    from s3prl.downstream.speech_commands import dataset, expert

    monkeypatch.setattr(speech_commands, "SPLITS", FEW)
    built = speech_commands.make(tmp_path, None)
    words = (tmp_path / speech_commands.CLASSES_FILE).read_text().split()
    assert len(words) == len(dataset.CLASSES) == 12
    monkeypatch.setattr(dataset, "CLASSES", words)
    root = tmp_path / speech_commands.ROOT
    roots = {"speech_commands_root": str(root)}
    roots["speech_commands_test_root"] = str(tmp_path / speech_commands.TEST_ROOT)
    train_list, dev_list = expert.split_dataset(root)
    train = dataset.SpeechCommandsDataset(train_list, **roots)
    dev = dataset.SpeechCommandsDataset(dev_list, **roots)
    test = dataset.SpeechCommandsTestingDataset(**roots)
    assert {"train": len(train), "dev": len(dev), "test": len(test)} == dict(built.counts)
    for part in (train, dev, test):
        assert {word for word, _ in part.data} == set(words)
    listed = (root / "validation_list.txt").read_text().split()
    assert sorted(listed) == sorted(f"{path.parent.name}/{path.name}" for _, path in dev_list)
    trained = {path.read_bytes() for _, path in train_list}
    heldout = {path.read_bytes() for _, path in test.data} | {p.read_bytes() for _, p in dev_list}
    assert not trained & heldout
    silence = next(k for k, (word, _) in enumerate(train.data) if word == "_silence_")
    assert len(train[silence][0]) == 16_000


def test_queries_are_read_by_s3prl(tmp_path: Path):
    """Guards the lists, and the truth against a query whose speaker is also searched."""
    from s3prl.downstream.quesst14_dtw.dataset import QUESST14Dataset

    built = quesst14_dtw.make(tmp_path / "mini", None)
    database = tmp_path / "mini" / quesst14_dtw.DATABASE
    for split in quesst14_dtw.QUERY_VOICES:
        data = QUESST14Dataset(split, dataset_root=database)
        assert (data.n_queries, data.n_docs) == (built.counts[split], built.counts["utterances"])
        names = {path.stem for path in data.data}
        truth = database / f"scoring/groundtruth_quesst14_{split}/quesst14_{split}.rttm"
        pairs = re.findall(
            r"LEXEME (quesst14_\d+) .*?(quesst14_(?:dev|eval)_\d+)", truth.read_text()
        )
        assert len(set(pairs)) == len(pairs) >= data.n_queries
        assert {name for pair in pairs for name in pair} <= names
        assert {query for _, query in pairs} == {p.stem for p in data.data[: data.n_queries]}
        assert len(data[0][0]) > 3000
        waves = [soundfile.read(path)[0] for path in data.data]
        # Silence at the ends, which an alignment would match to any other, is cut off.
        margin = 2 * quesst14_dtw.MARGIN
        edges = [
            np.abs(end).max() / np.abs(w).max() for w in waves for end in (w[:margin], w[-margin:])
        ]
        assert min(edges) > 0.9 * making.SILENT  # files hold 16 bits
    asked = [quesst14_dtw.SPLITS[voices] for voices in quesst14_dtw.QUERY_VOICES.values()]
    assert_disjoint(set(quesst14_dtw.SPLITS["train"]), *map(set, asked))


def test_queries_are_of_one_split():
    """Guards the layer that dev chooses against phrases that test asks for too."""
    prompts = sources.clear_prompts(None)
    long = [one.words for one in prompts if len(one.words.split()) in quesst14_dtw.LONG]
    short = {one.words: one for one in prompts if len(one.words.split()) in quesst14_dtw.SHORT}
    held = [text.split() for text in long]
    asked = [s for w, s in short.items() if not any(quesst14_dtw.holds(u, w.split()) for u in held)]
    chosen = quesst14_dtw.queries(asked, long)
    dev, eval_ = ({text for _, text in own} for own in chosen.values())
    assert len(dev) > 80 and len(eval_) > 80 and not dev & eval_


def test_requests_are_read_by_s3prl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Guards the labels: every character and slot is in s3prl's vocabulary, and comes back."""
    from s3prl.downstream.ctc.text import CharacterTextSlotEncoder

    monkeypatch.setattr(snips, "SIZES", {"train": 12, "valid": 3, "test": 3})
    monkeypatch.setattr(making, "fetch_libraries", lambda archive: ())
    monkeypatch.setattr(snips, "SPLITS", FEW)
    snips.make(tmp_path / "mini", None)
    vocabulary = tmp_path / "character.txt"
    vocabulary.write_text("\n".join((" ", *sorted(VOCABULARY))), encoding="utf-8")
    root = tmp_path / "mini" / snips.FOLDER
    encoder = CharacterTextSlotEncoder.load_from_file(vocabulary, root / "slots.txt")
    lines = (root / "all.iob.snips.txt").read_text().splitlines()
    recordings = {path.stem: path for path in root.rglob("*.wav")}
    assert {line.partition(" ")[0] for line in lines} == set(recordings)
    assert len(lines) == 18
    for line in lines:
        name, _, labelled = line.partition(" ")
        tokens = encoder.encode(labelled)
        assert encoder.unk_idx not in tokens
        plain = re.sub(r"[BE]-\w+", "", encoder.decode(tokens)).split()
        assert plain == labelled.partition("\t")[0].split()[1:-1]
        assert recordings[name].parent.name == name.split("-")[2]
    speakers = json.loads((root / "speakers.json").read_text())
    assert speakers == {f"{split}_speakers": list(names) for split, names in FEW.items()}


def test_sentences_have_phones_and_their_own_speakers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Guards the lexicon against missing words, and the splits against shared speakers and text."""
    readings = {libriphone.TRAIN: 30, libriphone.DEV: 8, libriphone.TEST: 8}
    monkeypatch.setattr(libriphone, "READINGS", readings)
    few = sources.clear_prompts(None)[:20]
    monkeypatch.setattr(libriphone.sources, "clear_prompts", lambda archive: few)
    built = libriphone.make(tmp_path, None)
    known = {line.split()[0] for line in (tmp_path / libriphone.LEXICON).read_text().splitlines()}
    said = transcripts(tmp_path)
    assert {split: len(own) for split, own in said.items()} == dict(built.counts)
    assert {word for own in said.values() for t in own.values() for word in t.split()} <= known
    assert_disjoint(*({name.split("-")[0] for name in own} for own in said.values()))
    assert_disjoint(*(set(own.values()) for own in said.values()))
    for split, own in said.items():
        files = {path.stem: path for path in (tmp_path / split).rglob("*.flac")}
        assert set(files) == set(own)
        assert all(
            path.parent.parts[-2:] == tuple(name.split("-")[:2]) for name, path in files.items()
        )
        assert {soundfile.info(path).samplerate for path in files.values()} == {16_000}
