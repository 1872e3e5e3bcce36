"""The log of a run: a CSV, TensorBoard scalars, a plot at the end."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from ..atomic import atomic_file

LOG_FILE = "log.csv"
PLOT_FILE = "curves.png"


class ScalarLog(SummaryWriter):
    """The scalars of one run, as TensorBoard events and as a CSV.

    The CSV has one line per logged step; a column that a line has no value for is empty. s3prl's
    experts take this for the SummaryWriter that it is.

    Args:
        folder: the run's folder.
        from_step: step that the run resumes from; later lines, of a run that went further before
            it was interrupted, are dropped. None: none are.
    """

    def __init__(self, folder: Path, from_step: int | None = None) -> None:
        self.folder = folder
        self.latest: dict[str, float] = {}
        """The last value of each scalar that this process wrote."""
        rows = {int(row["step"]): row for row in read_log(folder)}
        self._rows = {s: row for s, row in rows.items() if from_step is None or s <= from_step}
        purge = None if from_step is None else from_step + 1
        super().__init__(str(folder / "tensorboard"), purge_step=purge)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Write the values of a step, and the CSV with them; those of one step share a line."""
        for name, value in values.items():
            self.add_scalar(name, value, step)
        self.write()

    def add_scalar(
        self, tag: str, scalar_value: Any, global_step: int = 0, *args: Any, **kwargs: Any
    ) -> None:
        """Write one scalar; the CSV gets it at the next `write`, `add` or `close`."""
        super().add_scalar(tag, scalar_value, global_step, *args, **kwargs)
        self.latest[tag] = float(scalar_value)
        row = self._rows.setdefault(global_step, {"step": str(global_step)})
        row[tag] = f"{self.latest[tag]:.6g}"

    def write(self) -> None:
        """Write the CSV; it appears whole or not at all."""
        rows = [self._rows[step] for step in sorted(self._rows)]
        columns = list(dict.fromkeys(name for row in rows for name in row))
        with (
            atomic_file(self.folder / LOG_FILE) as partial,
            partial.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(rows)

    def close(self) -> None:
        """Finish the CSV and the TensorBoard file."""
        if self._rows:
            self.write()
        super().close()


def read_log(folder: Path) -> list[dict[str, str]]:
    """Read the log of a run, empty cells left out."""
    path = folder / LOG_FILE
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = [{k: v for k, v in row.items() if v} for row in csv.DictReader(file)]
    return [row for row in rows if row.get("step", "").isdigit()]  # a line may be cut off


def draw_curves(folder: Path) -> Path:
    """Draw losses and validation recall over steps, from the log of a run; return the image."""
    from matplotlib.figure import Figure

    figure = Figure((11, 4), layout="constrained")
    losses, recalls = figure.subplots(1, 2)
    rows = read_log(folder)
    for name in dict.fromkeys(name for row in rows for name in row):
        points = [(int(row["step"]), float(row[name])) for row in rows if name in row]
        kind, _, part = name.partition("/")
        if kind == "loss":
            losses.plot(*zip(*points, strict=True), label=name)
        elif kind == "recall@10":
            recalls.plot(*zip(*points, strict=True), marker=".", label=part or "mean")
    losses.set(xlabel="step", ylabel="loss", title="Training")
    recalls.set(xlabel="step", ylabel="recall@10, %", title="Validation", ylim=(0, None))
    for axes in (losses, recalls):
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    figure.savefig(folder / PLOT_FILE, dpi=120)
    return folder / PLOT_FILE
