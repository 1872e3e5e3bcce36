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
from .aloud import Phone, Reading, same_noise, words_of
from .voices import Voice

PACKAGES = ("libflite1", "libasound2t64|libasound2")
"""flite links to ALSA, of which nothing is called."""
LIBRARIES = ("libasound.so.2", "libflite.so.1", "libflite_usenglish.so.1", "libflite_cmulex.so.1")
"""In the order of loading."""
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
        *((name, c_int) for name in ("sample_rate", "num_samples", "num_channels")),
        ("samples", POINTER(c_short)),
    ]


def read(text: str, voice: Voice, libraries: tuple[Path, ...]) -> Reading:
    """Read a text, as `spoken` returns it, by a CMU voice such as `slt`.

    Raises:
        CorpusError: a library is missing or does not fit this machine, there is no such voice, or
            it said nothing.
    """
    library, pointer = _flite(libraries), _voice(voice.name, libraries)
    features = ctypes.cast(pointer, POINTER(c_void_p))[1]  # a voice is its name, then these
    library.feat_set_float(features, b"duration_stretch", voice.stretch)
    same_noise()
    utterance = library.flite_synth_text(text.encode("ascii"), pointer)
    try:
        wave = ctypes.cast(library.utt_wave(utterance), POINTER(_Wave)).contents
        if wave.num_samples <= 0:
            raise CorpusError(f"flite's voice '{voice.name}' says nothing for '{text}'")
        samples = np.ctypeslib.as_array(wave.samples, (wave.num_samples,)).copy()
        rate = wave.sample_rate
        words, phones = _times(library, utterance, text, len(samples) / rate)
        return Reading(samples, rate, words, phones)
    finally:
        library.delete_utterance(utterance)


def _times(
    library: ctypes.CDLL, utterance: int, text: str, duration: float
) -> tuple[tuple[Word, ...], tuple[Phone, ...]]:
    phones: list[Phone] = []
    spans: dict[int, list[float]] = {}  # token item -> start, end
    start = 0.0
    segment = library.relation_head(library.utt_relation(utterance, b"Segment"))
    while segment:
        # The last sound may end a frame after the last sample.
        end = min(library.item_feat_float(segment, b"end"), duration)
        symbol = library.item_feat_string(segment, b"name").decode("ascii")
        # From the sound up to the written token that it belongs to.
        item = library.item_as(segment, b"SylStructure")
        for _ in ("syllable", "word"):
            item = item and library.item_parent(item)
        item = item and library.item_as(item, b"Token")
        token = item and library.item_parent(item)
        if token:
            spans.setdefault(token, [start, end])[1] = end
        if symbol != PAUSE:
            phones.append(Phone(symbol, start, end))
        start = end
        segment = library.item_next(segment)
    names = [name for _, name in words_of(text)]
    if len(names) != len(spans):
        raise CorpusError(f"flite reads {len(spans)} words in '{text}', expected {len(names)}")
    words = (Word(name, *span) for name, span in zip(names, spans.values(), strict=True))
    return tuple(words), tuple(phones)


@cache
def _flite(roots: tuple[Path, ...]) -> ctypes.CDLL:
    """Load the library, once in a process."""
    library = [_load(name, roots) for name in LIBRARIES][1]
    for name, (arguments, result) in SIGNATURES.items():
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, result
    library.flite_init()
    return library


@cache
def _voice(name: str, roots: tuple[Path, ...]) -> int:
    register = _load(f"libflite_cmu_us_{name}.so.1", roots)[f"register_cmu_us_{name}"]
    register.argtypes, register.restype = [c_char_p], c_void_p
    voice: int = register(None)
    return voice


def _load(name: str, roots: tuple[Path, ...]) -> ctypes.CDLL:
    # The library folder's name varies with the architecture.
    found = [path for root in roots for path in sorted(root.glob(f"usr/lib/*/{name}"))]
    try:
        return ctypes.CDLL(str(found[0]) if found else name, mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        raise CorpusError(
            f"cannot load flite's '{name}' ({error}); give the packages of this machine's own "
            f"release and architecture: {', '.join(PACKAGES)}"
        ) from error
