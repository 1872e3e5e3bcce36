"""`run_pretrain.py`: train a SpeechCLIP model."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..checkpoints.locate import RESULTS, RUN_CONFIG
from ..data.corpora import CORPORA
from ..errors import ConfigError
from ..model.config import VARIANTS
from ..pretrain.config import (
    DEFAULT_PRESET,
    PRESETS,
    PretrainConfig,
    lay_over,
    read_config,
    resolve_config,
)
from ..pretrain.run import Start, describe, find_start, pretrain
from .common import is_main_process, run

logger = logging.getLogger(__name__)

DEFAULT_MODEL = "speechclip_hybrid"


def parser() -> argparse.ArgumentParser:
    """Describe the options; their letters are s3prl's."""
    p = argparse.ArgumentParser(
        prog="run_pretrain.py",
        description="Pretrain a model of the SpeechCLIP family on recordings and images.",
        epilog="Several GPUs or nodes: torchrun --nproc-per-node N run_pretrain.py ..., or srun.",
    )
    p.add_argument(
        "-u",
        "--upstream",
        metavar="NAME",
        help=f"the model: {', '.join(VARIANTS)} (default: {DEFAULT_MODEL})",
    )
    p.add_argument("-n", "--expname", metavar="NAME", help="experiment name (default: the model's)")
    p.add_argument(
        "-p",
        "--expdir",
        metavar="DIR",
        type=Path,
        help="experiment folder (default: result/pretrain/<name>)",
    )
    p.add_argument(
        "-g",
        "--upstream_config",
        metavar="CONFIG",
        help=f"{', '.join(PRESETS)} or a YAML file (default: {DEFAULT_PRESET})",
    )
    p.add_argument(
        "-o",
        "--override",
        metavar="K=V",
        default="",
        help="changes, such as runner.total_steps=50,,data.batch_size=16",
    )
    p.add_argument(
        "-e",
        "--past_exp",
        metavar="PATH",
        type=Path,
        help="go on from an experiment or checkpoint folder, or an official .ckpt",
    )
    p.add_argument(
        "-a",
        "--auto_resume",
        action="store_true",
        help="go on where the experiment folder stands; start if it is empty",
    )
    p.add_argument("--data", metavar="CORPUS", help=f"{', '.join(CORPORA)} (default: stamps)")
    p.add_argument("--data-root", metavar="DIR", help="folder of the corpus")
    p.add_argument("--archive", metavar="FILE", help="package of stamps, on machines without apt")
    p.add_argument(
        "--skip-broken",
        action="store_true",
        help="leave out, and count, recordings and images that are missing or broken",
    )
    p.add_argument("--hubert", metavar="PATH", help="folder or Hub id of the speech encoder")
    p.add_argument("--clip", metavar="PATH", help="file of CLIP's weights")
    p.add_argument("--seed", type=int, metavar="N", help="of everything random (default: 0)")
    p.add_argument(
        "--device",
        default="auto",
        metavar="DEVICE",
        help="auto, cpu, cuda or cuda:N (default: auto)",
    )
    p.add_argument(
        "--dry-run",
        action="store_true",
        help="build the model, print its configuration and parameter counts, and stop",
    )
    return p


def command(argv: Sequence[str] | None) -> Path | None:
    """Run the command line; gives the experiment folder."""
    args = parser().parse_args(argv)
    start = find_start(args.past_exp) if args.past_exp else Start()
    config = _config(args, start)
    if args.dry_run:
        sys.stdout.write(describe(config))
        return None
    folder = args.expdir or _default_folder(args, start, config)
    outcome = pretrain(
        config, folder, start=start, auto_resume=args.auto_resume, device=args.device
    )
    if outcome.interrupted:
        logger.info(
            "stopped at step %d of %d; go on with: python run_pretrain.py -u %s -p %s -a",
            outcome.step,
            config.runner.total_steps,
            config.model.variant,
            folder,
        )
    return folder if is_main_process() else None


def _config(args: argparse.Namespace, start: Start) -> PretrainConfig:
    """Put the configuration together: past run or checkpoint, preset or file, options."""
    folder = args.expdir or RESULTS / (args.expname or args.upstream or DEFAULT_MODEL)
    past = start.config
    if past is None and args.auto_resume and (folder / RUN_CONFIG).is_file():
        past = read_config(folder / RUN_CONFIG)
    changes = _changes(args)
    if past is not None and args.upstream_config is None:
        _refuse_other_model(args.upstream, past.model.variant)
        return lay_over(past, args.override, changes)
    if start.model is not None:
        model = start.model.config
        _refuse_other_model(args.upstream, model.variant)
        preset = args.upstream_config or (model.size if model.size in PRESETS else DEFAULT_PRESET)
        config = replace(resolve_config(model.variant, preset), model=model)
        return lay_over(config, args.override, changes)
    return resolve_config(
        args.upstream or DEFAULT_MODEL,
        args.upstream_config or DEFAULT_PRESET,
        args.override,
        **changes,
    )


def _refuse_other_model(wanted: str | None, found: str) -> None:
    if wanted is not None and wanted != found:
        raise ConfigError(f"-u {wanted}, but the past run or checkpoint is a {found}; leave -u out")


def _changes(args: argparse.Namespace) -> dict[str, Any]:
    """Turn the long options into sections of the configuration."""
    changes: dict[str, Any] = {}
    data = {
        "corpus": args.data,
        "root": args.data_root,
        "archive": args.archive,
        "skip_broken": True if args.skip_broken else None,
    }
    data = {key: value for key, value in data.items() if value is not None}
    if data:
        changes["data"] = data
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
    if start.folder is not None and args.expname is None:
        return start.folder
    return RESULTS / (args.expname or config.model.variant)


main = run(command)

if __name__ == "__main__":
    sys.exit(main())
