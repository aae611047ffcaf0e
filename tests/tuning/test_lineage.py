"""The figure of a population, from a journal as a search writes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tuning.test_report import Search, draw, spec
from tuning.report import write
from tuning.report.landscape import way
from tuning.schedulers import PBT

EPOCHS, EVERY = 9, 3
TAKEN = {3: {2: 0}, 6: {3: 2, 1: 0}}
"""Epoch -> taker -> donor: trial 3 ends with weights that were 0's, then 2's."""


@pytest.fixture
def population(tmp_path: Path) -> Search:
    searched = {"optimizer.lr": spec().axes()["optimizer.lr"]}
    made = Search(
        tmp_path,
        spec("family", space=searched, scheduler=PBT(every_epochs=EVERY), budget={"trials": 4}, set={"epochs": EPOCHS}),
    )
    value = {ordinal: 0.5 - 0.05 * ordinal for ordinal in range(4)}
    for ordinal in range(4):
        made.trial(draw(searched, ordinal))
    for epoch in range(1, EPOCHS + 1):
        for ordinal in range(4):
            value[ordinal] += 0.02 + 0.01 * (ordinal == 3) * (epoch > 6)
            made.now += 10
            values = {"val/top1": value[ordinal], "val/loss": 1 - value[ordinal], "seconds": 10.0 * epoch}
            made.add("result", ordinal=ordinal, epoch=epoch, values=values)
        if epoch in TAKEN:
            changes = {str(t): {"donor": d, "params": draw(searched, 10 * epoch + t)} for t, d in TAKEN[epoch].items()}
            value |= {taker: value[donor] for taker, donor in TAKEN[epoch].items()}
            made.add("takeover", epoch=epoch, changes=changes)
    for ordinal in range(4):
        made.end(ordinal, {"val/top1": value[ordinal], "val/loss": 1 - value[ordinal], "seconds": 90.0})
    return made


def test_the_way_of_weights_goes_through_all_that_had_them(population: Search) -> None:
    findings = population.findings()
    trials = {trial.ordinal: trial for trial in findings.trials}
    assert way(trials, 3) == [(3, 6, 9), (2, 3, 6), (0, 0, 3)]
    assert way(trials, 1) == [(1, 6, 9), (0, 0, 6)]
    assert way(trials, 0) == [(0, 0, 9)]
    assert findings.ranked[0].ordinal == 3


def test_the_report_shows_whose_weights_a_trial_continued_from(population: Search) -> None:
    findings = population.findings()
    shown = {panel.name: panel for panel in write.panels(findings)}
    figure = shown["lineage"].figure
    assert not isinstance(figure, str)
    shafts = [layer for layer in figure["layer"] if layer["encoding"].get("y2") == {"field": "taker"}]
    arrows = {(arrow["epoch"], arrow["taker"], arrow["donor"]) for arrow in shafts[0]["data"]["values"]}
    assert arrows == {(epoch, taker, donor) for epoch, taken in TAKEN.items() for taker, donor in taken.items()}
    write.write(population.folder)
    assert (population.folder / "figures" / "lineage.png").stat().st_size > 5_000
    assert "Whose weights each trial continued from" in (population.folder / "report.html").read_text(encoding="utf-8")
