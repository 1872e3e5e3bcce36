"""The CSV of a run's scalars."""

from __future__ import annotations

from pathlib import Path

from s3prl_speechclip.runtime.log import ScalarLog, draw_curves, read_log


def test_a_resumed_run_drops_the_lines_after_its_checkpoint(tmp_path: Path) -> None:
    """Guards against steps that stand twice in the log, and against a lost beginning."""
    log = ScalarLog(tmp_path)
    for step in (1, 2, 3):
        log.add(step, {"loss": 1 / step})
    log.add(2, {"recall@10": 5.0})
    log.close()
    log = ScalarLog(tmp_path, from_step=2)
    log.add_scalar("loss", 7, global_step=3)
    log.close()
    assert read_log(tmp_path) == [
        {"step": "1", "loss": "1"},
        {"step": "2", "loss": "0.5", "recall@10": "5"},
        {"step": "3", "loss": "7"},
    ]
    assert log.latest == {"loss": 7.0}
    assert draw_curves(tmp_path).stat().st_size > 1000


def test_a_log_without_a_step_keeps_all_lines(tmp_path: Path) -> None:
    """Guards the log of training against the evaluation of an earlier step."""
    log = ScalarLog(tmp_path, from_step=0)
    log.add(5, {"loss": 1.0})
    log.close()
    log = ScalarLog(tmp_path)
    log.add(3, {"test": 2.0})
    log.close()
    assert read_log(tmp_path) == [{"step": "3", "test": "2"}, {"step": "5", "loss": "1"}]
