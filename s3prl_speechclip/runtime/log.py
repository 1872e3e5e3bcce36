"""What a run writes for people: a CSV, TensorBoard scalars, a plot at the end."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # a run on a cluster has no screen

from matplotlib import pyplot as plt
from torch.utils.tensorboard import SummaryWriter

LOG_FILE = "log.csv"
PLOT_FILE = "curves.png"
RECALL = "recall@"  # columns of validation recall begin with it


class RunLog:
    """The log of one experiment.

    The CSV has one line per logged step; a column that a line has no value for is empty.

    Args:
        folder: of the experiment.
        from_step: lines after this step, of a run that went further before it was interrupted, are
            dropped.
    """

    def __init__(self, folder: Path, from_step: int = 0) -> None:
        self.folder = folder
        self._rows = [row for row in read_log(folder) if int(row["step"]) <= from_step]
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=from_step + 1)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Write the values of a step; those of one step share a line."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        row = {name: f"{value:.6g}" for name, value in values.items()}
        if self._rows and int(self._rows[-1]["step"]) == step:
            self._rows[-1].update(row)
        else:
            self._rows.append({"step": str(step), **row})
        self._write()

    def close(self) -> None:
        """Finish the TensorBoard file and draw the plot."""
        self._writer.close()
        plot(self._rows, self.folder / PLOT_FILE)

    def _write(self) -> None:
        columns = list(dict.fromkeys(name for row in self._rows for name in row))
        partial = self.folder / (LOG_FILE + ".partial")
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(self._rows)
        partial.replace(self.folder / LOG_FILE)


def read_log(folder: Path) -> list[dict[str, str]]:
    """Read the log of an experiment, empty cells left out."""
    path = folder / LOG_FILE
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [{k: v for k, v in row.items() if v} for row in csv.DictReader(file)]


def plot(rows: list[dict[str, str]], path: Path) -> None:
    """Draw losses and validation recall over steps."""
    figure, (losses, recalls) = plt.subplots(1, 2, figsize=(11, 4), constrained_layout=True)
    names = dict.fromkeys(name for row in rows for name in row)
    for name in names:
        points = [(int(row["step"]), float(row[name])) for row in rows if name in row]
        if name == "loss" or name.startswith("loss/"):
            losses.plot(*zip(*points, strict=True), label=name)
        elif name.startswith(RECALL + "10"):
            split = name.partition("/")[2] or "mean"
            recalls.plot(*zip(*points, strict=True), marker=".", label=split)
    losses.set(xlabel="step", ylabel="loss", title="Training")
    recalls.set(xlabel="step", ylabel="recall@10, %", title="Validation", ylim=(0, None))
    for axes in (losses, recalls):
        if axes.lines:
            axes.legend()
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def progress_figures(shown: Mapping[str, float]) -> dict[str, str]:
    """Choose what the progress bar shows of a step's figures."""
    chosen = {}
    for name, value in shown.items():
        if name == "loss" or name.startswith("loss/"):
            chosen[name.removeprefix("loss/")] = f"{value:.3f}"
        elif name == "recall@10":
            chosen["R@10"] = f"{value:.1f}"
        elif name == "examples_per_second":
            chosen["ex/s"] = f"{value:.0f}"
    return chosen
