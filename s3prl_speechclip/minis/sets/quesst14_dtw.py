"""Query by example: spoken words to find in utterances, in the layout of QUESST 2014.

    quesst14Database/{Audio,dev_queries,eval_queries}/*.wav
    quesst14Database/scoring/language_key_{utterances,dev,eval}.lst     <path> <language>
    quesst14Database/scoring/groundtruth_quesst14_{dev,eval}/quesst14_{dev,eval}.rttm
    .../quesst14.ecf.xml, .../quesst14_{dev,eval}.tlist.xml

Queries are people's recordings of single words and phrases. Utterances are by other speakers:
actors' phrases after one another, and synthetic speakers who read dates, lists and call signs.
Both splits search the same utterances for queries of their own, as officially. `nnenglish` is the
language that s3prl keeps. The official scoring programs are not part of this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple
from xml.sax.saxutils import quoteattr

import numpy as np

from ...config import read_yaml
from ...structures import SAMPLE_RATE
from .. import sources
from ..making import SYNTHETIC, Built, Saying, dealt, record, write_audio, write_lines
from ..sources import CLEAR_PHRASES, Spoken, words
from ..synthesis.voices import SPEAKERS

DATABASE = "quesst14Database"
LANGUAGE = "nnenglish"
SPLITS = ("dev", "eval")
QUERIES = 50  # a split
QUERY_ACTORS = {"dev": ("Mobster", "Surfer"), "eval": ("British", "Pirate")}
UTTERANCE_ACTORS = ("Default", "Russian", "Singer")
PHRASES_JOINED = 3
PAUSE = SAMPLE_RATE // 4  # samples between joined phrases
READ_ALOUD = 100  # utterances
SHORTEST_WORD = 4  # letters; shorter ones lie inside many words

_TABLE = read_yaml(Path(__file__).with_name("quesst14_dtw.yaml"))
CALL_SIGNS: Sequence[str] = _TABLE["call_signs"]


class Entry(NamedTuple):
    """An utterance or a query."""

    name: str
    """Without folder and suffix, such as `quesst14_00001` or `quesst14_dev_0001`."""
    words: tuple[str, ...]
    seconds: float


def holds(utterance: Sequence[str], query: Sequence[str]) -> bool:
    """Return whether a query's words stand in an utterance, one after another."""
    width = len(query)
    return any(
        tuple(utterance[k : k + width]) == tuple(query) for k in range(len(utterance) - width + 1)
    )


def make(root: Path, archive: Path | None) -> Built:
    """Fill a folder with the mini set."""
    actors = sources.english_phrases(archive)
    named = sources.named_things(archive)
    joined = joined_phrases([s for s in actors if s.speaker in UTTERANCE_ACTORS])
    texts = sentences([s.text for s in named if " " not in s.text])
    names = iter(f"quesst14_{k + 1:05d}" for k in range(len(joined) + len(texts)))
    utterances = []
    for group, name in zip(joined, names, strict=False):
        samples = join([sources.read_scaled(one) for one in group])
        made = write_audio(root / DATABASE / f"Audio/{name}.wav", samples)
        own = tuple(word for one in group for word in one.text.split())
        utterances.append(Entry(name, own, made.duration))
    speakers = dealt(SPEAKERS, len(texts), Random("quesst14_dtw speakers"))
    sayings = {
        f"{DATABASE}/Audio/{name}.wav": Saying(SPEAKERS[speaker], text)
        for speaker, text, name in zip(speakers, texts, names, strict=False)
    }
    for path, made in record(sayings, root, archive).items():
        spoken = tuple(words(sayings[path].text))
        utterances.append(Entry(Path(path).stem, spoken, made.duration))

    chosen = queries(actors, [*named, *sources.clear_prompts(archive)], utterances)
    split_queries: dict[str, list[Entry]] = {}
    for split, some in chosen.items():
        paths = {
            f"{DATABASE}/{split}_queries/quesst14_{split}_{k + 1:04d}.wav": one.path
            for k, one in enumerate(some)
        }
        split_queries[split] = [
            Entry(Path(path).stem, tuple(one.words.split()), made.duration)
            for one, (path, made) in zip(some, record(paths, root, archive).items(), strict=True)
        ]
    hits = write_scoring(root / DATABASE, utterances, split_queries)
    people = {split: {s.speaker for s in some} for split, some in chosen.items()}
    total = sum(utterance.seconds for utterance in utterances) / 60
    return Built(
        {"utterances": len(utterances), **{split: len(q) for split, q in split_queries.items()}},
        (
            f"{len(joined)} utterances of {len(UTTERANCE_ACTORS)} actors, {PHRASES_JOINED} "
            f"phrases each, and {len(texts)} of synthetic speakers; {total:.1f} min",
            f"queries of people who are in no utterance, {len(people['dev'])} in dev and "
            f"{len(people['eval'])} in eval, of whom {len(people['dev'] & people['eval'])} in "
            "both; no word is in both",
            f"{hits['dev']} pairs of query and utterance to find in dev, {hits['eval']} in eval",
            *sources.licences((sources.HEDGEWARS, sources.KTUBERLING, sources.ASTERISK)),
            SYNTHETIC,
            "the shipped mini speech encoder heard the people's recordings, without labels",
        ),
    )


def sentences(nouns: Sequence[str]) -> list[str]:
    """Draw what is read aloud: lists, dates and call signs, each word about as often."""
    random = Random("quesst14_dtw sentences")
    lists, dates = READ_ALOUD * 2 // 5, READ_ALOUD * 3 // 10
    signs = READ_ALOUD - lists - dates
    things, called = dealt(nouns, 3 * lists, random), dealt(CALL_SIGNS, 3 * signs, random)
    days, months, ordinals = (
        dealt(_TABLE[kind], dates, random) for kind in ("weekdays", "months", "ordinals")
    )
    return [
        *(", ".join(things[k : k + 2]) + f" and {things[k + 2]}" for k in range(0, len(things), 3)),
        *(f"{d} the {o} of {m}" for d, o, m in zip(days, ordinals, months, strict=True)),
        *(" ".join(called[k : k + 3]) for k in range(0, len(called), 3)),
    ]


def joined_phrases(spoken: Sequence[Spoken]) -> list[list[Spoken]]:
    """Group each actor's phrases, in random order; a phrase is in one utterance."""
    random = Random("quesst14_dtw phrases")
    groups = []
    for actor in dict.fromkeys(one.speaker for one in spoken):
        own = [one for one in spoken if one.speaker == actor]
        shuffled = random.sample(own, len(own))
        whole = len(own) // PHRASES_JOINED * PHRASES_JOINED
        groups += [shuffled[k : k + PHRASES_JOINED] for k in range(0, whole, PHRASES_JOINED)]
    return groups


def join(recordings: Sequence[np.ndarray]) -> np.ndarray:
    """Join recordings, (L,) each, with pauses of low noise between them."""
    random = np.random.default_rng(0)
    parts = [p for one in recordings for p in (one, 1e-3 * random.standard_normal(PAUSE))]
    return np.concatenate(parts[:-1])


def queries(
    actors: Sequence[Spoken], others: Sequence[Spoken], utterances: Sequence[Entry]
) -> dict[str, list[Spoken]]:
    """Choose the queries of each split: words that some utterance holds, none in both splits."""
    random = Random("quesst14_dtw queries")
    phrases = random.sample(CLEAR_PHRASES, len(CLEAR_PHRASES))
    held = {word for utterance in utterances for word in utterance.words}
    singles = {
        s.words: s
        for s in reversed(others)
        if len(s.words) >= SHORTEST_WORD and [word for word in held if s.words in word] == [s.words]
    }
    shuffled = random.sample(sorted(singles), len(singles))
    chosen: dict[str, list[Spoken]] = {}
    for place, split in enumerate(SPLITS):
        own = phrases[place :: len(SPLITS)]
        acted = [s for s in actors if s.text in own and s.speaker in QUERY_ACTORS[split]]
        acted = [s for s in acted if any(holds(u.words, s.text.split()) for u in utterances)]
        rest = shuffled[place :: len(SPLITS)][: QUERIES - len(acted)]
        chosen[split] = [*acted, *(singles[word] for word in rest)]
    return chosen


def write_scoring(
    database: Path,
    utterances: Sequence[Entry],
    split_queries: Mapping[str, Sequence[Entry]],
) -> dict[str, int]:
    """Write the lists and the truth; return the number of true pairs by split."""
    lists = {"utterances": ("Audio", utterances)}
    lists |= {split: (f"{split}_queries", own) for split, own in split_queries.items()}
    for name, (folder, recordings) in lists.items():
        lines = [f"{DATABASE}/{folder}/{r.name}.wav {LANGUAGE}" for r in recordings]
        write_lines(database / "scoring" / f"language_key_{name}.lst", lines)
    total = sum(u.seconds for u in utterances)
    excerpts = [
        f'<ecf source_signal_duration="{total:.3f}" language="{LANGUAGE}" version="mini">',
        *(
            f'<excerpt audio_filename="{u.name}.wav" channel="1" tbeg="0.000" '
            f'dur="{u.seconds:.3f}" source_type="bnews"/>'
            for u in utterances
        ),
        "</ecf>",
    ]
    hits = {}
    for split, own in split_queries.items():
        truth = database / "scoring" / f"groundtruth_quesst14_{split}"
        # Fields of NIST's RTTM; officially, too, the whole utterance stands for the place in it.
        pairs = [
            f"LEXEME {utterance.name} 1 0.00 {utterance.seconds:.2f} {query.name} lex <NA> <NA>"
            for query in own
            for utterance in utterances
            if holds(utterance.words, query.words)
        ]
        terms = [
            f'<termlist ecf_filename="quesst14.ecf.xml" language="{LANGUAGE}" version="mini">',
            *(
                f"<term termid={quoteattr(q.name)}><termtext>{' '.join(q.words)}</termtext></term>"
                for q in own
            ),
            "</termlist>",
        ]
        hits[split] = len(pairs)
        write_lines(truth / f"quesst14_{split}.rttm", pairs)
        write_lines(truth / "quesst14.ecf.xml", excerpts)
        write_lines(truth / f"quesst14_{split}.tlist.xml", terms)
    return hits
