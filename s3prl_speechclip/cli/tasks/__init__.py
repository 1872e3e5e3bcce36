"""What `run_benchmark.py` measures, a module a task."""

from __future__ import annotations

from . import keywords, leaderboard, retrieval, speed, words, zerospeech
from .common import Task

TASKS: dict[str, Task] = {
    "retrieval": retrieval.TASK,
    "keywords": keywords.TASK,
    "words": words.TASK,
    "zerospeech": zerospeech.TASK,
    "speed": speed.TASK,
    "leaderboard": leaderboard.TASK,
}
