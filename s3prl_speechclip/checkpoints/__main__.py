"""Convert official checkpoints: `python -m s3prl_speechclip.checkpoints convert IN OUT`."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ..errors import SpeechClipError
from ..model.speechclip import SpeechClip
from .native import StoredModel, write_checkpoint
from .official import convert_official
from .official.ledger import Ledger


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the last line on standard output is the folder that was written."""
    parser = argparse.ArgumentParser(prog="python -m s3prl_speechclip.checkpoints")
    commands = parser.add_subparsers(required=True, metavar="convert")
    convert = commands.add_parser(
        "convert", help="convert an official checkpoint to the native format"
    )
    convert.add_argument("checkpoint", type=Path, help="official .ckpt")
    convert.add_argument(
        "folder", type=Path, help="folder to write config.json and model.safetensors to"
    )
    convert.add_argument("--quiet", action="store_true", help="do not list the weights")
    chosen = parser.parse_args(arguments)
    try:
        stored, ledger = convert_official(chosen.checkpoint)
        # Building the model checks that the weights fit the configuration.
        model = SpeechClip.from_stored(stored)
        write_checkpoint(chosen.folder, model.stored())
    except SpeechClipError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(report(stored, ledger, listed=not chosen.quiet) + f"\n{chosen.folder}\n")
    return 0


def report(stored: StoredModel, ledger: Ledger, *, listed: bool) -> str:
    """Report what became of an official checkpoint's weights; `listed`: of each by name."""
    config = stored.config
    lines = []
    if listed:
        lines += [f"{name} -> {native}" for name, native in ledger.mapped.items()]
        lines += [f"{name} left out: {reason}" for name, reason in ledger.dropped.items()]
    parts = Counter(native.partition(".")[0] for native in ledger.mapped.values())
    counted = ", ".join(f"{count} of {part}" for part, count in parts.items())
    why = " for the reasons above" if listed else ""
    lines += [
        f"{config.variant}, size {config.size}, trained on {stored.about['corpus']}",
        f"{len(ledger.mapped)} weights converted ({counted}), {len(ledger.dropped)} left out{why}",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
