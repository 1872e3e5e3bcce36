"""A speech corpus of a few readings, that the mini encoders' tests share."""

from __future__ import annotations

import numpy as np
import pytest
import soxr

from s3prl_speechclip.minis.speech import Recording, SpeechCorpus
from s3prl_speechclip.minis.synthesis import fetch_libraries, read_aloud

SENTENCES = (
    "a red bird sits on the tree",
    "the old man sells green apples",
    "two small dogs run over the bridge",
    "she plays the violin at night",
)
VOICES = ("flite-kal16", "espeak-en-us")


@pytest.fixture(scope="session")
def small_speech() -> SpeechCorpus:
    """Eight readings by two voices; the first two recordings are the same one twice."""
    libraries = fetch_libraries()
    readings = [(v, read_aloud(s, v, libraries)) for v in VOICES for s in SENTENCES]
    readings.insert(0, readings[0])
    samples, recordings, start = [], [], 0
    for number, (voice, reading) in enumerate(readings):
        part = soxr.resample(reading.samples, reading.sample_rate, 16_000)
        samples.append(part)
        recordings.append(
            Recording(
                recording_id=str(number),
                start=start,
                length=len(part),
                source="readings",
                speaker=voice,
                language="en",
                split="dev" if number == 8 else "train",
                synthetic=True,
            )
        )
        start += len(part)
    return SpeechCorpus(tuple(recordings), np.concatenate(samples))
