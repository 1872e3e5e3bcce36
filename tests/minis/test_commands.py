"""The minis' command line."""

from __future__ import annotations

import pytest

from s3prl_speechclip.minis import SUPERB
from s3prl_speechclip.minis.__main__ import PARTS, main, parser
from s3prl_speechclip.minis.training import recipe


def test_help_names_commands_and_parts():
    """Guards against a command or a part that nobody finds."""
    text = parser().format_help()
    assert all(name in text for name in ("demo", "make", "superb"))
    assert set(PARTS) == {*recipe.PARTS, "results"}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["make", "hubrt"], "unknown part 'hubrt'"),
        (["superb", "-d", "asr"], f"mini sets are for {', '.join(SUPERB)}"),
    ],
)
def test_a_wrong_name_is_an_error_in_one_line(arguments, named, capsys):
    """Guards against a traceback, and against training for hours after a slip of the pen."""
    assert main(arguments) == 2
    assert named in capsys.readouterr().err
