"""Query by example on QUESST 2014: the layer is chosen on dev, and tested once.

s3prl's expert gives the recordings and the settings; the alignment is `dtw`'s, and the scores are
written in the form that the official scorer reads.
"""

from __future__ import annotations

import logging
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..errors import ConfigError, CorpusError
from .batches import evaluation_batches
from .dtw import find_distance, match_costs
from .experts import Loaders, build_expert
from .plan import Plan
from .task import EXPERT, Scores
from .twv import measure_detection
from .upstreams import as_states, check_selection

logger = logging.getLogger(__name__)

SHORTEST = 5  # frames; a shorter query scores 0 everywhere
DETECTED = 2.0  # standard deviations above a query's mean score
SCORER = "score-TWV-Cnxe.sh"
UNREPORTED = "-10"  # the score of trials that a system leaves out
TRUTH = {"dev": "groundtruth_quesst14_dev", "test": "groundtruth_quesst14_eval"}
SCORED = re.compile(r"actTWV:\s*(\S+)\s+maxTWV:\s*(\S+)\s+Threshold:\s*(\S+)")


@dataclass(frozen=True)
class _Recordings:
    """Features of a split's queries and documents on disk, a file a layer."""

    folder: Path
    names: tuple[str, ...]
    lengths: tuple[int, ...]
    """Frames."""
    width: int

    def of(self, layer: int, device: torch.device) -> list[Tensor]:
        """Read a layer's features, (T, D) each."""
        values = np.fromfile(self.folder / str(layer), dtype=np.float32).reshape(-1, self.width)
        return list(torch.from_numpy(values).to(device).split(self.lengths))


def evaluate_qbe(
    plan: Plan, upstream: nn.Module, device: torch.device
) -> tuple[Scores, dict[str, Any]]:
    """Find queries in documents by every layer on dev, then by the best one on test.

    With `-t dev`, on dev alone.

    Args:
        plan: the run; its folder exists.
        upstream: the upstream, in evaluation mode.
        device: the upstream's device; alignments are computed there too.

    Returns:
        Metrics of dev and test, and what was chosen how.

    Raises:
        ConfigError: a setting that is not supported.
        CorpusError: the corpus lacks something.
    """
    selection, layer = str(plan.request.selection), plan.request.layer
    count = check_selection(upstream, selection, layer, device)
    layers = list(range(count)) if layer is None else [layer % count]
    settings = plan.config[EXPERT]
    _check(settings)
    unknown = set(plan.splits) - {"dev", "test"}
    if unknown:
        raise ConfigError(f"-t: {plan.task.name} has the splits dev and test, found {min(unknown)}")
    loaders = Loaders(plan.task, build_expert(plan, width=1, rate=1))
    root, folder = Path(settings["datarc"]["dataset_root"]), plan.folder
    workers = plan.runner.num_workers
    with tempfile.TemporaryDirectory(dir=folder, prefix="features-") as scratch:
        store = _Extractor(upstream, selection, device, workers, Path(scratch))
        dev = loaders.evaluation("dev")
        queries = int(dev.dataset.n_queries)  # type: ignore[attr-defined]
        held = store.extract(dev, range(len(dev.dataset)), "dev", layers)  # type: ignore[arg-type]
        by_layer = {}
        for number in tqdm(layers, desc="dev", unit="layer", leave=False):
            features = held.of(number, device)
            by_layer[number] = _score(
                features, held.names, queries, settings, folder / f"dev-{number}", root, "dev"
            )
            logger.info("layer %d, dev: maxTWV %.4f", number, by_layer[number]["maxTWV"])
        best = max(by_layer, key=lambda number: by_layer[number]["maxTWV"])
        scores = {"dev": by_layer[best]}
        if plan.task.test in plan.splits:
            test = loaders.evaluation("test")
            asked = int(test.dataset.n_queries)  # type: ignore[attr-defined]
            if asked + len(held.names) - queries != len(test.dataset):  # type: ignore[arg-type]
                raise CorpusError("dev and test must have the same documents; check the lists")
            again = store.extract(test, range(asked), "test", [best])
            features = [*again.of(best, device), *held.of(best, device)[queries:]]
            names = (*again.names, *held.names[queries:])
            scores["test"] = _score(
                features, names, asked, settings, folder / f"test-{best}", root, "test"
            )
    official = all("maxTWV_official" in split for split in scores.values())
    notes = {
        "layer": best,
        "layer_chosen": "on dev, by maxTWV" if layer is None else "by -l",
        "dev_maxTWV_by_layer": {str(n): found["maxTWV"] for n, found in by_layer.items()},
        "maxTWV": f"{'official' if official else 'own'} scorer; names that end in _own are this "
        "project's, checked against the definition",
        "dtw": settings["dtwrc"],
    }
    return scores, notes


class _Extractor:
    """Compute features once and keep them on disk: all layers of a corpus outgrow the memory."""

    def __init__(
        self,
        upstream: nn.Module,
        selection: str,
        device: torch.device,
        workers: int | None,
        scratch: Path,
    ) -> None:
        self._upstream = upstream
        self._selection = selection
        self._device = device
        self._workers = workers
        self._scratch = scratch

    @torch.no_grad()
    def extract(
        self, loader: Any, items: Sequence[int], split: str, layers: Sequence[int]
    ) -> _Recordings:
        folder = self._scratch / split
        folder.mkdir()
        names: list[str] = []
        lengths: list[int] = []
        width = 0
        files = {layer: (folder / str(layer)).open("wb") for layer in layers}
        loader = torch.utils.data.DataLoader(
            torch.utils.data.Subset(loader.dataset, items), collate_fn=loader.collate_fn
        )
        what = f"{split} recordings of quesst14_dtw"
        read = evaluation_batches(loader, what, 0, self._workers)
        try:
            for batch in tqdm(read, total=len(items), desc=split, leave=False):
                # One at a time, so that features do not depend on the batch.
                wav = torch.from_numpy(batch.wavs[0]).to(self._device)
                states = as_states(self._upstream([wav])[self._selection])
                frames = max(1, round(len(wav) / self._rate()))
                for layer, file in files.items():
                    kept = states[layer][0, :frames].float().cpu()
                    kept.numpy().tofile(file)
                    width = kept.shape[1]
                lengths.append(len(kept))
                names.append(str(batch.others[0][0]))
        finally:
            for file in files.values():
                file.close()
        return _Recordings(folder, tuple(names), tuple(lengths), width)

    def _rate(self) -> int:
        """Return the samples to a frame, as s3prl's featurizer reads them."""
        return int(self._upstream.get_downsample_rates(self._selection))  # type: ignore[operator]


def _check(settings: Mapping[str, Any]) -> None:
    dtw = settings["dtwrc"]
    find_distance(dtw["dist_method"])
    if dtw["step_pattern"] != "asymmetric" or not dtw["subsequence"]:
        raise ConfigError(
            "dtwrc: only step_pattern=asymmetric with subsequence=true is here, which is SUPERB's; "
            f"found {dtw['step_pattern']} with subsequence={dtw['subsequence']}"
        )


def _score(
    features: Sequence[Tensor],
    names: Sequence[str],
    queries: int,
    settings: Mapping[str, Any],
    folder: Path,
    root: Path,
    split: str,
) -> dict[str, float]:
    """Score every document for every query, write the list, and measure it."""
    if settings["silence_frame"] is not None:
        silence = int(settings["silence_frame"])
        features = [f[f.argmax(1) != silence] for f in features]
    if settings["feature_normalization"]:
        every = torch.cat(list(features))
        mean, std = every.mean(0), every.std(0).clamp_min(1e-9)
        features = [(f - mean) / std for f in features]
    asked, documents = features[:queries], features[queries:]
    long_enough = [place for place, query in enumerate(asked) if len(query) >= SHORTEST]
    scores = np.zeros((queries, len(documents)))
    dtw = settings["dtwrc"]
    costs = match_costs(
        [asked[place] for place in long_enough],
        documents,
        find_distance(dtw["dist_method"]),
        bool(dtw["minmax_norm"]),
    )
    scores[long_enough] = -costs.double().numpy()
    mean_score = scores.mean(1, keepdims=True)
    scores = (scores - mean_score) / scores.std(1, keepdims=True).clip(1e-9)
    folder.mkdir(exist_ok=True)
    _write(folder / "benchmark.stdlist.xml", names[:queries], names[queries:], scores)
    targets = _targets(root / "scoring" / TRUTH[split], names[:queries], names[queries:])
    own = asdict(measure_detection(scores, targets, DETECTED))
    found = {"maxTWV": own["max_twv"], "maxTWV_own": own["max_twv"], "minCnxe_own": own["min_cnxe"]}
    official = _official(root / "scoring", TRUTH[split], folder)
    if official is not None:
        found |= {"maxTWV": official, "maxTWV_official": official}
    return {name: round(float(value), 6) for name, value in found.items()}


def _write(
    path: Path, queries: Sequence[str], documents: Sequence[str], scores: np.ndarray
) -> None:
    """Write detections as NIST's spoken term detection lists them."""
    root = ElementTree.Element(
        "stdlist",
        termlist_filename=path.name,
        indexing_time="1.00",
        language="english",
        index_size="1",
        system_id="benchmark",
    )
    for query, row in zip(queries, scores, strict=True):
        listed = ElementTree.SubElement(
            root, "detected_termlist", termid=query, term_search_time="1.0", oov_term_count="1"
        )
        for document, score in zip(documents, row, strict=True):
            ElementTree.SubElement(
                listed,
                "term",
                file=document,
                channel="1",
                tbeg="0.000",
                dur="0.00",
                score=f"{score:.4f}",
                decision="YES" if score > DETECTED else "NO",
            )
    ElementTree.indent(root)
    ElementTree.ElementTree(root).write(path, encoding="UTF-8", xml_declaration=True)


def _targets(folder: Path, queries: Sequence[str], documents: Sequence[str]) -> np.ndarray:
    """Read which documents hold which queries, (queries, documents)."""
    files = sorted(folder.glob("*.rttm"))
    if not files:
        raise CorpusError(f"no ground truth '{folder}/*.rttm'; restore it")
    row = {name: place for place, name in enumerate(queries)}
    column = {name: place for place, name in enumerate(documents)}
    found = np.zeros((len(queries), len(documents)), dtype=bool)
    for file in files:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise CorpusError(f"cannot read the ground truth '{file}' ({error})") from error
        for line in lines:
            fields = line.split()
            if len(fields) < 6 or fields[0] != "LEXEME":
                continue
            # Trials in other languages than the task's are not among the lists.
            if fields[1] in column and fields[5] in row:
                found[row[fields[5]], column[fields[1]]] = True
    return found


def _official(scoring: Path, truth: str, folder: Path) -> float | None:
    """Let the corpus' own scorer measure a list; None where it has none, or it does not run."""
    if not (scoring / SCORER).is_file():
        return None
    command = ["bash", SCORER, str(folder.resolve()), truth, UNREPORTED]
    done = subprocess.run(command, cwd=scoring, capture_output=True, text=True, check=False)
    match = SCORED.search(done.stdout)
    if match is None:
        reason = (done.stderr or done.stdout).strip().splitlines() or ["it says nothing"]
        logger.warning("%s failed (%s); only the own scorer counts", SCORER, reason[-1])
        return None
    return float(match.group(2))
