"""Released checkpoints: `python -m s3prl_speechclip.checkpoints list` and `convert IN OUT`."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..cli.common import run
from ..errors import CheckpointError
from .locate import check_source
from .released import RELEASED, find_released

if TYPE_CHECKING:
    from .native import StoredModel
    from .official.ledger import Ledger


def parser() -> argparse.ArgumentParser:
    """Build the parser of the commands."""
    p = argparse.ArgumentParser(prog="python -m s3prl_speechclip.checkpoints")
    commands = p.add_subparsers(required=True, metavar="list|convert", dest="command")
    commands.add_parser(
        "list",
        help="list the checkpoints that the authors released: the name for -k, model, size, corpus "
        "and published recall (validation, mean of both directions, percent)",
    )
    convert = commands.add_parser(
        "convert", help="convert an official checkpoint to the native format"
    )
    convert.add_argument("checkpoint", help="official .ckpt, or a name that list shows")
    convert.add_argument(
        "folder", type=Path, help="folder to write config.json and model.safetensors to"
    )
    return p


def command(argv: Sequence[str] | None) -> Path | None:
    """Run a command; return the folder that `convert` wrote."""
    chosen = parser().parse_args(argv)
    if chosen.command == "list":
        sys.stdout.writelines(f"{released.describe()}\n" for released in RELEASED.values())
        return None
    sys.stdout.write(f"{_convert(chosen.checkpoint, chosen.folder)}\n")
    return Path(chosen.folder)


def _convert(source: str, folder: Path) -> str:
    released = find_released(source)
    if released is None and not Path(source).is_file():
        raise CheckpointError(
            f"no file '{source}': give an official .ckpt, or a name that "
            "'python -m s3prl_speechclip.checkpoints list' shows"
        )
    check_source(source)
    from ..model.speechclip import SpeechClip  # late: torch is not for a mistyped name
    from .native import write_checkpoint
    from .official import convert_official

    stored, ledger = released.read() if released else convert_official(Path(source))
    # Building the model checks that the weights fit the configuration.
    write_checkpoint(folder, SpeechClip.from_stored(stored).stored())
    return _report(stored, ledger)


def _report(stored: StoredModel, ledger: Ledger) -> str:
    """Report what became of each of an official checkpoint's weights."""
    config = stored.config
    lines = [f"{name} -> {native}" for name, native in ledger.mapped.items()]
    lines += [f"{name} left out: {reason}" for name, reason in ledger.dropped.items()]
    parts = Counter(native.partition(".")[0] for native in ledger.mapped.values())
    counted = ", ".join(f"{count} of {part}" for part, count in parts.items())
    lines += [
        f"{config.variant}, size {config.size}, trained on {stored.about['corpus']}",
        f"{len(ledger.mapped)} weights converted ({counted}), {len(ledger.dropped)} left out",
    ]
    return "\n".join(lines)


main = run(command)

if __name__ == "__main__":
    sys.exit(main())
