"""espeak-ng, in this process: text to samples, words and phones with their times.

The library and its voices come with the package `espeakng-loader`, so that every machine has the
same version. What it says depends on all that it said before (the phases of its oscillators and its
flutter are never reset), so each text is read by a library that was loaded anew, in under 1 ms: a
text then gives the same samples whatever was read before it. For one thread at a time.
"""

from __future__ import annotations

import _ctypes
import ctypes
import math
import shutil
from collections.abc import Sequence
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_int, c_long, c_short, c_size_t, c_uint, c_void_p
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import espeakng_loader
import numpy as np

from ...data.cache import CACHE_VARIABLE, cache_home, made_once
from ...data.manifest import Word
from ...errors import CorpusError
from .aloud import Phone, Reading, same_noise, words_of
from .voices import Voice

# Names and values of espeak-ng's speak_lib.h.
AUDIO_OUTPUT_SYNCHRONOUS = 2
INITIALIZE_PHONEME_EVENTS, INITIALIZE_PHONEME_IPA, INITIALIZE_DONT_EXIT = 1, 2, 0x8000
EVENT_END, EVENT_WORD, EVENT_PHONEME = 0, 1, 7
PARAMETER_RATE, PARAMETER_PITCH = 1, 3
CHARS_UTF8, END_PAUSE = 1, 0x1000
SYNTH_ARGUMENTS = (c_char_p, c_size_t, c_uint, c_int, c_uint, c_uint, c_void_p, c_void_p)
EVENT_NUMBERS = ("type", "identifier", "text_position", "length", "audio_position", "sample")


class _Event(ctypes.Structure):
    _fields_ = [
        *((name, c_int) for name in EVENT_NUMBERS),
        ("user_data", c_void_p),
        ("symbol", ctypes.c_char * 8),
    ]


_Callback = CFUNCTYPE(c_int, POINTER(c_short), c_int, POINTER(_Event))


def read(text: str, voice: Voice, libraries: tuple[Path, ...] = ()) -> Reading:
    """Read a text, as `spoken` returns it; `libraries` are the other engine's.

    Raises:
        CorpusError: there is no such voice, or it said nothing.
    """
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    try:
        return _read(library, text, voice)
    finally:
        library.espeak_Terminate()
        _ctypes.dlclose(library._handle)


def _read(library: ctypes.CDLL, text: str, voice: Voice) -> Reading:
    options = INITIALIZE_PHONEME_EVENTS | INITIALIZE_PHONEME_IPA | INITIALIZE_DONT_EXIT
    sample_rate = library.espeak_Initialize(
        AUDIO_OUTPUT_SYNCHRONOUS, 0, bytes(english_data()), options
    )
    if sample_rate <= 0:
        raise CorpusError(
            f"espeak-ng cannot use its voices in '{english_data()}'; remove the folder, or, if its "
            f"path is longer than 140 characters, set {CACHE_VARIABLE} to a shorter one"
        )
    parts: list[np.ndarray] = []
    marks: list[tuple[int, str]] = []  # first sample and symbol of a sound
    words: list[tuple[int, int]] = []  # first sample and 0-based character of a word

    def take(samples: Any, count: int, events: Any) -> int:
        if samples and count > 0:
            parts.append(np.ctypeslib.as_array(samples, (count,)).copy())
        for event in events:
            if event.type == EVENT_END:
                break
            if event.type == EVENT_PHONEME:
                marks.append((event.sample, event.symbol.decode("utf-8", "ignore")))
            elif event.type == EVENT_WORD:
                words.append((event.sample, event.text_position - 1))
        return 0

    callback = _Callback(take)  # kept: the library calls it
    library.espeak_SetSynthCallback(callback)
    if library.espeak_SetVoiceByName(voice.name.encode()) != 0:
        raise CorpusError(f"espeak-ng has no voice '{voice.name}'; see its list of voices")
    library.espeak_SetParameter(PARAMETER_RATE, voice.rate, 0)
    library.espeak_SetParameter(PARAMETER_PITCH, voice.pitch, 0)
    same_noise()
    library.espeak_ng_SetRandSeed(c_long(1))  # it starts from the time of day
    data = text.encode("ascii")
    library.espeak_Synth.argtypes = SYNTH_ARGUMENTS
    flags = CHARS_UTF8 | END_PAUSE
    if library.espeak_Synth(data, len(data) + 1, 0, 1, 0, flags, None, None) != 0:
        raise CorpusError(f"espeak-ng's voice '{voice.name}' cannot read '{text}'")
    library.espeak_Synchronize()
    if not parts:
        raise CorpusError(f"espeak-ng's voice '{voice.name}' says nothing for '{text}'")
    samples = np.concatenate(parts)
    ends = [*(min(first, len(samples)) for first, _ in marks[1:]), len(samples)]
    phones = tuple(
        Phone(symbol, first / sample_rate, end / sample_rate)
        for (first, symbol), end in zip(marks, ends, strict=False)
        if symbol and end > first  # not a pause
    )
    timed = _timed(text, [(first / sample_rate, place) for first, place in words], phones)
    return Reading(samples, sample_rate, timed, phones)


@cache
def english_data() -> Path:
    """Copy espeak-ng's English data, 1 MB, with the accents' files where they are looked for first.

    Its own lie in a folder of their own and in capitals: all 130 are read at each text, in 2 ms.
    """
    data = Path(espeakng_loader.get_data_path())

    def fill(folder: Path) -> None:
        shutil.copytree(data / "voices", folder / "voices")
        (folder / "lang").mkdir()
        for path in (*data.glob("phon*"), data / "intonations", data / "en_dict"):
            shutil.copy(path, folder)
        for path in data.glob("lang/*/en*"):
            shutil.copy(path, folder / "lang" / path.name.lower())

    return made_once(cache_home() / "espeak-ng" / version("espeakng-loader"), fill)


def _timed(
    text: str, marks: Sequence[tuple[float, int]], phones: Sequence[Phone]
) -> tuple[Word, ...]:
    """Return the words, each timed by the phones between its mark and the next word's.

    A number has a mark for each of its parts, and words such as `of the` share one; so marks are
    sorted into the words of the text by their position.
    """
    names = words_of(text)
    onsets: dict[int, float] = {}  # place in `names` -> seconds
    for second, position in marks:
        place = sum(offset <= position for offset, _ in names) - 1
        onsets.setdefault(max(0, place), second)
    places = sorted(onsets)
    words = []
    for this, following in zip(places, [*places[1:], len(names)], strict=True):
        until = onsets.get(following, math.inf)
        own = [phone for phone in phones if onsets[this] <= phone.start < until]
        if own:
            name = " ".join(name for _, name in names[this:following])
            words.append(Word(name, own[0].start, own[-1].end))
    return tuple(words)
