"""`run_pretrain.py`: train a SpeechCLIP model."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.corpora import CORPORA
from ..errors import ConfigError
from ..model.config import VARIANTS
from ..pretrain.config import (
    DEFAULT_PRESET,
    PRESETS,
    PretrainConfig,
    change_config,
    read_config,
    resolve_config,
)
from .common import is_main_process, run

if TYPE_CHECKING:
    from ..pretrain.resume import Start

logger = logging.getLogger(__name__)

DEFAULT_MODEL = "speechclip_hybrid"

EPILOG = """\
examples:
  python run_pretrain.py -u speechclip_plus
  python run_pretrain.py -u speechclip_hybrid -g base --data flickr8k --data-root /data/flickr8k
  python run_pretrain.py -u speechclip_plus -o runner.total_steps=50,,data.batch_size=16
  torchrun --nproc-per-node 4 run_pretrain.py -u speechclip_hybrid -g large --data spokencoco ...
  srun python run_pretrain.py ...

The experiment folder receives config.yaml, log.csv, curves.png, TensorBoard events, and
checkpoints in step-N, with links last and best. SIGTERM and Ctrl-C stop training after the current
step, with a checkpoint; the same command with -a resumes it exactly. The last line on standard
output is the experiment folder.
"""


def parser() -> argparse.ArgumentParser:
    """Build the parser; the letters are s3prl's."""
    p = argparse.ArgumentParser(
        prog="run_pretrain.py",
        description="Pretrain a model of the SpeechCLIP family on recordings and images.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    model = p.add_argument_group("model and configuration")
    model.add_argument(
        "-u",
        "--upstream",
        metavar="NAME",
        help=f"model to train: {', '.join(VARIANTS)} (default: {DEFAULT_MODEL})",
    )
    model.add_argument(
        "-g",
        "--upstream_config",
        metavar="CONFIG",
        help=f"preset ({', '.join(PRESETS)}) or YAML file (default: {DEFAULT_PRESET})",
    )
    model.add_argument(
        "-o",
        "--override",
        metavar="K=V",
        default="",
        help="configuration values to change, separated by ',,', such as "
        "runner.total_steps=50,,data.batch_size=16; --dry-run lists all keys",
    )
    model.add_argument(
        "--hubert", metavar="PATH", help="folder or Hub id of the pretrained speech encoder"
    )
    model.add_argument("--clip", metavar="PATH", help="file with the weights of CLIP")
    model.add_argument("--seed", type=int, metavar="N", help="random seed (default: 0)")

    data = p.add_argument_group("corpus")
    data.add_argument(
        "--data",
        metavar="CORPUS",
        help=f"{', '.join(CORPORA)}, or a folder of own data (default: stamps)",
    )
    data.add_argument("--data-root", metavar="DIR", help="folder of the corpus")
    data.add_argument(
        "--archive", metavar="FILE", help="package file of stamps, for machines without apt"
    )
    data.add_argument(
        "--skip-broken",
        action="store_true",
        help="skip recordings and images that are missing or damaged, and report their number",
    )

    folder = p.add_argument_group("experiment")
    folder.add_argument(
        "-n", "--expname", metavar="NAME", help="experiment name (default: the model's name)"
    )
    folder.add_argument(
        "-p",
        "--expdir",
        metavar="DIR",
        type=Path,
        help="experiment folder (default: result/pretrain/NAME)",
    )
    folder.add_argument(
        "-e",
        "--past_exp",
        metavar="PATH",
        type=Path,
        help="start from an experiment folder, a checkpoint folder or an official .ckpt; "
        "configuration and training state are taken over where they exist",
    )
    folder.add_argument(
        "-a",
        "--auto_resume",
        action="store_true",
        help="resume from the newest checkpoint in the experiment folder; without one, start anew",
    )
    folder.add_argument(
        "--device",
        default="auto",
        metavar="DEVICE",
        help="auto, cpu, cuda or cuda:N (default: auto)",
    )
    folder.add_argument(
        "--dry-run",
        action="store_true",
        help="print the configuration and the number of parameters, and exit",
    )
    return p


def command(argv: Sequence[str] | None) -> Path | None:
    """Run the command line; return the experiment folder."""
    args = parser().parse_args(argv)
    from ..pretrain.resume import Start, find_start  # late: torch takes seconds to import

    start = find_start(args.past_exp) if args.past_exp else Start()
    config = _resolve(args, start)
    if args.dry_run:
        sys.stdout.write(_describe(config))
        return None
    from ..pretrain.train import pretrain

    folder = args.expdir or _default_folder(args, start, config)
    outcome = pretrain(
        config, folder, start=start, auto_resume=args.auto_resume, device=args.device
    )
    if outcome.interrupted:
        logger.info(
            "stopped at step %d of %d; resume with: python run_pretrain.py -u %s -p %s -a",
            outcome.step,
            config.runner.total_steps,
            config.model.variant,
            folder,
        )
    return folder if is_main_process() else None


def _resolve(args: argparse.Namespace, start: Start) -> PretrainConfig:
    """Put the configuration together: past run or checkpoint, preset or file, options."""
    from ..checkpoints.locate import RESULTS, RUN_CONFIG

    folder = args.expdir or RESULTS / (args.expname or args.upstream or DEFAULT_MODEL)
    past = start.config
    if past is None and args.auto_resume and (folder / RUN_CONFIG).is_file():
        past = read_config(folder / RUN_CONFIG)
    changes = _changes(args)
    if past is not None and args.upstream_config is None:
        _refuse_other_model(args.upstream, past.model.variant)
        return change_config(past, args.override, changes)
    if start.model is not None:
        model = start.model.config
        _refuse_other_model(args.upstream, model.variant)
        preset = args.upstream_config or (model.size if model.size in PRESETS else DEFAULT_PRESET)
        config = replace(resolve_config(model.variant, preset), model=model)
        return change_config(config, args.override, changes)
    return resolve_config(
        args.upstream or DEFAULT_MODEL,
        args.upstream_config or DEFAULT_PRESET,
        args.override,
        **changes,
    )


def _refuse_other_model(wanted: str | None, found: str) -> None:
    if wanted is not None and wanted != found:
        raise ConfigError(f"-u {wanted}, but the past run or checkpoint is a {found}; omit -u")


def _changes(args: argparse.Namespace) -> dict[str, Any]:
    """Return the long options as sections of the configuration."""
    data = {
        "corpus": args.data,
        "root": args.data_root,
        "archive": args.archive,
        "skip_broken": args.skip_broken or None,
    }
    changes: dict[str, Any] = {"data": {k: v for k, v in data.items() if v is not None}}
    model: dict[str, Any] = {}
    if args.hubert:
        model["speech_encoder"] = {"name": args.hubert, "pretrained": True}
    if args.clip:
        model["clip"] = {"pretrained": args.clip}
    if model:
        changes["model"] = model
    if args.seed is not None:
        changes["seed"] = args.seed
    return changes


def _default_folder(args: argparse.Namespace, start: Start, config: PretrainConfig) -> Path:
    from ..checkpoints.locate import RESULTS

    if start.folder is not None and args.expname is None:
        return start.folder
    return RESULTS / (args.expname or config.model.variant)


def _describe(config: PretrainConfig) -> str:
    """Return a run's configuration and its model's parameter counts, without fetching anything."""
    import torch
    import yaml

    from ..config import plain
    from ..encoders.shipped import SHIPPED
    from ..encoders.vocabulary import find_vocabulary
    from ..model.speechclip import SpeechClip

    name = config.model.clip.vocabulary
    if name == "corpus":  # which is not read here
        name = SHIPPED if config.model.clip.pretrained == SHIPPED else "flickr8k"
    vocabulary = find_vocabulary(name)
    with torch.device("meta"):  # counted, never filled
        model = SpeechClip(config.model, vocabulary, weights=False)
    lines = [yaml.safe_dump(plain(config), sort_keys=False, allow_unicode=True).rstrip(), ""]
    lines.append(f"{'parameters':<16}{'all':>14}{'trained':>14}")
    for label, part in (
        ("speech encoder", model.speech_encoder),
        ("CLIP", model.clip),
        ("layer mix", model.layer_mix),
        ("branch", model.branch),
        ("loss", model.contrast),
        ("total", model),
    ):
        every = sum(p.numel() for p in part.parameters())
        trained = sum(p.numel() for p in part.parameters() if p.requires_grad)
        lines.append(f"{label:<16}{every:>14,}{trained:>14,}")
    return "\n".join(lines) + "\n"


main = run(command)

if __name__ == "__main__":
    sys.exit(main())
