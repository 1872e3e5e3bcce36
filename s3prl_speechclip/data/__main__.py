"""`python -m s3prl_speechclip.data`: check or prepare a corpus, clear the cache of features."""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from tqdm import tqdm

from ..cli.common import run
from ..errors import AudioError, ConfigError, CorpusError, ImageError, unknown_name
from ..options import add_option
from ..structures import SAMPLE_RATE
from .audio import audio_info, read_audio
from .cache import writing
from .corpora import CORPORA, load_corpus
from .corpora.own import read_rows
from .images import open_image
from .manifest import Utterance
from .prepare import prepare

SHOWN = 10  # broken rows


def parser() -> argparse.ArgumentParser:
    """Build the parser of the options."""
    p = argparse.ArgumentParser(prog="python -m s3prl_speechclip.data", description="Corpora.")
    commands = p.add_subparsers(dest="command", required=True, metavar="COMMAND")
    layouts = ", ".join(CORPORA)
    c = commands.add_parser(
        "check",
        help="decode all files of a corpus; count, measure, find overlaps and broken rows",
        epilog="Exit status: 0 if all files can be used, 2 if some cannot or it is no corpus.",
    )
    c.add_argument("folder", type=Path, metavar="FOLDER", help="folder of the corpus")
    text = f"layout of the folder: {layouts} (default: own)"
    add_option(c, "--data LAYOUT", text, choices=CORPORA, default="own")
    c = commands.add_parser(
        "prepare",
        help="write a corpus's recordings as 16 kHz mono files, for faster reading",
        epilog="Train on the result with --data FOLDER. Samples stay as they are, to the last bit; "
        "images stay where they are.",
    )
    c.add_argument("corpus", metavar="CORPUS", help=f"{layouts}, or a folder of own data")
    add_option(c, "--out FOLDER", "folder to make", type=Path, required=True)
    add_option(c, "--data-root DIR", "folder of the corpus")
    add_option(c, "--skip-broken", "leave out recordings that cannot be read, and count them")
    c = commands.add_parser(
        "cache", help="show the features of speech that are kept, or clear them"
    )
    add_option(c, "--clear NAME", "remove the features of that name")
    add_option(c, "--all", "remove all of them")
    return p


def command(argv: Sequence[str] | None) -> Path | None:
    """Run the command line; returns the folder that was made."""
    args = parser().parse_args(argv)
    if args.command == "prepare":
        manifest = load_corpus(args.corpus, args.data_root, skip_broken=args.skip_broken)
        return prepare(manifest, args.out, args.skip_broken).root
    if args.command == "cache":
        show_cache(args.clear, args.all)
    else:
        check(args.folder.expanduser().absolute(), args.data)
    return None


def show_cache(clear: str | None, clear_all: bool) -> None:
    """Print the folders of features, those that were used last at the end, or remove them.

    Raises:
        ConfigError: there are none of that name, or a process uses them.
        CorpusError: they cannot be removed.
    """
    from .feature_store import features_home, remove, stored  # torch: not for --help

    folders = stored()
    if clear is not None and clear not in {folder.path.name for folder in folders}:
        names = [folder.path.name for folder in folders]
        raise ConfigError(unknown_name("features", clear, names))
    for folder in folders:
        name, about = folder.path.name, folder.about
        what = f"{about.get('encoder')}, {about.get('kind')}, {about.get('precision')}"
        if clear_all or name == clear:
            with writing(folder.path):
                gone = remove(folder.path)
            if not gone:
                raise ConfigError(f"'{folder.path}' is in use; end the process that reads it")
            print(f"removed {name}: {what}")
        elif clear is None:
            used = time.strftime("%Y-%m-%d", time.localtime(folder.used))
            print(f"{name}  {folder.size / 1e9:7.2f} GB  used {used}  {what}")
    print(f"{sum(folder.size for folder in stored()) / 1e9:.2f} GB in '{features_home()}'")


def check(folder: Path, layout: str) -> None:
    """Decode all files of a corpus, and print its counts, durations, overlaps and broken rows."""
    broken: dict[int, str] = {}
    if layout == "own":
        found = read_rows(folder)
        rows, broken, notes = found.utterances, dict(found.faults), found.notes
    else:
        manifest = load_corpus(layout, folder, skip_broken=True)
        rows, notes = dict(enumerate(manifest.utterances, 1)), manifest.notes
    seconds: dict[str, float] = {}
    converted = 0
    images: dict[str, str] = {}
    splits: dict[str, list[Utterance]] = defaultdict(list)
    for line, row in tqdm(rows.items(), desc="files", unit="row", leave=False):
        try:
            info = audio_info(folder / row.audio)
            seconds[row.audio] = len(read_audio(folder / row.audio)) / SAMPLE_RATE
            converted += (info.sample_rate, info.channels) != (SAMPLE_RATE, 1)
            if row.image not in images:
                images[row.image] = _fault(folder / row.image)
            if images[row.image]:
                raise ImageError(images[row.image])
            splits[row.split].append(row)
        except (AudioError, ImageError) as error:
            broken[line] = str(error)
    sound = [row for some in splits.values() for row in some]
    print(f"{len(sound)} recordings of {len({row.image for row in sound})} images")
    for name, some in splits.items():
        lengths = [seconds[row.audio] for row in some]
        print(
            f"{name}: {len(some)} recordings of {len({row.image for row in some})} images, "
            f"{sum(lengths) / 3600:.2f} h ({min(lengths):.2f} to {max(lengths):.2f} s), "
            f"{', '.join(sorted({row.language for row in some}))}, "
            f"{len({row.speaker for row in some} - {''})} speakers named, "
            f"{sum(bool(row.text) for row in some)} with a text"
        )
    repeats = len(sound) - len({(row.split, row.language, row.audio) for row in sound})
    if repeats:
        print(f"{repeats} rows repeat another's recording, and count once")
    if converted:
        print(f"{converted} recordings are averaged to mono or resampled when they are read")
    for one, other in combinations(splits, 2):
        shared = {u.pair_id for u in splits[one]} & {u.pair_id for u in splits[other]}
        if shared:
            print(f"'{one}' and '{other}' share {len(shared)} images")
    if broken:
        print(f"{len(broken)} rows cannot be used:")
        for line in sorted(broken)[:SHOWN]:
            print(f"  line {line}: {broken[line]}")
        if len(broken) > SHOWN:
            print(f"  and {len(broken) - SHOWN} more")
    for note in notes:
        print(note)
    if broken:
        raise CorpusError(
            f"{len(broken)} rows of '{folder}' cannot be used; correct them, or leave them out "
            "with --skip-broken"
        )


def _fault(image: Path) -> str:
    try:
        open_image(image)
        return ""
    except ImageError as error:
        return str(error)


main = run(command)

if __name__ == "__main__":
    sys.exit(main())
