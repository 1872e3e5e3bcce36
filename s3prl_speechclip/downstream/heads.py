"""Predictions of the heads of s3prl's experts: names of outputs, and their decoding."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the command line's --help reads this module
    from torch import Tensor

    from .sox_effects import Effects

Labels = Mapping[str, Sequence[str]]
"""Names of a head's outputs, in order, by what they name, such as `action`; plain values, which a
checkpoint keeps."""
UNITS = "units"  # of recognition: the special ones, then letters or phones, then marks of slots
PAD, EOS = 0, 1
MARKED = re.compile(r"B-(\S+) (.+?) E-\1")
MARKS = re.compile(r"B-\S+ | E-\S+")


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """A prediction for one recording; what a task does not predict is empty."""

    decoded: str
    """The prediction as s3prl's expert writes it beside its checkpoints."""
    label: str = ""
    """Class: keyword, emotion or speaker."""
    slots: tuple[tuple[str, str], ...] = ()
    """Name and value of each slot, in order."""
    phones: tuple[str, ...] = ()
    text: str = ""
    """Words, without the marks of slots."""


@dataclass(frozen=True, kw_only=True)
class Head:
    """The output of a task's head."""

    labels: Callable[[Any], Labels]
    """Returns the names of the outputs of s3prl's expert."""
    decode: Callable[[Tensor, Labels], Prediction]
    """Decodes a recording's logits, (T, V), or (1, V) where frames are pooled."""
    effects: Effects = ()
    """SoX effects that s3prl's data set applies to a recording of 16 kHz."""


def classes(names: Callable[[Any], Sequence[str]], effects: Effects = ()) -> Head:
    """Return the head of a task with one class a recording.

    Args:
        names: returns the classes' names of s3prl's expert.
        effects: see `Head`.
    """

    def decode(logits: Tensor, labels: Labels) -> Prediction:
        label = labels["label"][int(logits[0].argmax())]
        return Prediction(decoded=label, label=label)

    return Head(labels=lambda e: {"label": list(names(e))}, decode=decode, effects=effects)


def slots(names: Callable[[Any], Labels]) -> Head:
    """Return the head of a task with one value of each slot a recording."""

    def decode(logits: Tensor, labels: Labels) -> Prediction:
        parts = logits[0].split([len(values) for values in labels.values()])
        chosen = tuple(
            (slot, values[int(part.argmax())])
            for (slot, values), part in zip(labels.items(), parts, strict=True)
        )
        return Prediction(decoded=",".join(value for _, value in chosen), slots=chosen)

    return Head(labels=names, decode=decode)


def recognised(separator: str) -> Head:
    """Return the head of recognition by CTC with s3prl's `ctc` expert.

    Args:
        separator: what stands between units, such as a space between phones; empty between letters.
    """

    def labels(expert: Any) -> Labels:
        tokenizer = expert.tokenizer
        return {UNITS: [*tokenizer._vocab_list, *(tokenizer.slots if not separator else ())]}

    def decode(logits: Tensor, labels: Labels) -> Prediction:
        spoken: list[str] = []
        for unit in logits.argmax(-1).unique_consecutive().tolist():
            if unit not in (PAD, EOS):
                name = labels[UNITS][unit]
                mark = name[:2] if len(name) > 2 and not separator else ""
                spoken.append({"B-": f"{name} ", "E-": f" {name}"}.get(mark, name))
        decoded = separator.join(spoken)
        if separator:
            return Prediction(decoded=decoded, phones=tuple(spoken))
        found = MARKED.findall(re.sub(" +", " ", decoded))
        values = tuple((slot, MARKS.sub("", value)) for slot, value in found)
        text = " ".join(MARKS.sub("", decoded).split())
        return Prediction(decoded=decoded, slots=values, text=text)

    return Head(labels=labels, decode=decode)
