"""ABX errors: those of fastabx, of features that know all or nothing, and by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

from s3prl_speechclip.benchmarks.abx import MOST_ITEMS, measure, span
from s3prl_speechclip.benchmarks.formulas.abx_scores import abx_error, pair_distances, plan, warped
from s3prl_speechclip.benchmarks.shared.encoding import FeatureSource
from s3prl_speechclip.cli.benchmark import main
from s3prl_speechclip.data.corpora.zerospeech import (
    ITEM_COLUMNS,
    SUBSETS,
    Item,
    load_phonetic,
    read_items,
)
from s3prl_speechclip.errors import ResultError
from s3prl_speechclip.results import read_result

GOLDEN = Path(__file__).parent / "abx"
FASTABX = {"within": 0.21475694670031467, "across": 0.19866780191659927}
RATE = 50
Features = Mapping[str, np.ndarray]


def error(items: list[Item], features: Features, across: bool) -> float:
    """The error of features by recording."""
    firsts, total = {}, 0
    for name, frames in features.items():
        firsts[name], total = total, total + len(frames)
    spans = [span(i.onset, i.offset, RATE, len(features[i.file])) for i in items]
    starts = torch.tensor([firsts[i.file] + s for i, (s, _) in zip(items, spans, strict=True)])
    lengths = torch.tensor([stop - start for start, stop in spans])
    stacked = torch.from_numpy(np.concatenate(list(features.values())))
    own = plan(items, across=across)
    return abx_error(own, pair_distances(stacked, starts, lengths, own.pairs))


@pytest.mark.parametrize("kind", FASTABX)
def test_errors_are_fastabxs(kind: str) -> None:
    """Guards frames, distance, warping, cells and the order of the means, to 1e-6."""
    with np.load(GOLDEN / "features.npz") as features:
        found = error(read_items(GOLDEN / "small.item"), dict(features), kind == "across")
    assert found == pytest.approx(FASTABX[kind], abs=1e-6)


def many_items() -> list[Item]:
    """Triphones of 4 phones in 2 contexts, 5 by each of 3 speakers, in recordings of their own."""
    return [
        Item(f"{speaker}{phone}{left}{k}", 0.0, 0.1, phone, left, "T", speaker)
        for speaker in "xyz"
        for phone in "AEIO"
        for left in "BP"
        for k in range(5)
    ]


@pytest.mark.parametrize("across", [False, True])
def test_phones_themselves_have_no_error(across: bool) -> None:
    """Guards the sign: features that are the phone tell all apart."""
    items = many_items()
    hot = np.eye(4, dtype=np.float32)
    features = {i.file: np.repeat(hot["AEIO".index(i.phone)][None], 5, 0) for i in items}
    assert error(items, features, across) == 0
    same = {i.file: np.ones((5, 4), np.float32) for i in items}
    assert error(items, same, across) == 0.5, "ties count half"


@pytest.mark.parametrize("across", [False, True])
def test_noise_is_at_chance(across: bool) -> None:
    """Guards against an error that leans to one side: an item's own recording as A would."""
    items = many_items()
    random = np.random.default_rng(0)
    found = [
        error(
            items,
            {i.file: random.normal(size=(5, 4)).astype(np.float32) for i in items},
            across,
        )
        for _ in range(5)
    ]
    # One such mean spreads by some 0.015; five of them by half of that.
    assert np.mean(found) == pytest.approx(0.5, abs=0.03)


def test_a_case_by_hand() -> None:
    """Guards cells and means: one frame each, angles in quarter turns can be read off."""
    angles = {"a1": 0.0, "a2": 0.3, "e1": 0.4, "a3": 0.9, "e2": 0.35}
    items = [
        Item(name, 0.0, 0.02, name[0].upper(), "B", "T", "y" if name in ("a3", "e2") else "x")
        for name in angles
    ]
    features = {n: np.array([[np.cos(v), np.sin(v)]], np.float32) for n, v in angles.items()}
    # Within: only x says A twice. a1 is 0.3 from a2 and 0.4 from e1; a2 is 0.3 from a1 and 0.1
    # from e1: half is wrong.
    assert error(items, features, across=False) == 0.5
    # Across, X = A: a3 against (a1, e1) and (a2, e1), both wrong; a1 against (a3, e2) wrong, a2
    # against (a3, e2) wrong: 1. X = E: e2 against (e1, a1) right and (e1, a2), of equal distance
    # up to rounding, so moved: 0.35 is 0.05 from both.
    features["a2"] = np.array([[np.cos(0.31), np.sin(0.31)]], np.float32)
    # e2: 0.05 from e1, 0.04 from a2: 1 of 2 wrong; e1 by x: 0.05 from e2, 0.5 from a3: right.
    assert error(items, features, across=True) == pytest.approx((1 + (0.5 + 0) / 2) / 2)


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 10_000))
def test_warping_is_the_slow_ones(rows: int, columns: int, seed: int) -> None:
    """Guards lengths in a padded batch, and the path's length."""
    lattice = np.random.default_rng(seed).integers(0, 4, (2, 7, 8)).astype(np.float32)
    found = warped(torch.from_numpy(lattice), torch.tensor([rows, 7]), torch.tensor([columns, 8]))
    assert found[0].item() == pytest.approx(slow(lattice[0, :rows, :columns]))
    assert found[1].item() == pytest.approx(slow(lattice[1]))


def slow(lattice: np.ndarray) -> float:
    """The mean along the path, walked back from the end."""
    total = np.full((len(lattice) + 1, lattice.shape[1] + 1), np.inf)
    total[0, 0] = 0
    for i, row in enumerate(lattice, 1):
        for j, value in enumerate(row, 1):
            total[i, j] = value + min(total[i - 1, j - 1], total[i - 1, j], total[i, j - 1])
    i, j = lattice.shape
    steps = 0
    while (i, j) != (0, 0):
        steps += 1
        before = [(i - 1, j - 1), (i, j - 1), (i - 1, j)]
        i, j = min(before, key=lambda at: total[at])  # the first of equals
    return float(total[lattice.shape] / steps)


def test_large_groups_are_drawn_from() -> None:
    """Guards the limits of the official set, without which one phone is compared for hours."""
    items = [
        Item(f"{speaker}{phone}{k}", 0, 1, phone, "B", "T", speaker)
        for speaker in "abcdefgh"
        for phone in "AE"
        for k in range(30)
    ]
    own = plan(items, across=True, most_items=MOST_ITEMS, most_speakers=5)
    assert len(own.cells) == 2 * 8 * 5
    assert all(len(rows) == MOST_ITEMS for cell in own.cells for rows in cell[3:])
    assert (
        own.cells[0].x.tolist()
        == plan(items, across=True, most_items=10, most_speakers=5).cells[0].x.tolist()
    )
    assert all(items[x].speaker != cell.speaker for cell in own.cells for x in cell.x)


@pytest.mark.parametrize(
    ("onset", "offset", "expected"),
    [(0.07, 0.13, (3, 7)), (0.0, 0.02, (0, 1)), (0.041, 0.042, (2, 3)), (0.5, 0.6, (9, 10))],
)
def test_frames_of_an_interval(onset: float, offset: float, expected: tuple[int, int]) -> None:
    """Guards rounding of times, intervals shorter than a frame, and those after the last frame."""
    assert span(onset, offset, RATE, 10) == expected


def small_set(folder: Path) -> Path:
    """A set in which each phone is a tone."""
    tones = {"A": 300, "E": 1200}
    for subset in SUBSETS:
        home = folder / "phonetic" / subset
        home.mkdir(parents=True)
        lines = [" ".join(ITEM_COLUMNS)]
        for speaker, volume in (("x", 0.2), ("y", 0.3)):
            for phone, hertz in tones.items():
                for k in range(2):
                    name = f"{speaker}{phone}{k}"
                    tone = volume * np.sin(2 * np.pi * hertz * np.arange(8000) / 16_000)
                    soundfile.write(home / f"{name}.wav", tone, 16_000)
                    lines.append(f"{name} 0.1 0.{3 + k} {phone} B T {speaker}")
        (home / f"{subset}.item").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test_the_command_writes_a_result(tmp_path: Path) -> None:
    """Guards the command from a folder in the official layout to its file."""
    root, out = small_set(tmp_path / "set"), tmp_path / "abx.json"
    main(["abx", "-u", "log_mel", "--data-root", str(root), "--out", str(out), "--device", "cpu"])
    result = read_result(out)
    none = {"within": 0.0, "across": 0.0}
    assert result.metrics["test"] == {"clean": none, "other": none}
    assert result.metrics["dev_by_layer"] == {"0": result.metrics["dev"]}
    assert result.corpus == "zerospeech2021" and not result.mini


def layered(*layers: Callable[[torch.Tensor], torch.Tensor]) -> FeatureSource:
    """A system whose layers are functions of the frames' waveforms."""
    return FeatureSource(
        system="layers",
        encode=lambda waves: [tuple(f(w.view(-1, 320)) for f in layers) for w in waves],
    )


def test_the_layer_is_chosen_on_dev(tmp_path: Path) -> None:
    """Guards against the best layer of test, and against the first or last one."""
    data = load_phonetic(small_set(tmp_path / "set"))
    known = layered(
        lambda w: torch.eye(2)[:1].expand(len(w), 2),
        lambda w: torch.fft.rfft(w).abs(),
        lambda w: torch.eye(2)[1:].expand(len(w), 2),
    )
    metrics = measure(known, data, device="cpu").metrics
    assert metrics["chosen"] == {"layer": 1}
    assert metrics["test"]["clean"] == {"within": 0.0, "across": 0.0}
    assert metrics["dev_by_layer"]["2"]["other"] == {"within": 50.0, "across": 50.0}


def test_features_that_are_no_numbers_are_named(tmp_path: Path) -> None:
    """Guards against comparisons with NaN, which are all counted as right."""
    data = load_phonetic(small_set(tmp_path / "set"))
    with pytest.raises(ResultError, match="layer 0 of 'xA0'"):
        measure(layered(lambda w: torch.full((len(w), 2), torch.nan)), data, device="cpu")


def test_a_set_without_contrasts_is_refused() -> None:
    """Guards against the mean of nothing."""
    with pytest.raises(ResultError, match="middle phone"):
        abx_error(plan(many_items()[:5], across=False), np.empty(0, np.float32))
