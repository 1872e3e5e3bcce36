"""`run_pretrain.py`: train a SpeechCLIP model."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checkpoints.locate import RESULTS, RUN_CONFIG, check_source, is_hub_id
from ..config import merge, parse_device, read_yaml
from ..data.corpora import CORPORA, check_corpus, find_corpus
from ..encoders.shipped import SHIPPED
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
from .common import add_options, is_main_process, require, run

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


OPTIONS = f"""
model and configuration
-u --upstream NAME
    model: {", ".join(VARIANTS)} (default: {DEFAULT_MODEL})
-g --upstream_config CONFIG
    preset ({", ".join(PRESETS)}) or YAML file (default: {DEFAULT_PRESET})
-o --override K=V
    configuration values to change, separated by ',,', such as
    runner.total_steps=50,,data.batch_size=16; --dry-run lists all keys
--hubert PATH
    folder or Hub id of the pretrained speech encoder
--clip PATH
    file with the weights of CLIP
--seed N
    seed of the initial weights, the order and crops of the data, and dropout (default: 0)

corpus
--data CORPUS
    {", ".join(CORPORA)}, or a folder of own data (default: stamps)
--data-root DIR
    folder of the corpus
--archive FILE
    Debian package (.deb) that stamps is made from, on a machine that cannot fetch it by apt
--skip-broken
    skip recordings and images that are missing or damaged, and report their number

experiment
-n --expname NAME
    experiment name (default: the model's name)
-p --expdir DIR
    experiment folder (default: result/pretrain/NAME)
-e --past_exp PATH
    start from PATH. An experiment folder: continue that run in its folder, with its configuration
    and optimiser. A checkpoint folder of a run: the same, in a new folder. Another model or an
    official .ckpt: take its weights and begin at step 0
-i --init CKPT
    begin a new run with the weights that another model, of any name, shares with it: an experiment
    or checkpoint folder, official .ckpt, name of a shipped model or Hub id;
    init_parts=[branch.head] takes the keyword head alone
-a --auto_resume
    continue from the newest checkpoint in the experiment folder, or begin at step 0 where there is
    none; suits jobs that a cluster starts again
--device DEVICE
    auto, cpu, cuda or cuda:N (default: auto)
--dry-run
    print the configuration and the number of parameters, and exit
"""


def parser() -> argparse.ArgumentParser:
    """Build the parser; the letters are s3prl's."""
    p = argparse.ArgumentParser(
        prog="run_pretrain.py",
        description="Pretrain a model of the SpeechCLIP family on recordings and images.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_options(p, OPTIONS)
    return p


def command(argv: Sequence[str] | None) -> Path | None:
    """Run the command line; return the experiment folder."""
    args = parser().parse_args(argv)
    folder = RESULTS / (args.expname or args.upstream or DEFAULT_MODEL)
    if args.expdir:
        folder = Path(args.expdir)
    device = parse_device(args.device or "auto")
    past, start = None, None
    if args.init:
        check_source(args.init)
    if args.past_exp:
        if not (Path(args.past_exp) / RUN_CONFIG).is_file():
            check_source(args.past_exp)
        from ..pretrain.resume import find_start  # late: torch takes seconds to import

        start = find_start(Path(args.past_exp))
        past = start.config
    elif args.auto_resume and (folder / RUN_CONFIG).is_file():
        past = read_config(folder / RUN_CONFIG)
    config = _resolve(args, start, past)
    find_corpus(config.data.corpus)
    if args.dry_run:  # needs no data
        sys.stdout.write(_describe(config))
        return None
    _check_encoders(args, config)
    check_corpus(config.data.corpus, config.data.root, config.data.archive)
    require("train")
    from ..pretrain.train import pretrain

    if args.expdir is None:
        folder = RESULTS / (args.expname or config.model.variant)
        if start is not None and start.folder is not None and args.expname is None:
            folder = start.folder
    outcome = pretrain(config, folder, start=start, auto_resume=args.auto_resume, device=device)
    if outcome.interrupted:
        logger.info(
            "stopped at step %d of %d; resume with: python run_pretrain.py -u %s -p %s -a",
            outcome.step,
            config.runner.total_steps,
            config.model.variant,
            folder,
        )
    return folder if is_main_process() else None


def _resolve(
    args: argparse.Namespace, start: Start | None, past: PretrainConfig | None
) -> PretrainConfig:
    """Put the configuration together: past run or checkpoint, preset or file, options."""
    data = {"corpus": args.data, "root": args.data_root, "archive": args.archive}
    changes: dict[str, Any] = {
        "data": {k: v for k, v in data.items() if v is not None},
        "model": {},
    }
    if args.skip_broken:
        changes["data"]["skip_broken"] = True
    if args.hubert:
        changes["model"]["speech_encoder"] = {"name": args.hubert, "pretrained": True}
    if args.clip:
        changes["model"]["clip"] = {"pretrained": args.clip}
    if args.init:
        changes["init"] = args.init
    if args.seed is not None:
        changes["seed"] = args.seed
    if past is not None:  # a preset says neither
        changes = {"seed": past.seed, "init": past.init} | changes
    model = None if start is None or start.model is None else start.model.config
    for option, given, part in (
        ("--hubert", args.hubert, "speech_encoder"),
        ("--clip", args.clip, "clip"),
    ):
        if given and start is not None and start.model is not None and model is not None:
            held = part not in start.model.encoders
            named = model.speech_encoder.name if part == "speech_encoder" else model.clip.pretrained
            if held and given != named:
                raise ConfigError(f"{option}: the checkpoint holds its own; leave {option} out")
    own = _model_section(args.upstream_config)
    if model is not None:
        changes["model"] = merge(own, changes["model"])
    if past is not None and args.upstream_config is None:
        model, config = past.model, past
    elif model is not None:
        preset = args.upstream_config or (model.size if model.size in PRESETS else DEFAULT_PRESET)
        config = replace(resolve_config(model.variant, preset), model=model)
    else:
        preset = args.upstream_config or DEFAULT_PRESET
        name = args.upstream or own.get("variant") or DEFAULT_MODEL
        return resolve_config(str(name), preset, args.override or "", **changes)
    if args.upstream not in (None, model.variant):
        raise ConfigError(
            f"-u {args.upstream}, but the past run or checkpoint is a {model.variant}; omit -u"
        )
    return change_config(config, args.override or "", changes)


def _model_section(path: str | None) -> dict[str, Any]:
    """Return the section `model` of a configuration file; empty for a preset."""
    if path is None or path in PRESETS or not Path(path).is_file():
        return {}
    section = read_yaml(path).get("model")
    return dict(section) if isinstance(section, Mapping) else {}


def _check_encoders(args: argparse.Namespace, config: PretrainConfig) -> None:
    """Check `--hubert` and `--clip` as far as that takes no network.

    Raises:
        ConfigError: there is no such folder or file, or the preset's CLIP takes no weights.
    """
    hubert, clip = args.hubert, args.clip
    if hubert and not (
        Path(hubert).is_dir() or is_hub_id(hubert) or ":" in hubert or hubert == SHIPPED
    ):
        raise ConfigError(f"--hubert: no folder '{hubert}', and no OWNER/NAME of the Hub")
    if clip and clip != SHIPPED and config.model.clip.name == SHIPPED:
        raise ConfigError(
            "--clip gives the weights of an open_clip model, which this preset does not have; take "
            "-g base or large, or name one such as -o model.clip.name=ViT-B-32"
        )
    if clip and Path(clip).suffix and not Path(clip).is_file():
        raise ConfigError(f"--clip: no file '{clip}'")


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
    with torch.device("meta"):  # counted, never filled
        model = SpeechClip(config.model, find_vocabulary(name), weights=False)
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
