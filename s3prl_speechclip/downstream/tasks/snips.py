"""SUPERB's slot filling on Audio SNIPS."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...data.files import read_json, read_text
from ...errors import CorpusError
from ..ctc_corpora import Bucketed, Entry, leave_padding_blank
from ..heads import recognised
from ..task import Layout, Metric, Task, Values, first_existing

logger = logging.getLogger(__name__)

LABELS = "all.iob.snips.txt"
SLOTS = "slots.txt"
SPEAKERS = "speakers.json"  # of a corpus in this layout with speakers of its own


class SnipsDataset(Bucketed):
    """Characters of the words between the marks of their slots."""

    def read(self, root: Path, splits: Sequence[str], tokenizer: Any, **others: Any) -> list[Entry]:
        """Read Audio SNIPS; `<split>_speakers` of `others` names a split's speakers."""
        labels = _read_labels(root / LABELS)
        entries: list[Entry] = []
        for name in splits:
            files = sorted((root / name).rglob("*.wav"))
            speakers = others.get(f"{name}_speakers")
            if speakers:
                files = [file for file in files if file.stem.split("-")[0] in speakers]
            labelled = [file for file in files if file.stem in labels]
            if not labelled:
                raise CorpusError(
                    f"no '*.wav' below '{root / name}' of {', '.join(speakers or ['anybody'])} "
                    f"with a line in {LABELS}"
                )
            if len(labelled) < len(files):
                logger.warning("%s: %d recordings have no labels", name, len(files) - len(labelled))
            _check_slots(root / LABELS, [labels[file.stem] for file in labelled], tokenizer)
            entries += [(file, tokenizer.encode(labels[file.stem])) for file in labelled]
        return entries


def _read_labels(path: Path) -> dict[str, str]:
    """Read the sentences, `BOS word ... EOS<tab>O slot ... intent`, by recording."""
    labels = {}
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        name, _, sentence = line.strip().partition(" ")
        words, tab, slots = sentence.partition("\t")
        if not tab or len(words.split(" ")) != len(slots.split(" ")):
            raise CorpusError(
                f"'{path}' line {number}: expected 'name BOS word ... EOS<tab>O slot ... intent', "
                f"found '{line[:60]}'"
            )
        labels[name] = sentence
    return labels


def _check_slots(path: Path, sentences: Sequence[str], tokenizer: Any) -> None:
    """Check that the tokenizer has all slots."""
    known = {"O", *(mark.partition("-")[2] for mark in tokenizer.slots)}  # B-slot and E-slot
    for sentence in sentences:
        unknown = set(sentence.partition("\t")[2].split(" ")[1:-1]) - known
        if unknown:
            raise CorpusError(
                f"'{path}' has the slot '{min(unknown)}', which {SLOTS} lacks; add it there"
            )


def _place(root: Path) -> Values:
    root = first_existing(root, "SNIPS", ".")
    speakers = root / SPEAKERS
    groups: Values = {}
    if speakers.is_file():
        try:
            groups = dict(read_json(speakers))
        except (ValueError, TypeError) as error:
            raise CorpusError(f"cannot read '{speakers}' ({error}); restore it") from error
    return {
        "corpus": {"path": str(root), **groups},
        "text": {"slots_file": str(root / SLOTS)},
    }


TASK = Task(
    name="snips",
    short="sf",
    expert="ctc",
    title="slot filling",
    metrics=(
        Metric(key="slot_type_f1", label="SF F1", column="SF_F1"),
        Metric(key="slot_value_cer", label="SF CER", column="SF_CER", higher_is_better=False),
    ),
    evaluated_together=True,
    head=recognised(""),
    layout=Layout(
        title="Audio SNIPS",
        fetch="SUPERB's preprocessed release (s3prl's documentation of SF links it)",
        text="{train,valid,test}/<speaker>-snips-<split>-<number>.wav, all.iob.snips.txt, "
        "slots.txt",
        needed=(f"SNIPS/{LABELS}|{LABELS}", f"SNIPS/{SLOTS}|{SLOTS}"),
        place=_place,
        key="corpus.path",
        published={
            f"SNIPS/{name}|{name}": size
            for name, size in (
                ("train/Ivy-snips-train-*.wav", 13_084),
                ("valid/Aditi-snips-valid-*.wav", 700),
                ("test/Brian-snips-test-*.wav", 700),
            )
        },
    ),
    correct=leave_padding_blank,
)
