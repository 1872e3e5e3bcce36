"""The declaration of a benchmark, shared by its command and `evaluate`."""

from __future__ import annotations

import ast
import hashlib
import importlib
import logging
import pkgutil
import re
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s3prl_speechclip import benchmarks
from s3prl_speechclip.config import parse_device
from s3prl_speechclip.errors import ConfigError, unknown_name
from s3prl_speechclip.options import add_option
from s3prl_speechclip.results import STORED, markdown_table, result_record, write_result
from s3prl_speechclip.structures import TaskResult

from .board import Section

if TYPE_CHECKING:
    from s3prl_speechclip.checkpoints.locate import Located
    from s3prl_speechclip.data.feature_store import FeatureStore
    from s3prl_speechclip.data.manifest import Manifest
    from s3prl_speechclip.encoders.image_features import ImageTable
    from s3prl_speechclip.model.embedding import RetrievalSet
    from s3prl_speechclip.model.speechclip import SpeechClip

logger = logging.getLogger(__name__)

RESULTS = Path("result") / "benchmark"
HASH_DIGITS = 8  # of a SHA-256 in the name of a result file
FILES = ("transcripts", "alignments")
"""Options of files that a result depends on."""
FOLDERS = ("data", "data_root")
"""Options of the folder of own data, which its name does not tell from others."""
TRAINING_STEPS = "training_steps"
"""In protocols: steps that the model was trained for, where its checkpoint says so."""
SEGMENTER = "segmenter"
"""In protocols: where the segments of `speechclip_words` came from, one of `SEGMENTED`."""
SEGMENTED = {
    "times": "word times of the corpus (oracle), minimum cut for recordings without",
    "cif": "integrate-and-fire, trained with the model",
    "mincut": "minimum cut of a hidden state's self-similarity, as arXiv 2305.11435",
    "windows": "equal parts",
}
DEFAULT_UPSTREAM = "speechclip_hybrid"


@dataclass(frozen=True)
class Measured:
    """A result, and the files that belong beside it."""

    result: TaskResult
    write_beside: Callable[[Path], None] | None = None
    """Writes pages and plots, given the path of the result file."""


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A command of `run_benchmark.py`."""

    add_options: Callable[[ArgumentParser], None]
    run: Callable[[Namespace], Measured | Path]
    """Measures; or returns the file that it made, if that is no result."""
    table: Callable[[TaskResult], str] | None = None
    """Lays a result out for standard output."""
    section: Section | None = None
    extra: str = "train"
    """Extra of the package that it needs."""


class Trial:
    """A model in evaluation mode and a corpus, as the options name them.

    `notes` collects what the record says of the corpus; `manifest` may be replaced by a part of it.
    """

    def __init__(self, args: Namespace) -> None:
        from s3prl_speechclip.data.corpora import load_corpus
        from s3prl_speechclip.data.manifest import Manifest

        self.args = args
        if getattr(args, "num_workers", 0) < 0:
            raise ConfigError(f"--num-workers must be 0 or more, found {args.num_workers}")
        # Mistyped names end before a mini set is made, and that before the model is read.
        find_model(args)
        self.manifest = (
            args.data
            if isinstance(args.data, Manifest)
            else load_corpus(args.data, args.data_root, args.archive, args.skip_broken)
        )
        for split in getattr(args, "split", None) or ():
            self.manifest.split(split)
        self.model, self.checkpoint, self.checkpoint_hash = load_model(args)
        self.notes: list[str] = []
        self.started = time.perf_counter()

    @property
    def splits(self) -> tuple[str, ...]:
        """Return the splits that the options name, else the corpus' test splits."""
        return tuple(self.args.split or self.manifest.require("testing").test_splits)

    @cached_property
    def stored(self) -> Mapping[str, FeatureStore]:
        """Return the measured splits' hidden states by name, where `--keep-states` is given."""
        from s3prl_speechclip.encoders.speech_features import cached_features

        if not getattr(self.args, "keep_states", False):
            return {}
        return cached_features(
            self.model.speech_encoder,
            self.manifest,
            self.splits,
            when="on",
            workers=self.args.num_workers,
            skip_broken=self.args.skip_broken,
        )

    @cached_property
    def images(self) -> ImageTable:
        """Features of the measured splits' images; recordings of broken ones leave the corpus."""
        from s3prl_speechclip.encoders.image_features import load_image_table

        images, self.manifest = load_image_table(
            self.model.clip, self.manifest, self.splits, skip_broken=self.args.skip_broken
        )
        return images

    def retrieval_set(self, split: str) -> RetrievalSet:
        """Return a split's recordings and images, ready to be embedded."""
        from s3prl_speechclip.model.embedding import retrieval_set

        images = self.images  # first, since it may leave recordings out
        return retrieval_set(
            self.manifest,
            split,
            images,
            batch_size=self.args.batch_size,
            skip_broken=self.args.skip_broken,
            features=self.stored.get(split),
        )

    def record(
        self, task: str, metrics: Mapping[str, Any], protocol: Mapping[str, Any], seed: int = 0
    ) -> TaskResult:
        """Return the record of the measurement; its protocol ends with the notes."""
        from s3prl_speechclip.data.corpora import CORPORA
        from s3prl_speechclip.model.config import find_variant

        config, manifest = self.model.config, self.manifest
        known = CORPORA.get(manifest.corpus)
        steps = self.model.about.get("step")
        about: dict[str, Any] = {"notes": [*manifest.notes, *self.notes]}
        if steps is not None:
            about[TRAINING_STEPS] = steps
        if find_variant(config.variant).keywords == "words":
            about[SEGMENTER] = SEGMENTED[config.words.at_inference]
        if self.stored:
            protocol = {**protocol, "hidden_states": STORED}
        return result_record(
            started=self.started,
            task=task,
            system=config.variant,
            size=config.size,
            corpus=known.public_name(manifest) if known else manifest.corpus,
            checkpoint=self.checkpoint,
            checkpoint_hash=self.checkpoint_hash,
            metrics=metrics,
            protocol={**protocol, **about},
            seed=seed,
            mini=manifest.mini or config.size == "mini",
        )


def benchmark_titles() -> dict[str, str]:
    """Return the line of each benchmark in `--help`, without importing any."""
    titles = {}
    for module in pkgutil.iter_modules(benchmarks.__path__):
        name = f"{module.name}/__init__.py" if module.ispkg else f"{module.name}.py"
        source = (Path(benchmarks.__path__[0]) / name).read_text(encoding="utf-8")
        if "\nBENCHMARK = " in source:
            docstring = ast.get_docstring(ast.parse(source)) or ""
            titles[module.name] = docstring.partition("\n")[0].rstrip(".")
    return titles


def load_benchmark(name: str) -> Benchmark:
    """Import a benchmark.

    Raises:
        ConfigError: there is no such benchmark.
    """
    known = benchmark_titles()
    if name not in known:
        raise ConfigError(unknown_name("benchmark", name, known))
    return importlib.import_module(f"{benchmarks.__name__}.{name}").BENCHMARK


def evaluate(
    model: SpeechClip | str | Path,
    task: str,
    *,
    corpus: Manifest | str | Path | None = None,
    root: str | Path | None = None,
    split: str | None = None,
    **options: Any,
) -> TaskResult:
    """Measure a model by a benchmark, as `run_benchmark.py TASK` does.

    Args:
        model: the model itself, which stays on its device, its hub name, or what `-k` takes.
        task: name of the benchmark, such as `retrieval`.
        corpus: manifest, name or folder of a corpus; None: the benchmark's default.
        root: folder of the corpus.
        split: the only split to measure; None: the corpus' test splits.
        **options: other options of the command, with underscores: `batch_size=8`.

    Returns:
        The record that the command writes; no file is written.

    Raises:
        ConfigError: an unknown benchmark or option.
        SpeechClipError: as the benchmark.
    """
    if isinstance(corpus, Path):
        corpus = str(corpus)
    given = {"data": corpus, "data_root": root, "split": None if split is None else [split]}
    args = request(model, task, **given, **options)
    training = not isinstance(model, str | Path) and model.training
    try:
        measured = load_benchmark(task).run(args)
    finally:
        if training and not isinstance(model, str | Path):
            model.train()
    assert isinstance(measured, Measured)
    return measured.result


def request(model: SpeechClip | str | Path, task: str, **options: Any) -> Namespace:
    """Return the options of a benchmark's command for a model; those that are None are not given.

    Raises:
        ConfigError: an unknown benchmark or option.
    """
    from s3prl_speechclip.model.config import VARIANTS

    parser = ArgumentParser()
    load_benchmark(task).add_options(parser)
    args = parser.parse_args([])
    if not hasattr(args, "upstream"):
        raise ConfigError(f"{task} measures no model; run 'run_benchmark.py {task}'")
    named = isinstance(model, str) and model in VARIANTS and not Path(model).exists()
    args.upstream, args.upstream_ckpt = (model, None) if named else (None, model)
    for name, value in options.items():
        if value is not None and not hasattr(args, name):
            raise ConfigError(unknown_name(f"option of {task}", name, vars(args)))
        if value is not None:
            setattr(args, name, value)
    return args


def run_command(benchmark: Benchmark, args: Namespace) -> Path:
    """Run a benchmark's command: print its table, write its result and what belongs beside it.

    Returns:
        The file that was made.
    """
    measured = benchmark.run(args)
    if isinstance(measured, Path):
        return measured
    if benchmark.table is not None:
        sys.stdout.write(benchmark.table(measured.result) + "\n")
    path = args.out or RESULTS / result_name(measured.result, _variations(measured.result, args))
    if path.exists():
        logger.warning("'%s' is measured again and replaced", path)
    write_result(measured.result, path)
    if measured.write_beside is not None:
        measured.write_beside(path)
    return path


def _variations(result: TaskResult, args: Namespace) -> list[str]:
    """Return what tells a measurement from others of the same corpus name and checkpoint."""
    given = {name: value for name, value in vars(args).items() if value}
    names = (*FILES, *(FOLDERS if result.corpus.startswith("own (") else ()))
    paths = [f"{n} {Path(given[n]).expanduser().resolve()}" for n in names if n in given]
    found = [*given.get("split", ()), *filter(None, [given.get("segmenter")])]
    if paths:
        found.append(hashlib.sha256("\n".join(paths).encode()).hexdigest()[:HASH_DIGITS])
    return found


def result_name(result: TaskResult, variations: Iterable[str] = ()) -> str:
    """Return the name of a result file, another for another corpus, checkpoint or variation."""
    digits = result.checkpoint_hash[:HASH_DIGITS]
    # A baseline has neither size nor hash.
    parts = (result.task, result.corpus, result.system, result.size, digits, *variations)
    plain = [re.sub(r"[^A-Za-z0-9._]+", "_", part).strip("_") for part in parts if part]
    return f"{'-'.join(plain)}.json"


def add_model_options(p: ArgumentParser, also: str = "") -> None:
    """Add the options that name a trained model, or `also`, and where it runs."""
    from s3prl_speechclip.model.config import SEGMENTATIONS, VARIANTS

    add_option(
        p,
        "-u --upstream NAME",
        f"model: {', '.join(VARIANTS)}{also} (default: %(default)s)",
        default=DEFAULT_UPSTREAM,
    )
    add_option(
        p,
        "-k --upstream_ckpt CKPT",
        "experiment or checkpoint folder, official .ckpt, or Hub id (default: the "
        "newest pretraining run of that name, else the shipped mini model)",
    )
    add_option(
        p,
        "--segmenter NAME",
        f"segmentation of speechclip_words: {', '.join(SEGMENTATIONS)} (default: the model's)",
    )
    add_option(p, "--batch-size N", "recordings encoded at once (default: %(default)s)", default=32)
    device = "auto, cpu, cuda or cuda:N (default: auto)"
    add_option(p, "--device DEVICE", device, type=parse_device, default="auto")
    add_option(
        p,
        "--out FILE",
        f"result file (default: {RESULTS}/<task>-<corpus>-<model>-<hash>.json)",
        type=Path,
    )


def add_corpus_options(p: ArgumentParser, *, splits: bool = True, states: bool = False) -> None:
    """Add the options that name a corpus, its `splits`, and whether hidden `states` are kept."""
    from s3prl_speechclip.data.corpora import CORPORA

    add_option(
        p,
        "--data CORPUS",
        f"{', '.join(CORPORA)}, or a folder of own data (default: %(default)s)",
        default="stamps",
    )
    add_option(p, "--data-root DIR", "folder of the corpus")
    add_option(p, "--archive FILE", "Debian package (.deb) of stamps, where apt cannot fetch it")
    add_option(
        p, "--skip-broken", "leave out, and count, recordings and images that are missing or broken"
    )
    if splits:
        add_option(
            p,
            "--split NAME",
            "split to measure; may be given again (default: the corpus' test splits)",
            action="append",
        )
        add_option(p, "--num-workers N", "processes that read audio", default=0)
    if states:
        add_option(
            p,
            "--keep-states",
            "keep the frozen speech encoder's hidden states of the measured splits, in "
            "float16, and read those kept before",
        )


def find_model(args: Namespace) -> Located | None:
    """Find the model that the options name, without reading it; None: the model itself is given.

    Raises:
        ConfigError, CheckpointError: there is none.
    """
    from s3prl_speechclip.checkpoints.locate import locate_model

    given = args.upstream_ckpt
    if given is not None and not isinstance(given, str | Path):
        return None
    return locate_model(args.upstream or DEFAULT_UPSTREAM, None if given is None else str(given))


def load_model(args: Namespace) -> tuple[SpeechClip, str, str]:
    """Return the model that the options name, in evaluation mode, its source and its hash."""
    located = find_model(args)
    # Heavy: a name that was mistyped is found out before.
    from s3prl_speechclip.hashing import state_hash
    from s3prl_speechclip.model.speechclip import SpeechClip
    from s3prl_speechclip.runtime.devices import find_device

    if located is None:
        given = args.upstream_ckpt
        if args.segmenter is not None:
            raise ConfigError("a model in memory keeps its own segmenter; leave --segmenter out")
        model = given if args.device == "auto" else given.to(find_device(args.device))
        return model.eval(), "in memory", state_hash(given.state_dict())
    name = args.upstream or DEFAULT_UPSTREAM
    logger.info("%s: %s (%s)", name, located.source, located.reason)
    model = SpeechClip.from_pretrained(located.source, segmenter=args.segmenter)
    model = model.to(find_device(args.device))
    return model, located.source, located.digest()


def titled_table(
    result: TaskResult,
    what: str,
    head: Iterable[str],
    rows: Iterable[Iterable[str]],
    about: str = "",
) -> str:
    """Lay a result out with its title, and a line about it, above a Markdown table."""
    size = f" ({result.size})" if result.size else ""
    mini = " [mini: not comparable with published figures]" if result.mini else ""
    title = f"{result.system}{size} on {result.corpus}, {what}{mini}"
    return "\n".join([title, *filter(None, [about]), "", markdown_table(head, rows)])


def rounded(scores: Mapping[str, float]) -> dict[str, float]:
    """Round scores to the four decimals of result files."""
    return {name: round(value, 4) for name, value in scores.items()}
