"""MkDocs hooks: pages of the repository become pages of the site, formulas become MathML.

A page stands once, where a reader of the repository looks for it, and its links are those of the
repository. In the site they lead to pages, or to copies of the files.
"""

from __future__ import annotations

import html
import os
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
ELSEWHERE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/published/README.md": "cards/published.md",
    "benchmarks/results/LEADERBOARD.md": "leaderboard.md",
    "benchmarks/results/mini/README.md": "claims.md",
    "s3prl_speechclip/assets/mini/clip/README.md": "cards/clip.md",
    "s3prl_speechclip/assets/mini/hubert/README.md": "cards/hubert.md",
    "s3prl_speechclip/assets/stopwords/README.md": "cards/stop-words.md",
    "s3prl_speechclip/assets/zerospeech/README.md": "cards/word-pairs.md",
    "upstream/speechclip/README.md": "upstreams.md",
}
"""Pages of the site that do not stand in docs/, by their place in the repository."""
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)")
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that stand elsewhere."""
    for place, page in ELSEWHERE.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / place)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turn links of the repository into links of the site."""
    source = Path(page.file.abs_src_path).resolve()

    def link(match: re.Match[str]) -> str:
        target = (source.parent / match[1]).resolve()
        if not target.is_file() or not target.is_relative_to(ROOT):
            raise PluginError(f"{source}: '{match[1]}' is no file of the repository")
        place = target.relative_to(ROOT).as_posix()
        in_docs = place.removeprefix("docs/")
        name = ELSEWHERE.get(place, in_docs if in_docs != place else f"files/{place}")
        if files.get_file_from_path(name) is None:
            if target.suffix == ".md":
                raise PluginError(f"{source}: add '{place}' to the pages of {__file__}")
            files.append(File.generated(config, name, abs_src_path=str(target)))
        return os.path.relpath(name, Path(page.file.src_uri).parent)

    return LINK.sub(link, markdown)


def on_page_content(content: str, **_: Any) -> str:
    """Turn formulas into MathML, which browsers draw without a program."""

    def formula(match: re.Match[str]) -> str:
        display = "block" if match[1] == "div" else "inline"
        return convert(html.unescape(match[2]), display=display)

    return FORMULA.sub(formula, content)
