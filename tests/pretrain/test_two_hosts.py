"""Training on two hosts, one process on each, and one of them killed."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import torch
from safetensors.torch import load_file
from small_corpus import write_flickr8k
from small_runs import arguments, launch, run
from two_hosts import two_hosts

from s3prl_speechclip.runtime.log import read_log


def test_two_hosts_train_as_one_does_and_end_together(tmp_path: Path) -> None:
    """Guards torchrun over a network, and a job against the wait for a host that is gone.

    The validation split has 15 recordings in 3 batches: neither is divisible by the processes.
    """
    corpus = write_flickr8k(tmp_path / "corpus", dev=3)
    still = (
        "model.attention.dropout=0.0,,model.speech_encoder.architecture.hidden_dropout=0.0,,"
        "model.speech_encoder.architecture.attention_dropout=0.0,,"
        "optimizer.eps=1e-3,,optimizer.lr=1e-5,,"
        "scheduler.name=constant,,data.eval_batch_size=5,,runner.eval_step=3,,runner.max_keep=9999"
    )
    argv = ("-u", "speechclip_parallel", "--device", "cpu")
    run(*arguments(corpus, tmp_path / "one", 3, *argv, overrides=still))
    with two_hosts() as launchers:
        # Only the first process writes; it runs on the host that the others meet at.
        options = arguments(corpus, tmp_path / "two", 10_000, *argv, overrides=still)
        hosts = [launch(*options, launcher=launcher) for launcher in launchers]
        try:
            deadline = time.monotonic() + 240
            while not (tmp_path / "two" / "step-00000006").is_dir():
                assert all(host.poll() is None for host in hosts), hosts[0].communicate()[1]
                assert time.monotonic() < deadline
                time.sleep(0.05)
            kill_with_children(hosts[0].pid)
            _, err = hosts[1].communicate(timeout=60)
            assert hosts[1].returncode != 0, err
        finally:
            for host in hosts:
                kill_with_children(host.pid)
                host.communicate()
    name = "step-00000003/model.safetensors"
    alone, shared = (load_file(tmp_path / folder / name) for folder in ("one", "two"))
    for name, value in alone.items():
        torch.testing.assert_close(shared[name], value, atol=1e-5, rtol=1e-5, msg=name)
    measured = [
        {k: v for k, v in row.items() if k.startswith("recall@")}
        for folder in ("one", "two")
        for row in read_log(tmp_path / folder)
        if row["step"] == "3"
    ]
    assert measured[0] == measured[1] and len(measured[0]) > 1


def kill_with_children(pid: int) -> None:
    """Kill a launcher and its processes, as a host that is switched off does."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for number in (pid, *map(int, children)):
        os.kill(number, signal.SIGKILL)
