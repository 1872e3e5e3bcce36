"""Training on two hosts, one process on each, and one of them killed."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_corpus import write_flickr8k
from small_runs import arguments, run
from two_hosts import two_hosts

from s3prl_speechclip.pretrain import train

STILL = (
    "model.attention.dropout=0.0,,model.speech_encoder.architecture.hidden_dropout=0.0,,"
    "model.speech_encoder.architecture.attention_dropout=0.0,,"
    "optimizer.eps=1e-3,,optimizer.lr=1e-5,,scheduler.name=constant,,"
    "data.eval_batch_size=5,,runner.eval_step=3,,runner.max_keep=9999"
)
PROGRAM = """
import os, torch
from s3prl_speechclip.pretrain import train
measure, calls = train.recall_at_k, []
def keep(vectors, images, *ids):
    calls.append(ids)
    torch.save((vectors, *ids), f"measured-{len(calls)}-{os.environ['RANK']}.pt")
    return measure(vectors, images, *ids)
train.recall_at_k = keep
from s3prl_speechclip.cli.pretrain import main
main()
"""


def test_two_hosts_train_as_one_does_and_end_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards torchrun over a network, and a job against the wait for a host that is gone.

    The validation split has 15 recordings in 3 batches, which 2 processes share: each recording is
    measured once. The host that is killed is the one that the others meet at.
    """
    corpus = write_flickr8k(tmp_path / "corpus", dev=3)
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    argv = ("-u", "speechclip_parallel", "--device", "cpu")
    measure, alone = train.recall_at_k, []
    monkeypatch.setattr(train, "recall_at_k", lambda *a: (alone.append(a), measure(*a))[1])
    run(*arguments(corpus, tmp_path / "one", 3, *argv, overrides=STILL))
    with two_hosts() as launchers:
        options = arguments(corpus, tmp_path / "two", 10_000, *argv, overrides=STILL)
        hosts = [
            subprocess.Popen(
                [*launcher, "program.py", *options], cwd=tmp_path, stderr=log.open("w")
            )
            for launcher, log in zip(
                launchers, (tmp_path / "log-0", tmp_path / "log-1"), strict=True
            )
        ]
        try:
            deadline = time.monotonic() + 240
            while not (tmp_path / "two" / "step-00000006").is_dir():
                assert all(host.poll() is None for host in hosts), (tmp_path / "log-0").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
            kill_with_children(hosts[0].pid)
            assert hosts[1].wait(timeout=60) != 0
        finally:
            for host in hosts:
                kill_with_children(host.pid)
                host.wait()
    name = "step-00000003/model.safetensors"
    expected, found = (load_file(tmp_path / folder / name) for folder in ("one", "two"))
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-5, rtol=1e-5, msg=name)
    vectors, _, *ids = alone[0]
    for rank in (0, 1):
        kept = torch.load(tmp_path / f"measured-1-{rank}.pt")
        torch.testing.assert_close(kept[0], vectors, atol=1e-4, rtol=0)
        assert len(vectors) == 15 and all(map(torch.equal, kept[1:], ids))


def kill_with_children(pid: int) -> None:
    """Kill a launcher and its processes, as a host that is switched off does."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for number in (pid, *map(int, children)):
        os.kill(number, signal.SIGKILL)
