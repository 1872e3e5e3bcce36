"""espeak-ng, in this process: text to samples, words and phones with their times.

The library and its voices come with the package `espeakng-loader`, so that every machine hears the
same version. What it says depends on all that it said before (the phases of its oscillators and its
flutter are never reset), so each text is read by a library that was loaded anew: some 5 ms a text,
and a text then gives the same samples whatever was read before it.
"""

from __future__ import annotations

import _ctypes
import ctypes
import threading
from ctypes import (
    CFUNCTYPE,
    POINTER,
    c_char,
    c_char_p,
    c_int,
    c_long,
    c_short,
    c_size_t,
    c_uint,
    c_void_p,
)
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import espeakng_loader
import numpy as np

from ...data.manifest import Word
from ...errors import CorpusError
from .reading import Phone, Reading, same_noise, words_of

# Names and values of espeak-ng's speak_lib.h.
AUDIO_OUTPUT_SYNCHRONOUS = 2
INITIALIZE_PHONEME_EVENTS, INITIALIZE_PHONEME_IPA, INITIALIZE_DONT_EXIT = 1, 2, 0x8000
EVENT_END, EVENT_WORD, EVENT_PHONEME = 0, 1, 7
PARAMETER_RATE, PARAMETER_PITCH = 1, 3
CHARS_UTF8, END_PAUSE = 1, 0x1000
SYNTH_ARGUMENTS = (c_char_p, c_size_t, c_uint, c_int, c_uint, c_uint, c_void_p, c_void_p)


class _Id(ctypes.Union):
    _fields_ = [("number", c_int), ("name", c_char_p), ("string", c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", c_int),
        ("unique_identifier", c_uint),
        ("text_position", c_int),
        ("length", c_int),
        ("audio_position", c_int),
        ("sample", c_int),
        ("user_data", c_void_p),
        ("id", _Id),
    ]


_Callback = CFUNCTYPE(c_int, POINTER(c_short), c_int, POINTER(_Event))


@dataclass(frozen=True)
class _Mark:
    """An event, copied out of the library's memory."""

    type: int
    sample: int
    position: int
    """1-based character of the text."""
    symbol: str


_one_at_a_time = threading.Lock()


def read(text: str, voice: str, rate: int = 170, pitch: int = 50) -> Reading:
    """Read a text aloud.

    Args:
        text: ASCII, as `spoken` returns it.
        voice: language and variant, such as `en-us+f3`.
        rate: words per minute.
        pitch: 0 to 99, 50 = the voice's own.

    Raises:
        CorpusError: there is no such voice, or it said nothing.
    """
    with _one_at_a_time:
        library = ctypes.CDLL(espeakng_loader.get_library_path())
        try:
            return _Espeak(library).read(text, voice, rate, pitch)
        finally:
            library.espeak_Terminate()
            _ctypes.dlclose(library._handle)


class _Espeak:
    """A library that was just loaded."""

    def __init__(self, library: ctypes.CDLL) -> None:
        voices = Path(espeakng_loader.get_data_path())
        library.espeak_Synth.argtypes = SYNTH_ARGUMENTS
        options = INITIALIZE_PHONEME_EVENTS | INITIALIZE_PHONEME_IPA | INITIALIZE_DONT_EXIT
        self._sample_rate: int = library.espeak_Initialize(
            AUDIO_OUTPUT_SYNCHRONOUS, 0, str(voices).encode(), options
        )
        if self._sample_rate <= 0:
            raise CorpusError(
                f"espeak-ng cannot use its voices in '{voices}'; install espeakng-loader again, "
                "in an environment whose path is shorter than 140 characters"
            )
        self._library = library
        self._samples: list[np.ndarray] = []
        self._marks: list[_Mark] = []
        # Kept: the library calls it as long as it lives.
        self._callback = _Callback(self._take)
        library.espeak_SetSynthCallback(self._callback)

    def read(self, text: str, voice: str, rate: int, pitch: int) -> Reading:
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise CorpusError(f"espeak-ng has no voice '{voice}'; see its list of voices")
        self._library.espeak_SetParameter(PARAMETER_RATE, rate, 0)
        self._library.espeak_SetParameter(PARAMETER_PITCH, pitch, 0)
        same_noise()
        self._library.espeak_ng_SetRandSeed(c_long(1))  # it starts from the time of day
        data = text.encode("ascii")
        flags = CHARS_UTF8 | END_PAUSE
        if self._library.espeak_Synth(data, len(data) + 1, 0, 1, 0, flags, None, None) != 0:
            raise CorpusError(f"espeak-ng's voice '{voice}' cannot read '{text}'")
        self._library.espeak_Synchronize()
        if not self._samples:
            raise CorpusError(f"espeak-ng's voice '{voice}' says nothing for '{text}'")
        samples = np.concatenate(self._samples)
        sounds = _sounds(self._marks, len(samples))
        phones = tuple(
            Phone(symbol, start / self._sample_rate, end / self._sample_rate)
            for symbol, start, end in sounds
        )
        return Reading(samples, self._sample_rate, self._words(text, sounds), phones)

    def _words(self, text: str, sounds: list[tuple[str, int, int]]) -> tuple[Word, ...]:
        """Return the words, each timed by the sounds between its mark and the next word's.

        A number has a mark for each of its parts, and words such as `of the` share one; so marks
        are sorted into the words of the text by their position.
        """
        names = words_of(text)
        onsets: dict[int, int] = {}  # place in `names` -> sample
        for mark in self._marks:
            if mark.type == EVENT_WORD:
                before = [k for k, (offset, _) in enumerate(names) if offset <= mark.position - 1]
                onsets.setdefault(before[-1] if before else 0, mark.sample)
        places = sorted(onsets)
        words = []
        for this, following in zip(places, [*places[1:], len(names)], strict=True):
            until = onsets.get(following)
            own = [
                sound
                for sound in sounds
                if sound[1] >= onsets[this] and (until is None or sound[1] < until)
            ]
            if own:
                name = " ".join(name for _, name in names[this:following])
                start, end = own[0][1] / self._sample_rate, own[-1][2] / self._sample_rate
                words.append(Word(name, start, end))
        return tuple(words)

    def _take(self, samples: Any, count: int, events: Any) -> int:
        if samples and count > 0:
            self._samples.append(np.ctypeslib.as_array(samples, (count,)).copy())
        for event in events:
            if event.type == EVENT_END:
                break
            symbol = ""
            if event.type == EVENT_PHONEME:
                symbol = bytes(event.id.string).decode("utf-8", "ignore")
            self._marks.append(_Mark(event.type, event.sample, event.text_position, symbol))
        return 0


def _sounds(marks: list[_Mark], total: int) -> list[tuple[str, int, int]]:
    """Return the sounds as (symbol, first sample, sample after the last), without pauses."""
    onsets = [mark for mark in marks if mark.type == EVENT_PHONEME]
    ends = [min(mark.sample, total) for mark in onsets[1:]] + [total]
    return [
        (mark.symbol, mark.sample, end)
        for mark, end in zip(onsets, ends, strict=True)
        if mark.symbol and end > mark.sample
    ]
