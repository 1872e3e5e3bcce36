"""Phones, phrases and words in the mini HuBERT's features, by linear probes and by clusters.

Beside it stand the spectra of what it reads, and the same network untrained. A probe learns nothing
but a linear layer. It is trained on some speakers and tested on others, who say other sentences.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import homogeneity_score
from sklearn.metrics.cluster import contingency_matrix
from torchaudio.transforms import MelSpectrogram
from tqdm import tqdm

from ...data.audio import read_audio
from ...data.manifest import Manifest, Utterance, Word
from ...encoders.speech import SpeechEncoder, build_speech_encoder
from ...errors import CorpusError, EncoderError
from ...hashing import file_hash
from ...model.config import SpeechEncoderConfig
from ...results import result_record
from ...structures import HOP, SAMPLE_RATE, TaskResult
from ..synthesis.voices import HELD_OUT_VOICES
from .speech import SpeechCorpus
from .units import WINDOW, batches_of_like_length, frames_of, hidden_states, mfcc

Array = NDArray[np.float32]
Frames = Mapping[int, Array]
"""The (T, D) features of recordings, by their index in the corpus."""
Encode = Callable[[list[Array]], dict[str, list[Array]]]
"""Computes the (T, D) frames of waveforms, of several features by name."""
Figures = dict[str, float]
Captions = Mapping[str, Sequence[tuple[Utterance, Sequence[Word]]]]
"""Readings of captions with their words to classify, in small letters, by `train` and `test`."""

STEPS = 50  # of L-BFGS
PENALTY = 1e-3  # weight of the squared weights beside the mean cross-entropy
FITTED = 30_000  # frames that a phone probe and clusters are fitted to
CLUSTERS = 100
FOLDS = 5  # groups of speakers, each tested once
LANGUAGE = "en"  # whose phrases are compared
WEIGHTS = "model.safetensors"
MELS = 40
CONTEXT = 5  # frames on either side in `mfcc_context`

WORD_VOICES = {
    "train": ("flite-slt", "flite-awb", "flite-kal16", "espeak-en-us", "espeak-en-us+f3"),
    "test": tuple(HELD_OUT_VOICES),
}
"""The stamps' synthetic voices; those of the test are never trained on, HuBERT included."""
CAPTIONS = {"train": ("train",), "test": ("test_image", "dev_image")}
"""The stamps' splits whose captions are taken."""
FEWEST = 2  # training captions that a word is in

PROTOCOL: Mapping[str, Any] = {
    "phones": "flite's phones and their times; trained on voices slt, awb and kal16, tested on "
    "rms, other sentences of random words; frames in pauses left out",
    "phones_same_voices": f"the same, tested on one in {FOLDS} of the training voices' sentences, "
    "which are not trained on",
    "phrases": f"recordings by people, English voice packs; {FOLDS} folds of speakers",
    "words": f"word times in read captions; trained on {', '.join(WORD_VOICES['train'])}, tested "
    f"on {', '.join(WORD_VOICES['test'])}, captions of images that are not trained on; words of "
    f"{FEWEST} or more training captions",
    "normalisation": "zero mean and unit variance per speaker, of frames, for all features",
    "probe": "one linear layer, L-BFGS",
    "frames_fitted": FITTED,
    "clusters": CLUSTERS,
    "mfcc": "13 coefficients with first and second differences",
    "mfcc_context": f"mfcc of {2 * CONTEXT + 1} frames",
    "log_mel": f"{MELS} mel bands",
    "untrained": "the same architecture with random weights",
    "layer_0": "what enters the first transformer layer",
}


def evaluate_hubert(
    folder: Path, corpus: SpeechCorpus, stamps: Manifest, seed: int = 0
) -> TaskResult:
    """Probe a HuBERT for phones, phrases and words.

    Args:
        folder: folder of a transformers HubertModel, as it ships.
        corpus: the speech corpus.
        stamps: the default corpus, with the synthetic voices' word times.
        seed: seed of the untrained network and of k-means.

    Raises:
        EncoderError: the folder holds no such model.
        CorpusError: a split or the word times are missing.
    """
    started = time.perf_counter()
    if not (folder / WEIGHTS).is_file():
        raise EncoderError(f"'{folder}' holds no {WEIGHTS}; give the folder of a trained HuBERT")
    words = _words(stamps)
    metrics: dict[str, dict[str, Any]] = {
        task: {} for task in ("phones", "phones_same_voices", "phrases", "words")
    }
    for prefix, encode in (
        ("", spectral_frames),
        ("untrained/", partial(hidden_frames, _encoder(folder, weights=False, seed=seed))),
        ("trained/", partial(hidden_frames, _encoder(folder, weights=True, seed=seed))),
    ):
        for task, name, figures in _probe(encode, corpus, stamps, words, seed):
            metrics[task][prefix + name] = figures
    phones = [p.symbol for i in corpus.split("probe_test") for p in corpus.recordings[i].phones]
    metrics["chance"] = {
        "phones": commonest(phones),
        "phrases": commonest(corpus.recordings[i].phrase for i in phrase_recordings(corpus)),
        "words": commonest(w.text for _, spoken in words["test"] for w in spoken),
    }
    return result_record(
        started=started,
        task="probe",
        system="mini_hubert",
        size="mini",
        corpus="speech",
        checkpoint=str(folder),
        checkpoint_hash=file_hash(folder / WEIGHTS),
        metrics=metrics,
        protocol=dict(PROTOCOL),
        seed=seed,
        mini=True,
    )


def spectral_frames(waveforms: list[Array]) -> dict[str, list[Array]]:
    """Compute MFCC, MFCC of several frames, and log-mel spectra at HuBERT's frames."""
    plain = mfcc(waveforms)
    spectrum = MelSpectrogram(SAMPLE_RATE, n_fft=WINDOW, hop_length=HOP, n_mels=MELS, center=False)
    log_mel = [torch.log(spectrum(torch.from_numpy(w)) + 1e-6).T.numpy() for w in waveforms]
    return {"mfcc": plain, "mfcc_context": [_in_context(m) for m in plain], "log_mel": log_mel}


def hidden_frames(encoder: SpeechEncoder, waveforms: list[Array]) -> dict[str, list[Array]]:
    """Compute all hidden states of an encoder, as `layer_0`, `layer_1` and so on."""
    return {f"layer_{k}": layer for k, layer in enumerate(hidden_states(encoder, waveforms))}


def phone_probe(
    frames: Frames,
    corpus: SpeechCorpus,
    train_on: Sequence[int],
    test_on: Sequence[int],
    seed: int = 0,
) -> Figures:
    """Classify the phones of sentences that the probe has not seen.

    Args:
        frames: features of the recordings; those in pauses are left out.
        corpus: recordings with the times of their phones.
        train_on: recordings that the probe is trained on.
        test_on: recordings that it is tested on.
        seed: seed of the choice of frames and of k-means.

    Returns:
        In percent: `frame_accuracy`; `phone_error`, of whole phones with known borders; `purity`
        and `pnmi` (mutual information of cluster and phone over the phones' entropy; HuBERT,
        arXiv 2106.07447, section V-A) of 100 k-means clusters on the test frames.
    """
    frames = normalized_by(frames, {i: corpus.recordings[i].speaker for i in frames})
    features, labels, _ = _phone_frames(frames, corpus, train_on)
    tested, phones, sounds = _phone_frames(frames, corpus, test_on)
    random = np.random.default_rng(seed)
    kept = np.sort(random.permutation(len(labels))[:FITTED])
    names, scores = linear_probe(features[kept], labels[kept], tested)
    kmeans = MiniBatchKMeans(
        CLUSTERS, batch_size=4096, n_init=3, max_iter=50, random_state=seed
    ).fit(features[kept])
    purity, pnmi = cluster_quality(kmeans.predict(tested), phones)
    # One column a phone: the mean over its frames decides.
    _, first, sound = np.unique(sounds, return_index=True, return_inverse=True)
    sums = np.zeros((len(first), len(names)), np.float32)
    np.add.at(sums, sound, scores)
    return {
        "frame_accuracy": _percent(names[scores.argmax(1)] == phones),
        "phone_error": _percent(names[sums.argmax(1)] != phones[first]),
        "purity": 100 * purity,
        "pnmi": 100 * pnmi,
    }


def same_voices(corpus: SpeechCorpus) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Split `probe_train` into sentences to train a phone probe on and one in `FOLDS` to test."""
    indices = corpus.split("probe_train")
    by_voice: dict[str, list[int]] = {}
    for index in indices:
        by_voice.setdefault(corpus.recordings[index].speaker, []).append(index)
    test = {index for own in by_voice.values() for index in own[::FOLDS]}
    return tuple(i for i in indices if i not in test), tuple(sorted(test))


def phrase_recordings(corpus: SpeechCorpus) -> tuple[int, ...]:
    """Return the English recordings of phrases that people of several packs say."""
    return tuple(
        index
        for index, recording in enumerate(corpus.recordings)
        if recording.phrase and recording.language == LANGUAGE
    )


def phrase_probe(frames: Frames, corpus: SpeechCorpus) -> Figures:
    """Classify phrases of people that the probe was not trained on, by mean features.

    Args:
        frames: features of `phrase_recordings`.
        corpus: the recordings.

    Returns:
        `accuracy` in percent, each speaker tested once by a probe trained on the speakers of other
        folds; a phrase that nobody else says counts as wrong.
    """
    frames = normalized_by(frames, {i: corpus.recordings[i].speaker for i in frames})
    indices = phrase_recordings(corpus)
    speakers = sorted({corpus.recordings[i].speaker for i in indices})
    folds = np.array([speakers.index(corpus.recordings[i].speaker) % FOLDS for i in indices])
    features = np.stack([frames[i].mean(0) for i in indices])
    labels = np.array([corpus.recordings[i].phrase for i in indices])
    right = np.zeros(len(indices), bool)
    for fold in range(FOLDS):
        test = folds == fold
        if test.any() and not test.all():
            names, scores = linear_probe(features[~test], labels[~test], features[test])
            right[test] = names[scores.argmax(1)] == labels[test]
    return {"accuracy": _percent(right)}


def word_probe(
    train: tuple[Array, NDArray[np.str_]], test: tuple[Array, NDArray[np.str_]]
) -> Figures:
    """Classify words by features averaged over their time, (N, D), with their labels, (N,).

    Returns:
        `accuracy` in percent, and `class_accuracy`, where every word weighs alike.
    """
    tested, labels = test
    names, scores = linear_probe(*train, tested)
    right = names[scores.argmax(1)] == labels
    by_word = [right[labels == word].mean() for word in np.unique(labels)]
    return {"accuracy": _percent(right), "class_accuracy": 100 * float(np.mean(by_word))}


def linear_probe(
    features: Array, labels: NDArray[np.str_], tested: Array
) -> tuple[NDArray[np.str_], Array]:
    """Train a linear layer on examples (N, D) with labels (N,), and classify (M, D) with it.

    Returns:
        The labels' names, (C,), and the log-probability of each, (M, C).

    Raises:
        CorpusError: there are fewer than two labels, or features that are no numbers.
    """
    count = len(np.unique(labels))
    if count < 2:
        raise CorpusError(f"a probe needs two labels or more, found {count}")
    mean, scale = features.mean(0), features.std(0) + 1e-5
    inputs = (features - mean) / scale
    if not np.isfinite(inputs).all():
        raise CorpusError("a probe needs features that are numbers, found NaN or infinity")
    # scikit-learn weighs the sum of the losses by C, and half of the squared weights by 1.
    probe = LogisticRegression(C=1 / (2 * PENALTY * len(labels)), max_iter=STEPS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        probe.fit(inputs, labels)
    return probe.classes_, probe.predict_log_proba((tested - mean) / scale)


def cluster_quality(clusters: NDArray[np.integer], labels: NDArray[np.str_]) -> tuple[float, float]:
    """Compare the clusters of examples, (N,), with their labels, (N,).

    Returns:
        Purity, the share of examples with the commonest label of their cluster; and the mutual
        information of both over the entropy of the labels, 0 where there is but one label.
    """
    purity = contingency_matrix(labels, clusters).max(0).sum() / len(labels)
    several = len(np.unique(labels)) > 1
    return float(purity), homogeneity_score(labels, clusters) if several else 0.0


def frame_centres(count: int) -> NDArray[np.float64]:
    """Return the seconds at the middle of each frame's window."""
    return (np.arange(count) * HOP + WINDOW / 2) / SAMPLE_RATE


def normalized_by(frames: Frames, speakers: Mapping[int, str]) -> dict[int, Array]:
    """Normalise each speaker's frames to zero mean and unit variance, as for the units."""
    done = {}
    for speaker in sorted(set(speakers.values())):
        own = [index for index in frames if speakers[index] == speaker]
        table = np.concatenate([frames[index] for index in own])
        mean, scale = table.mean(0), table.std(0) + 1e-5
        done.update({index: ((frames[index] - mean) / scale).astype(np.float32) for index in own})
    return done


def _phone_frames(
    frames: Frames, corpus: SpeechCorpus, indices: Sequence[int]
) -> tuple[Array, NDArray[np.str_], NDArray[np.int64]]:
    """Return the frames that are no pauses, their phones, and a number for each spoken sound."""
    features, labels, sounds = [], [], []
    number = 0
    for index in indices:
        own, recording = frames[index], corpus.recordings[index]
        if not recording.phones:
            raise CorpusError(
                f"'{recording.recording_id}' has no phone times; build the corpus again"
            )
        centres = frame_centres(len(own))
        starts = np.array([phone.start for phone in recording.phones])
        ends = np.array([phone.end for phone in recording.phones])
        places = np.searchsorted(starts, centres, side="right") - 1
        spoken = (places >= 0) & (centres < ends[places])
        features.append(own[spoken])
        labels.append(np.array([phone.symbol for phone in recording.phones])[places[spoken]])
        sounds.append(places[spoken] + number)
        number += len(recording.phones)
    return np.concatenate(features), np.concatenate(labels), np.concatenate(sounds)


def commonest(labels: Iterable[str]) -> float:
    """Return the accuracy in percent of guessing the commonest label."""
    _, counts = np.unique(np.array(list(labels)), return_counts=True)
    return 100 * float(counts.max() / counts.sum())


def _percent(right: NDArray[np.bool_]) -> float:
    return 100 * float(right.mean())


def _probe(
    encode: Encode, corpus: SpeechCorpus, stamps: Manifest, words: Captions, seed: int
) -> Iterator[tuple[str, str, Figures]]:
    """Run the probes on every kind of feature; yield task, feature and figures."""
    train, test = corpus.split("probe_train"), corpus.split("probe_test")
    table = _encoded(encode, {i: corpus.waveform(i) for i in (*train, *test)}, "phones")
    for name, frames in table.items():
        yield "phones", name, phone_probe(frames, corpus, train, test, seed)
        yield "phones_same_voices", name, phone_probe(frames, corpus, *same_voices(corpus), seed)
    waveforms = {i: corpus.waveform(i) for i in phrase_recordings(corpus)}
    for name, frames in _encoded(encode, waveforms, "phrases").items():
        yield "phrases", name, phrase_probe(frames, corpus)
    read = [*words["train"], *words["test"]]
    waveforms = {i: read_audio(stamps.path(u.audio)) for i, (u, _) in enumerate(read)}
    speakers = {i: utterance.speaker for i, (utterance, _) in enumerate(read)}
    for name, frames in _encoded(encode, waveforms, "words").items():
        frames = normalized_by(frames, speakers)
        means = [_word_means(spoken, frames[i]) for i, (_, spoken) in enumerate(read)]
        cut = len(words["train"])
        parts = [list(chain.from_iterable(part)) for part in (means[:cut], means[cut:])]
        trained, tested = (
            (np.stack([mean for _, mean in part]), np.array([word for word, _ in part]))
            for part in parts
        )
        yield "words", name, word_probe(trained, tested)


def _encoder(folder: Path, *, weights: bool, seed: int) -> SpeechEncoder:
    config = SpeechEncoderConfig(name=str(folder), pretrained=weights, normalize_waveform=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_speech_encoder(config, batch_invariant=True).float().eval()


def _encoded(
    encode: Encode, waveforms: Mapping[int, Array], what: str
) -> dict[str, dict[int, Array]]:
    table: dict[str, dict[int, Array]] = {}
    with tqdm(total=len(waveforms), desc=f"encoding {what}", disable=None) as bar:
        for batch in batches_of_like_length({i: frames_of(len(w)) for i, w in waveforms.items()}):
            for name, found in encode([waveforms[index] for index in batch]).items():
                table.setdefault(name, {}).update(zip(batch, found, strict=True))
            bar.update(len(batch))
    return table


def _in_context(frames: Array) -> Array:
    """Concatenate each frame with those on either side, the first and last repeated."""
    padded = np.pad(frames, ((CONTEXT, CONTEXT), (0, 0)), mode="edge")
    width = 2 * CONTEXT + 1
    return np.concatenate([padded[k : k + len(frames)] for k in range(width)], axis=1)


def _words(stamps: Manifest) -> Captions:
    """Choose the readings of the word probe, and the words that are classified."""
    chosen: dict[str, list[tuple[Utterance, list[Word]]]] = {}
    captions: dict[str, dict[str, set[str]]] = {}
    for part, splits in CAPTIONS.items():
        seen = {u.caption for u in stamps.utterances if u.split in splits}
        unique = {
            (u.speaker, u.caption): (u, [replace(w, text=w.text.casefold()) for w in u.words])
            for u in stamps.utterances
            if u.speaker in WORD_VOICES[part] and u.caption in seen
        }
        chosen[part] = list(unique.values())
        captions[part] = {}
        for utterance, spoken in chosen[part]:
            for word in spoken:
                captions[part].setdefault(word.text, set()).add(utterance.caption)
    vocabulary = {
        word
        for word, found in captions["train"].items()
        if len(word) > 1 and len(found) >= FEWEST and word in captions["test"]
    }
    if len(vocabulary) < 2:
        raise CorpusError("the stamps have no words in both training and test captions")
    kept: dict[str, list[tuple[Utterance, list[Word]]]] = {part: [] for part in chosen}
    for part, own in chosen.items():
        for utterance, spoken in own:
            if known := [word for word in spoken if word.text in vocabulary]:
                kept[part].append((utterance, known))
    return kept


def _word_means(spoken: Sequence[Word], frames: Array) -> Iterator[tuple[str, Array]]:
    """Yield words with the mean of their frames; those without a frame are left out."""
    centres = frame_centres(len(frames))
    for word in spoken:
        within = (centres >= word.start) & (centres < word.end)
        if within.any():
            yield word.text, frames[within].mean(0)
