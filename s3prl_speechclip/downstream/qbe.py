"""Query by example on QUESST 2014: the layer is chosen on dev, and tested once.

s3prl's expert gives the recordings and the settings; the scores are written in the form that the
official scorer reads.
"""

from __future__ import annotations

import logging
import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from ..data.files import read_lines
from ..data.layer_files import LayerFiles
from ..errors import ConfigError, CorpusError
from .batches import evaluation_batches
from .detection import find_distance, match_costs, measure_detection, twv_error
from .plan import Plan
from .probe import build_expert, data_loader
from .task import EXPERT, Scores
from .upstreams import as_states, check_selection

logger = logging.getLogger(__name__)

SHORTEST = 5  # frames; a shorter query scores 0 everywhere
DETECTED = 2.0  # standard deviations above a query's mean score
SCORER = "score-TWV-Cnxe.sh"
UNREPORTED = "-10"  # the score of trials that a system leaves out
TRUTH = {"dev": "groundtruth_quesst14_dev", "test": "groundtruth_quesst14_eval"}
MAX_TWV = re.compile(r"actTWV:\s*\S+\s+maxTWV:\s*(\S+)\s+Threshold:\s*\S+")

Read = Callable[[int], list[Tensor]]
"""Reads a layer's features of all recordings, (T, D) each."""


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
    layer = plan.request.layer
    count = check_selection(upstream, str(plan.request.selection), layer, device)
    layers = list(range(count)) if layer is None else [layer % count]
    dtw = plan.config[EXPERT]["dtwrc"]
    find_distance(dtw["dist_method"])
    if dtw["step_pattern"] != "asymmetric" or not dtw["subsequence"]:
        raise ConfigError(
            "dtwrc: only step_pattern=asymmetric with subsequence=true is here, which is SUPERB's; "
            f"found {dtw['step_pattern']} with subsequence={dtw['subsequence']}"
        )
    unknown = set(plan.splits) - {"dev", "test"}
    if unknown:
        raise ConfigError(f"-t: {plan.task.name} has the splits dev and test, found {min(unknown)}")
    expert = build_expert(plan, width=1, rate=1)
    with LayerFiles(plan.folder) as files, LayerFiles(plan.folder) as test_files:
        dev: Any = data_loader(plan.task, expert, "dev")
        queries, items = dev.dataset.n_queries, range(len(dev.dataset))
        names, read = _extract(plan, upstream, device, dev, "dev", items, files, layers)
        by_layer = {}
        for number in tqdm(layers, desc="dev", unit="layer", leave=False):
            by_layer[number] = _score(plan, "dev", number, read(number), names, queries)
            logger.info("layer %d, dev: maxTWV %.4f", number, by_layer[number]["maxTWV"])
        best = max(by_layer, key=lambda number: by_layer[number]["maxTWV"])
        scores = {"dev": by_layer[best]}
        if plan.task.test in plan.splits:
            test: Any = data_loader(plan.task, expert, "test")
            count = test.dataset.n_queries
            if count + len(names) - queries != len(test.dataset):
                raise CorpusError("dev and test must have the same documents; check the lists")
            items = range(count)
            test_names, read_test = _extract(
                plan, upstream, device, test, "test", items, test_files, [best]
            )
            features = [*read_test(best), *read(best)[queries:]]
            names = [*test_names, *names[queries:]]
            scores["test"] = _score(plan, "test", best, features, names, count)
    official = all("maxTWV_official" in split for split in scores.values())
    notes = {
        "layer": best,
        "layer_chosen": "on dev, by maxTWV" if layer is None else "by -l",
        "dev_maxTWV_by_layer": {str(n): found["maxTWV"] for n, found in by_layer.items()},
        "maxTWV": f"{'official' if official else 'own'} scorer; names that end in _own are this "
        "project's, checked against the definition; maxTWV_error: standard error over queries",
        "dtw": dtw,
    }
    return scores, notes


@torch.no_grad()
def _extract(
    plan: Plan,
    upstream: nn.Module,
    device: torch.device,
    loader: DataLoader[Any],
    split: str,
    items: Sequence[int],
    files: LayerFiles,
    layers: Sequence[int],
) -> tuple[list[str], Read]:
    """Compute features once and keep them on disk.

    Returns:
        Names of the recordings, and a reader of their features.
    """
    selection = str(plan.request.selection)
    rate = int(upstream.get_downsample_rates(selection))  # type: ignore[operator]
    names: list[str] = []
    lengths: list[int] = []
    chosen = DataLoader(Subset(loader.dataset, items), collate_fn=loader.collate_fn)
    what = f"{split} recordings of {plan.task.name}"
    batches = evaluation_batches(chosen, what, 0, plan.runner.num_workers)
    for batch in tqdm(batches, total=len(items), desc=split, leave=False):
        # One at a time, so that features do not depend on the batch.
        wav = torch.from_numpy(batch.wavs[0]).to(device)
        states = as_states(upstream([wav])[selection])
        frames = max(1, round(len(wav) / rate))
        kept = {layer: states[layer][0, :frames].float().cpu() for layer in layers}
        files.add(kept)
        lengths.append(len(kept[layers[0]]))
        names.append(str(batch.others[0][0]))
    return names, lambda layer: list(files.read(layer).to(device).split(lengths))


def _score(
    plan: Plan,
    split: str,
    layer: int,
    features: Sequence[Tensor],
    names: Sequence[str],
    count: int,
) -> dict[str, float]:
    """Score every document for every query, write the list, and measure it.

    Args:
        plan: the run.
        split: dev or test.
        layer: the features' layer, for the folder's name.
        features: of the queries, then of the documents, (T, D) each.
        names: of the same recordings.
        count: number of queries.
    """
    settings = plan.config[EXPERT]
    if settings["silence_frame"] is not None:
        silence = int(settings["silence_frame"])
        features = [f[f.argmax(1) != silence] for f in features]
    if settings["feature_normalization"]:
        every = torch.cat(list(features))
        mean, std = every.mean(0), every.std(0).clamp_min(1e-9)
        features = [(f - mean) / std for f in features]
    queries, documents = names[:count], names[count:]
    long_enough = [place for place, query in enumerate(features[:count]) if len(query) >= SHORTEST]
    scores = np.zeros((count, len(documents)))
    costs = match_costs(
        [features[place] for place in long_enough],
        features[count:],
        find_distance(settings["dtwrc"]["dist_method"]),
        bool(settings["dtwrc"]["minmax_norm"]),
    )
    scores[long_enough] = -costs.double().numpy()
    mean_score = scores.mean(1, keepdims=True)
    scores = (scores - mean_score) / scores.std(1, keepdims=True).clip(1e-9)
    folder = plan.folder / f"{split}-{layer}"
    folder.mkdir(exist_ok=True)
    _write(folder / "benchmark.stdlist.xml", queries, documents, scores)
    scoring = Path(settings["datarc"]["dataset_root"]) / "scoring"
    targets = _targets(scoring / TRUTH[split], queries, documents)
    max_twv, min_cnxe = measure_detection(scores, targets)
    found = {"maxTWV": max_twv, "maxTWV_own": max_twv, "minCnxe_own": min_cnxe}
    found["maxTWV_error"] = twv_error(scores, targets)
    official = _official(scoring, TRUTH[split], folder)
    if official is not None:
        found |= {"maxTWV": official, "maxTWV_official": official}
    return {name: round(value, 6) for name, value in found.items()}


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
    for fields in (line.split() for file in files for line in read_lines(file)):
        if len(fields) < 6 or fields[0] != "LEXEME":
            continue
        # Trials in other languages than the task's are not among the lists.
        if fields[1] in column and fields[5] in row:
            found[row[fields[5]], column[fields[1]]] = True
    return found


def _official(scoring: Path, truth: str, folder: Path) -> float | None:
    """Return maxTWV by the corpus's own scorer; None where it has none, or it does not run."""
    if not (scoring / SCORER).is_file():
        return None
    command = ["bash", SCORER, str(folder.resolve()), truth, UNREPORTED]
    done = subprocess.run(command, cwd=scoring, capture_output=True, text=True, check=False)
    match = MAX_TWV.search(done.stdout)
    if match is None:
        reason = (done.stderr or done.stdout).strip().splitlines() or ["it says nothing"]
        logger.warning("%s failed (%s); only the own scorer counts", SCORER, reason[-1])
        return None
    return float(match.group(1))
