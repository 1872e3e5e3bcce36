"""Pages and plots of results; a page is one HTML file that needs nothing else."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

MARK = "@DATA@"


def fill(template: str, data: Any) -> str:
    """Return a page: a template of this folder with data in the place of `@DATA@`."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    page = (resources.files(__package__) / template).read_text(encoding="utf-8")
    # A name must not end the script that holds it.
    return page.replace(MARK, text.replace("<", "\\u003c"))
