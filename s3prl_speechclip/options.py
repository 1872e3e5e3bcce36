"""Options of command lines, in the form of a manual."""

from __future__ import annotations

import argparse
from typing import Any


def add_option(to: argparse._ActionsContainer, form: str, text: str, **settings: Any) -> None:
    """Add an option in the form of a manual, `-n --expname NAME`, to a parser or a group of it.

    The name of the value comes last, and is N for a whole number; without one it is a switch.
    """
    flags = form.split()
    if flags[-1].startswith("-"):
        settings["action"] = "store_true"
    else:
        settings["metavar"] = flags.pop()
        settings |= {"type": int} if settings["metavar"] == "N" else {}
    to.add_argument(*flags, help=text, **settings)
