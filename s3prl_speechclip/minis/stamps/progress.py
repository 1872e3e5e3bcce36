"""A progress bar on standard error for each stage of the preparation."""

from __future__ import annotations

from tqdm import tqdm


class Bars:
    """Show one bar after another; quiet where standard error is no terminal."""

    def __init__(self) -> None:
        self._stage = ""
        self._done = 0
        self._bar: tqdm | None = None

    def __call__(self, what: str, done: int, total: int) -> None:
        if self._bar is None or self._stage != what:
            self._stage, self._done = what, 0
            self._bar = tqdm(total=total, desc=what, unit="file", disable=None)
        self._bar.update(done - self._done)
        self._done = done
        if done >= total:
            self._bar.close()
