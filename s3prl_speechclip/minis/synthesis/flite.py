"""flite, in this process: text to samples, words and phones with their times.

The library is Debian's libflite1, unpacked and never installed. It reports no errors and may end
the process when it is misused: callers with many texts use worker processes.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_char_p, c_float, c_int, c_short, c_void_p
from functools import cache
from pathlib import Path

import numpy as np

from ...data.manifest import Word
from ...errors import CorpusError
from .reading import Phone, Reading, same_noise, words_of

PACKAGES = ("libflite1", "libasound2t64|libasound2")
"""libflite links to ALSA, of which nothing is called."""

PAUSE = "pau"

SIGNATURES = {
    "flite_init": ([], c_int),
    "flite_synth_text": ([c_char_p, c_void_p], c_void_p),
    "delete_utterance": ([c_void_p], None),
    "utt_wave": ([c_void_p], c_void_p),
    "utt_relation": ([c_void_p, c_char_p], c_void_p),
    "relation_head": ([c_void_p], c_void_p),
    "item_next": ([c_void_p], c_void_p),
    "item_parent": ([c_void_p], c_void_p),
    "item_as": ([c_void_p, c_char_p], c_void_p),
    "item_feat_string": ([c_void_p, c_char_p], c_char_p),
    "item_feat_float": ([c_void_p, c_char_p], c_float),
    "feat_set_float": ([c_void_p, c_char_p, c_float], None),
}


class _Wave(ctypes.Structure):
    _fields_ = [
        ("type", c_char_p),
        ("sample_rate", c_int),
        ("num_samples", c_int),
        ("num_channels", c_int),
        ("samples", POINTER(c_short)),
    ]


class _Voice(ctypes.Structure):
    _fields_ = [("name", c_char_p), ("features", c_void_p)]


class Flite:
    """The library, and the voices of it in use."""

    def __init__(self, roots: tuple[Path, ...]) -> None:
        self._roots = roots
        self._voices: dict[str, int] = {}
        self._load("libasound.so.2")
        self._library = self._load("libflite.so.1")
        self._load("libflite_usenglish.so.1")
        self._load("libflite_cmulex.so.1")
        for name, (arguments, result) in SIGNATURES.items():
            function = getattr(self._library, name)
            function.argtypes, function.restype = arguments, result
        self._library.flite_init()

    def read(self, text: str, voice: str, stretch: float = 1.0) -> Reading:
        """Read a text aloud.

        Args:
            text: ASCII, as `spoken` returns it.
            voice: name of a CMU voice, such as `slt`.
            stretch: duration of sounds, 1 = the voice's own.

        Raises:
            CorpusError: there is no such voice, or it said nothing.
        """
        pointer = self._voice(voice)
        features = ctypes.cast(pointer, POINTER(_Voice)).contents.features
        self._library.feat_set_float(features, b"duration_stretch", stretch)
        same_noise()
        utterance = self._library.flite_synth_text(text.encode("ascii"), pointer)
        try:
            wave = ctypes.cast(self._library.utt_wave(utterance), POINTER(_Wave)).contents
            if wave.num_samples <= 0:
                raise CorpusError(f"flite's voice '{voice}' says nothing for '{text}'")
            samples = np.ctypeslib.as_array(wave.samples, (wave.num_samples,)).copy()
            words, phones = self._times(utterance, text, len(samples) / wave.sample_rate)
            return Reading(samples, wave.sample_rate, words, phones)
        finally:
            self._library.delete_utterance(utterance)

    def _times(
        self, utterance: int, text: str, duration: float
    ) -> tuple[tuple[Word, ...], tuple[Phone, ...]]:
        phones: list[Phone] = []
        spans: dict[int, list[float]] = {}  # token item -> start, end
        start = 0.0
        segment = self._library.relation_head(self._library.utt_relation(utterance, b"Segment"))
        while segment:
            # The last sound may end a frame after the last sample.
            end = min(self._library.item_feat_float(segment, b"end"), duration)
            symbol = self._library.item_feat_string(segment, b"name").decode("ascii")
            token = self._token(segment)
            if token:
                spans.setdefault(token, [start, end])[1] = end
            if symbol != PAUSE:
                phones.append(Phone(symbol, start, end))
            start = end
            segment = self._library.item_next(segment)
        names = [name for _, name in words_of(text)]
        if len(names) != len(spans):
            raise CorpusError(f"flite reads {len(spans)} words in '{text}', expected {len(names)}")
        words = [Word(name, *span) for name, span in zip(names, spans.values(), strict=True)]
        return tuple(words), tuple(phones)

    def _token(self, segment: int) -> int | None:
        """Climb from a sound to the written token that it belongs to."""
        item = self._library.item_as(segment, b"SylStructure")
        for _ in ("syllable", "word"):
            item = item and self._library.item_parent(item)
        item = item and self._library.item_as(item, b"Token")
        return item and self._library.item_parent(item)

    def _voice(self, name: str) -> int:
        if name not in self._voices:
            register = self._load(f"libflite_cmu_us_{name}.so.1")[f"register_cmu_us_{name}"]
            register.argtypes, register.restype = [c_char_p], c_void_p
            self._voices[name] = register(None)
        return self._voices[name]

    def _load(self, name: str) -> ctypes.CDLL:
        found = [path for root in self._roots for path in sorted(root.glob(f"usr/lib/*/{name}"))]
        try:
            return ctypes.CDLL(str(found[0]) if found else name, mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            raise CorpusError(
                f"cannot load flite's '{name}' ({error}); give the packages of this machine's own "
                f"release and architecture: {', '.join(PACKAGES)}"
            ) from error


@cache
def load(roots: tuple[Path, ...]) -> Flite:
    """Load the library, once in a process.

    Args:
        roots: unpacked packages; the library folder's name varies with the architecture.

    Raises:
        CorpusError: a library is missing or does not fit this machine.
    """
    return Flite(roots)
