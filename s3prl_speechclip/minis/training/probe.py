"""What frame features know: phones, phrases and words, by linear probes and by clusters.

A probe learns nothing but a linear layer. It is trained on some speakers and tested on others, who
say other sentences.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans
from torch import nn
from torch.nn import functional as F

from ...errors import CorpusError
from ...structures import HOP, SAMPLE_RATE
from ..speech import Recording, SpeechCorpus
from .units import WINDOW

Frames = Mapping[int, NDArray[np.float32]]
"""The (T, D) features of recordings, by their index in the corpus."""

STEPS = 50  # of L-BFGS
PENALTY = 1e-3  # weight of the squared weights beside the mean cross-entropy
FITTED = 30_000  # frames that a phone probe and clusters are fitted to
CLUSTERS = 100
FOLDS = 5  # groups of speakers, each tested once
LANGUAGE = "en"  # whose phrases are compared


@dataclass(frozen=True)
class Labelled:
    """Examples of a linear probe."""

    features: NDArray[np.float32]
    """(N, D)"""
    labels: NDArray[np.str_]
    """(N,)"""
    groups: NDArray[np.int64]
    """(N,) what belongs together: the frames of one sound, or the recordings of one speaker."""


def phone_probe(
    frames: Frames,
    corpus: SpeechCorpus,
    train_on: Sequence[int],
    test_on: Sequence[int],
    seed: int = 0,
) -> dict[str, float]:
    """Tell the phones of sentences that the probe has not seen.

    Args:
        frames: of the recordings.
        corpus: with the times of their phones. Frames in pauses are left out.
        train_on: recordings that the probe is trained on.
        test_on: those that it is tested on.
        seed: of the choice of frames and of k-means.

    Returns:
        In percent: `frame_accuracy`; `phone_error`, of whole phones with known borders; `purity`
        and `pnmi` (mutual information of cluster and phone over the phones' entropy; HuBERT,
        arXiv 2106.07447, section V-A) of 100 k-means clusters on the test frames.
    """
    frames = normalized_by_speaker(frames, corpus)
    train = _phone_frames(frames, corpus, train_on)
    test = _phone_frames(frames, corpus, test_on)
    random = np.random.default_rng(seed)
    kept = np.sort(random.permutation(len(train.labels))[:FITTED])
    train = Labelled(train.features[kept], train.labels[kept], train.groups[kept])
    names, scores = linear_probe(train, test.features)
    kmeans = MiniBatchKMeans(
        CLUSTERS, batch_size=4096, n_init=3, max_iter=50, random_state=seed
    ).fit(train.features)
    purity, pnmi = cluster_quality(kmeans.predict(test.features), test.labels)
    # One column a phone: the mean over its frames decides.
    _, first, sound = np.unique(test.groups, return_index=True, return_inverse=True)
    sums = np.zeros((len(first), len(names)), np.float32)
    np.add.at(sums, sound, scores)
    return {
        "frame_accuracy": _percent(names[scores.argmax(1)] == test.labels),
        "phone_error": _percent(names[sums.argmax(1)] != test.labels[first]),
        "purity": 100 * purity,
        "pnmi": 100 * pnmi,
    }


def same_voices(corpus: SpeechCorpus) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Part `probe_train` in sentences to train a phone probe on and one in `FOLDS` to test it."""
    indices = corpus.split("probe_train")
    by_voice: dict[str, list[int]] = {}
    for index in indices:
        by_voice.setdefault(corpus.recordings[index].speaker, []).append(index)
    test = {index for own in by_voice.values() for index in own[::FOLDS]}
    return tuple(i for i in indices if i not in test), tuple(sorted(test))


def phrase_recordings(corpus: SpeechCorpus) -> tuple[int, ...]:
    """Give the English recordings of phrases that people of several packs say."""
    return tuple(
        index
        for index, recording in enumerate(corpus.recordings)
        if recording.phrase and recording.language == LANGUAGE
    )


def phrase_probe(frames: Frames, corpus: SpeechCorpus) -> dict[str, float]:
    """Tell phrases of people whom the probe has not heard, from features averaged over time.

    Args:
        frames: of `phrase_recordings`.
        corpus: what they are of.

    Returns:
        `accuracy` in percent, each speaker tested once by a probe trained on the speakers of other
        folds; a phrase that nobody else says counts as wrong.
    """
    frames = normalized_by_speaker(frames, corpus)
    indices = phrase_recordings(corpus)
    speakers = sorted({corpus.recordings[i].speaker for i in indices})
    fold_of = {speaker: number % FOLDS for number, speaker in enumerate(speakers)}
    examples = Labelled(
        np.stack([frames[i].mean(0) for i in indices]),
        np.array([corpus.recordings[i].phrase for i in indices]),
        np.array([fold_of[corpus.recordings[i].speaker] for i in indices]),
    )
    right = np.zeros(len(indices), bool)
    for fold in range(FOLDS):
        test = examples.groups == fold
        if test.any() and not test.all():
            names, scores = linear_probe(_subset(examples, ~test), examples.features[test])
            right[test] = names[scores.argmax(1)] == examples.labels[test]
    return {"accuracy": _percent(right)}


def word_probe(train: Labelled, test: Labelled) -> dict[str, float]:
    """Tell words from features averaged over their time.

    Returns:
        `accuracy` in percent, and `class_accuracy`, where every word weighs alike.
    """
    names, scores = linear_probe(train, test.features)
    right = names[scores.argmax(1)] == test.labels
    by_word = [right[test.labels == word].mean() for word in np.unique(test.labels)]
    return {"accuracy": _percent(right), "class_accuracy": 100 * float(np.mean(by_word))}


def linear_probe(
    train: Labelled, features: NDArray[np.float32]
) -> tuple[NDArray[np.str_], NDArray[np.float32]]:
    """Train a linear layer to convergence.

    Args:
        train: examples.
        features: (M, D) to classify.

    Returns:
        The labels' names, (C,), and the log-probability of each, (M, C).

    Raises:
        CorpusError: there are fewer than two labels, or features that are no numbers.
    """
    names, targets = np.unique(train.labels, return_inverse=True)
    if len(names) < 2:
        raise CorpusError(f"a probe needs two labels or more, found {len(names)}")
    mean, scale = train.features.mean(0), train.features.std(0) + 1e-5
    inputs = torch.from_numpy((train.features - mean) / scale)
    if not bool(inputs.isfinite().all()):
        raise CorpusError("a probe needs features that are numbers, found NaN or infinity")
    labels = torch.from_numpy(targets)
    with torch.enable_grad():
        weight = nn.Parameter(torch.zeros(len(names), inputs.shape[1]))
        bias = nn.Parameter(torch.zeros(len(names)))
        optimizer = torch.optim.LBFGS(
            [weight, bias], max_iter=STEPS, history_size=10, line_search_fn="strong_wolfe"
        )

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(F.linear(inputs, weight, bias), labels)
            loss = loss + PENALTY * weight.square().sum()
            loss.backward()
            return loss

        optimizer.step(closure)
    with torch.no_grad():
        scores = F.linear(torch.from_numpy((features - mean) / scale), weight, bias)
        return names, scores.log_softmax(-1).numpy()


def cluster_quality(clusters: NDArray[np.integer], labels: NDArray[np.str_]) -> tuple[float, float]:
    """Compare clusters with labels.

    Args:
        clusters: (N,)
        labels: (N,)

    Returns:
        Purity, the share of examples with the commonest label of their cluster; and the mutual
        information of both over the entropy of the labels, 0 where there is but one label.
    """
    _, rows = np.unique(clusters, return_inverse=True)
    _, columns = np.unique(labels, return_inverse=True)
    joint = np.zeros((rows.max() + 1, columns.max() + 1))
    np.add.at(joint, (rows, columns), 1 / len(rows))
    cluster, label = joint.sum(1, keepdims=True), joint.sum(0, keepdims=True)
    there = joint > 0
    shared = float((joint[there] * np.log(joint[there] / (cluster * label)[there])).sum())
    entropy = float(-(label * np.log(label)).sum())
    return float(joint.max(1).sum()), shared / entropy if entropy > 0 else 0.0


def frame_centres(count: int) -> NDArray[np.float64]:
    """Give the seconds at the middle of each frame's window."""
    return (np.arange(count) * HOP + WINDOW / 2) / SAMPLE_RATE


def normalized_by_speaker(frames: Frames, corpus: SpeechCorpus) -> dict[int, NDArray[np.float32]]:
    """Give each speaker's frames zero mean and unit variance, as for the units."""
    speakers = {index: corpus.recordings[index].speaker for index in frames}
    return normalized_by(frames, speakers)


def normalized_by(frames: Frames, speakers: Mapping[int, str]) -> dict[int, NDArray[np.float32]]:
    """As `normalized_by_speaker`, with the speakers given."""
    done = {}
    for speaker in sorted(set(speakers.values())):
        own = [index for index in frames if speakers[index] == speaker]
        table = np.concatenate([frames[index] for index in own])
        mean, scale = table.mean(0), table.std(0) + 1e-5
        done.update({index: ((frames[index] - mean) / scale).astype(np.float32) for index in own})
    return done


def _phone_frames(frames: Frames, corpus: SpeechCorpus, indices: Sequence[int]) -> Labelled:
    features, labels, sounds = [], [], []
    number = 0
    for index in indices:
        own = frames[index]
        names, places = _phones(corpus.recordings[index], len(own))
        spoken = places >= 0
        features.append(own[spoken])
        labels.append(names[spoken])
        sounds.append(places[spoken] + number)
        number += len(corpus.recordings[index].phones)
    return Labelled(np.concatenate(features), np.concatenate(labels), np.concatenate(sounds))


def _phones(recording: Recording, count: int) -> tuple[NDArray[np.str_], NDArray[np.int64]]:
    """Give each frame's phone and the place of it in the recording, -1 in pauses."""
    if not recording.phones:
        raise CorpusError(f"'{recording.recording_id}' has no phone times; build the corpus again")
    centres = frame_centres(count)
    starts = np.array([phone.start for phone in recording.phones])
    ends = np.array([phone.end for phone in recording.phones])
    places = np.searchsorted(starts, centres, side="right") - 1
    places[(places < 0) | (centres >= ends[places])] = -1
    return np.array([phone.symbol for phone in recording.phones])[places], places


def _subset(examples: Labelled, chosen: NDArray[np.bool_]) -> Labelled:
    return Labelled(examples.features[chosen], examples.labels[chosen], examples.groups[chosen])


def commonest(labels: Iterable[str]) -> float:
    """Give the percentage that guessing the commonest label gets right."""
    _, counts = np.unique(np.array(list(labels)), return_counts=True)
    return 100 * float(counts.max() / counts.sum())


def _percent(right: NDArray[np.bool_]) -> float:
    return 100 * float(right.mean())
