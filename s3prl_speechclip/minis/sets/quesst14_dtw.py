"""Query by example: spoken phrases to find in utterances, in the layout of QUESST 2014.

    quesst14Database/{Audio,dev_queries,eval_queries}/*.wav
    quesst14Database/scoring/language_key_{utterances,dev,eval}.lst     <path> <language>
    quesst14Database/scoring/groundtruth_quesst14_{dev,eval}/quesst14_{dev,eval}.rttm
    .../quesst14.ecf.xml, .../quesst14_{dev,eval}.tlist.xml

What is said are telephone prompts. Long ones are utterances as a woman recorded them; synthetic
speakers say a phrase of three words out of each. Short ones are read by other synthetic speakers,
two in an utterance, and hers are the queries. So a query is nearly always to be found across
speakers, and across people and synthesis: spectra alone do not do. Nothing has silence around it,
which an alignment would match to any other.

Both splits search the same utterances for queries of their own, as officially. `nnenglish` is the
language that s3prl keeps. The official scoring programs are not part of this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple
from xml.sax.saxutils import quoteattr

from ...structures import SAMPLE_RATE
from .. import sources
from ..making import SYNTHETIC, Built, Saying, dealt, record, write_lines
from ..sources import Spoken
from ..synthesis.voices import SPEAKERS, SPLITS

DATABASE = "quesst14Database"
LANGUAGE = "nnenglish"
QUERY_VOICES = {"dev": "valid", "eval": "test"}
"""Split of the synthetic speakers who ask, by split; those of train are in utterances."""
SHORT = range(2, 5)  # words of a prompt that is asked for
LONG = range(5, 12)  # words of a prompt that is searched
PHRASE = 3  # words
SHORTEST_PHRASE = 12  # letters and spaces; shorter ones are no more than a syllable or two
READINGS = 2  # utterances that hold a short prompt
MARGIN = SAMPLE_RATE // 50  # samples of silence around a sound


class Entry(NamedTuple):
    """An utterance or a query."""

    name: str
    """Without folder and suffix, such as `quesst14_0001` or `quesst14_dev_0001`."""
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
    prompts = [*{one.words: one for one in sources.clear_prompts(archive)}.values()]
    long = [one for one in prompts if len(one.words.split()) in LONG]
    short = [one for one in prompts if len(one.words.split()) in SHORT]
    asked = [
        one for one in short if not any(holds(u.words.split(), one.words.split()) for u in long)
    ]
    random = Random("quesst14_dtw readings")
    pairs = pairs_of([one.words for one in asked], random)
    voices = dealt(SPLITS["train"], len(pairs), random)
    sounds: list[tuple[Saying | Path, str]] = [(one.path, one.words) for one in long]
    sounds += [
        (Saying(SPEAKERS[voice], ", ".join(pair)), " ".join(pair))
        for voice, pair in zip(voices, pairs, strict=True)
    ]
    utterances = _record_all(f"{DATABASE}/Audio/quesst14_", sounds, root, archive)
    chosen = queries(asked, [one.words for one in long])
    split_queries = {
        split: _record_all(f"{DATABASE}/{split}_queries/quesst14_{split}_", own, root, archive)
        for split, own in chosen.items()
    }
    hits = write_scoring(root / DATABASE, utterances, split_queries)
    recorded = {split: sum(isinstance(s, Path) for s, _ in own) for split, own in chosen.items()}
    total = sum(utterance.seconds for utterance in utterances) / 60
    return Built(
        {"utterances": len(utterances), **{split: len(q) for split, q in split_queries.items()}},
        (
            f"{len(long)} utterances of one woman and {len(pairs)} of synthetic speakers; "
            f"{total:.1f} min",
            f"queries: {recorded['dev']} of the woman's in dev and {recorded['eval']} in eval, in "
            "none of her utterances; the others by synthetic speakers who are in no utterance, "
            "others in dev than in eval; no phrase is in both",
            f"{hits['dev']} pairs of query and utterance to find in dev, {hits['eval']} in eval",
            *sources.licences((sources.ASTERISK,)),
            SYNTHETIC,
            "the shipped mini speech encoder heard the woman's recordings, without labels",
        ),
    )


def _record_all(
    prefix: str, sounds: Sequence[tuple[Saying | Path, str]], root: Path, archive: Path | None
) -> list[Entry]:
    """Record numbered files."""
    paths = {f"{prefix}{k + 1:04d}.wav": sound for k, (sound, _) in enumerate(sounds)}
    made = record(paths, root, archive, margin=MARGIN)
    return [
        Entry(Path(path).stem, tuple(text.split()), one.duration)
        for (_, text), (path, one) in zip(sounds, made.items(), strict=True)
    ]


def pairs_of(texts: Sequence[str], random: Random) -> list[tuple[str, str]]:
    """Draw pairs of texts, each in `READINGS` of them and never with itself."""
    pairs = []
    for _ in range(READINGS):
        once = random.sample(texts, len(texts))
        pairs += [*zip(once[::2], once[1::2] + once[: len(once) % 2], strict=True)]
    return pairs


def queries(
    asked: Sequence[Spoken], searched: Sequence[str]
) -> dict[str, list[tuple[Saying | Path, str]]]:
    """Choose the queries of each split: recordings, and phrases that synthetic speakers say.

    Args:
        asked: prompts whose recordings are queries.
        searched: texts of the prompts that phrases are taken from, one from each that has any.
    """
    random = Random("quesst14_dtw queries")
    phrases: list[str] = []
    for text in random.sample(searched, len(searched)):
        words = text.split()
        own = [" ".join(words[k : k + PHRASE]) for k in range(len(words) - PHRASE + 1)]
        new = [p for p in own if len(p) >= SHORTEST_PHRASE and p not in phrases]
        phrases += random.sample(new, min(1, len(new)))
    shuffled = random.sample(asked, len(asked))
    chosen: dict[str, list[tuple[Saying | Path, str]]] = {}
    for place, (split, voices) in enumerate(QUERY_VOICES.items()):
        recorded = shuffled[place :: len(QUERY_VOICES)]
        said = phrases[place :: len(QUERY_VOICES)]
        speakers = dealt(SPLITS[voices], len(said), random)
        chosen[split] = [
            *((one.path, one.words) for one in recorded),
            *(
                (Saying(SPEAKERS[name], text), text)
                for name, text in zip(speakers, said, strict=True)
            ),
        ]
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
