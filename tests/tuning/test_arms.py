"""Arms: what is refused, what a confirmation trains again, the verdict by hand, and its page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from jobs.specfile import SpecError
from tests.tuning.browser import pages
from tests.tuning.test_report import Search, html_of
from tuning.cli import search as commands
from tuning.report import write
from tuning.report.findings import Findings
from tuning.run.history import History
from tuning.run.results import Trial
from tuning.spec.arms import Arms
from tuning.spec.check import check
from tuning.spec.search import SearchSpec
from tuning.studies.confirm import confirm
from tuning.studies.verdict import COLUMNS, METRIC, judge, judged

DIGITS = Path("jobs/recipes/digits.yaml")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"space": {"epochs": {"kind": "choice", "values": [1, 2]}}}, "leave space out"),
        ({"scheduler": {"kind": "asha"}, "budget": {"trials": 4}}, "leave budget.trials, scheduler out"),
        ({"arms": {"jobs": {"a": {}, "b": {}}, "seeds": [1, 2]}}, "at least 3"),
        ({"arms": {"jobs": {"a": {}, "b": {}}, "seeds": [1, 2, 2]}}, "2 appears more than once"),
        (
            {"arms": {"jobs": {"a": {}, "b": {}}, "seeds": [1, 2, 3], "questions": [{"arm": "c", "against": "a"}]}},
            "'c'",
        ),
        ({"arms": {"jobs": {"a.b": {}, "b": {}}, "seeds": [1, 2, 3]}}, "pattern"),
    ],
)
def test_wrong_arms_are_refused(changes: dict[str, Any], match: str) -> None:
    given = {"name": "x", "job": str(DIGITS), "arms": {"jobs": {"a": {}, "b": {}}, "seeds": [1, 2, 3]}}
    with pytest.raises(ValidationError, match=match):
        SearchSpec.model_validate(given | changes)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"seed.init": 3}, "arms.seeds has the seeds"),
        ({"resources.workers": 2}, "the same for all trials"),
        ({"batch.mixupp.alpha": 0.1}, "there is no batch.mixupp.alpha"),
        ({"schedule.warmup_epochs": 99.0}, "must be less than epochs"),
    ],
)
def test_a_wrong_job_of_an_arm_is_found_before_anything_starts(change: dict[str, Any], match: str) -> None:
    made = SearchSpec(name="x", job=str(DIGITS), arms=Arms(jobs={"a": {}, "b": change}, seeds=(1, 2, 3)))
    with pytest.raises(SpecError, match=match):
        check(made)


def ended(of: Arms, scores: Sequence[Sequence[float]], failed: Sequence[tuple[int, int]] = ()) -> list[Trial]:
    """Trials with these test accuracies, an arm a row and a seed a column."""
    trials = []
    for ordinal in range(of.trials):
        seed, arm = divmod(ordinal, len(of.jobs))
        trial = Trial(ordinal, f"x-{ordinal}", of.params(ordinal), status="FINISHED")
        trial.values = {"test/top1": scores[arm][seed], "val/top1": 0.5}
        if (arm, seed) in failed:
            trial.status, trial.kind, trial.cause, trial.values = "FAILED", "memory", "out of memory", {}
        trials.append(trial)
    return trials


THREE = Arms(jobs={"base": {}, "same": {"epochs": 2}, "better": {"epochs": 3}}, seeds=(4, 5, 6))
SCORES = [[0.50, 0.52, 0.54], [0.50, 0.52, 0.54], [0.60, 0.625, 0.64]]


def test_identical_arms_do_not_differ_and_a_large_difference_is_better() -> None:
    verdict = judge(THREE, ended(THREE, SCORES))
    base, same, better = verdict.rows
    assert base.cells == ["base", "52.00 ± 2.00", "", "", "", "", "", "3", ""]
    assert same.cells[2:] == ["+0.00", "+0.00 to +0.00", "no difference seen", "base", "1.000", "3", ""]
    assert better.words == "better" and better.found is not None
    # differences 10, 10.5, 10: mean 10.1667, standard error 1/6, t = 61, Holm's factor 2
    assert better.found.mean == pytest.approx(61 / 6) and better.found.p == pytest.approx(2 * 2.686e-4, rel=1e-3)
    assert verdict.headline == "better is better than base by 10.17 points; no difference seen in the other 1."
    worse = judge(THREE, ended(THREE, [SCORES[2], SCORES[2], SCORES[0]]))
    assert worse.rows[2].words == "worse"


def test_a_small_difference_says_how_many_seeds_would_show_it() -> None:
    row = judge(THREE, ended(THREE, [SCORES[0], SCORES[0], [0.51, 0.52, 0.545]])).rows[2]
    assert row.words == "no difference seen" and row.found is not None
    assert int(row.cells[-1]) == row.found.needed > 3


def test_a_failed_trial_drops_its_seed_and_says_so() -> None:
    four = THREE.model_copy(update={"seeds": (4, 5, 6, 7)})
    scores = [[*row, row[0]] for row in SCORES]
    verdict = judge(four, ended(four, scores, failed=[(0, 1)]))
    assert [row.found.pairs for row in verdict.rows if row.found] == [3, 3]
    assert verdict.notes == ("seed 5 of base is left out of its pairs, for trial 3 failed (memory: out of memory)",)
    verdict = judge(four, ended(four, scores, failed=[(2, 0), (2, 1)]))
    assert verdict.rows[1].words == "no difference seen" and verdict.rows[2].words == "2 pairs are too few"
    assert verdict.headline.endswith("; no verdict on 1, which have too few scores.")
    verdict = judge(four, ended(four, scores, failed=[(2, 0)]))
    assert verdict.rows[2].cells[4] == "better on 3 of 4 seeds, the rest have no score"
    assert "better than base by 10.17 points on 3 of 4 seeds, the rest have no score" in verdict.headline
    assert judge(THREE, ended(THREE, SCORES, failed=[(0, 0)])).headline == "No verdict: too few runs have a score."


def test_there_is_no_verdict_before_the_end() -> None:
    trials = ended(THREE, SCORES)
    trials[-1].status = "RUNNING"
    verdict = judge(THREE, trials)
    assert verdict.headline == "No verdict yet: 8 of 9 runs have ended."
    assert all(row.found is None and row.words == "" for row in verdict.rows)
    assert verdict.rows[2].differences == pytest.approx((10.0, 10.5))


def test_a_spent_budget_ends_the_waiting_for_a_verdict() -> None:
    four = THREE.model_copy(update={"seeds": (4, 5, 6, 7)})
    trials = ended(four, [[*row, row[0]] for row in SCORES])[:10]
    assert judge(four, trials).headline == "No verdict yet: 10 of 12 runs have ended."
    verdict = judge(four, trials, over=True)
    assert verdict.headline.startswith("better is better than base by 10.17 points on 3 of 4 seeds")
    assert verdict.notes == ("the search was over after 10 of 12 runs",)


def test_a_search_for_balanced_accuracy_is_judged_by_it() -> None:
    given = {"name": "x", "job": str(DIGITS), "arms": THREE, "mode": "max"}
    assert judged(SearchSpec(**given, metric="val/balanced_accuracy")) == "test/balanced_accuracy"
    assert judged(SearchSpec(**given)) == judged(SearchSpec(**{**given, "mode": "min"}, metric="val/loss")) == METRIC
    trials = ended(THREE, SCORES)
    for trial in trials:
        trial.values["test/balanced_accuracy"] = 1 - trial.values["test/top1"]
    verdict = judge(THREE, trials, "test/balanced_accuracy")
    assert (verdict.rows[2].words, verdict.columns[1]) == ("worse", "test balanced accuracy, %")
    assert verdict.markdown.splitlines()[2].startswith("| arm | test balanced accuracy, % | ")


def test_the_markdown_can_be_copied() -> None:
    lines = judge(THREE, ended(THREE, SCORES)).markdown.splitlines()
    assert lines[2] == f"| {' | '.join(COLUMNS)} |" and lines[3].count("---") == len(COLUMNS)
    assert lines[6].startswith("| better | 62.17 ± 2.02 | +10.17 | ")


def search_of(folder: Path, values: Sequence[float], **changes: Any) -> History:
    """A search over the learning rate whose trials came to these values; one with a stopped, a failed trial."""
    space = {"optimizer.lr": {"kind": "uniform", "low": 0.01, "high": 1.0}}
    given = {"name": "before", "job": str(DIGITS), "space": space, "budget": {"trials": 9, "epochs_per_trial": 4}}
    made = Search(folder, SearchSpec.model_validate(given | changes))
    for ordinal, value in enumerate(values):
        made.learn({"optimizer.lr": (10 + ordinal) / 100}, value, stopped_by="asha" if ordinal == 1 else None)
    made.end(made.trial({"optimizer.lr": 0.9}), {}, status="FAILED", cause="loss is nan", kind="nan")
    made.journal.close()
    return History.look(made.folder)


def test_the_best_are_confirmed_on_seeds_that_the_search_never_saw(tmp_path: Path) -> None:
    history = search_of(tmp_path, [0.9, 0.99, 0.7, 0.8], set={"seed.init": 3, "seed.data": 8})
    made, remarks = confirm(history, 2, 5)
    assert made.arms is not None and made.name == "before-confirm"
    # trial 0 has the job's own learning rate, 0.1; trial 1 was stopped early, so those that finished come first
    assert made.arms.jobs == {"base": {}, "trial 3": {"optimizer.lr": 0.13}, "trial 2": {"optimizer.lr": 0.12}}
    assert made.arms.seeds == (9, 10, 11, 12, 13)
    assert remarks == ("trial 0 is left out, for its job is another arm's",)
    assert made.base() == history.spec.whole() and made.base().epochs == 15  # type: ignore[union-attr]
    short, _ = confirm(search_of(tmp_path / "short", [0.9, 0.8], finish=False), 1, 3)
    assert short.base().epochs == 4, "as long as the trials were"
    made, remarks = confirm(history, 9, 5)
    assert made.arms is not None and list(made.arms.jobs)[-1] == "trial 1"
    assert "trial 1 was stopped early by asha; it now runs to its end" in remarks
    assert remarks[-1] == "there are 3 trials to confirm, not 9"


def test_there_must_be_something_to_confirm(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="before has no finished trial to confirm"):
        confirm(search_of(tmp_path, [0.9]), 3, 5)
    made = Search(tmp_path, SearchSpec(name="twice", job=str(DIGITS), arms=THREE))
    made.journal.close()
    with pytest.raises(ValueError, match="compares arms on seeds of their own already"):
        confirm(History.look(made.folder), 3, 5)


@pytest.fixture
def compared(tmp_path: Path) -> Search:
    """Ten arms by three seeds, as an ablation has them."""
    of = Arms(
        kind="ablation", jobs={f"without trick number {k}": {"epochs": 2 + k} for k in range(10)}, seeds=(4, 5, 6)
    )
    made = Search(tmp_path, SearchSpec(name="compared", job=str(DIGITS), arms=of))
    for ordinal in range(of.trials):
        seed, arm = divmod(ordinal, 10)
        made.learn(of.params(ordinal), 0.5)
        made.end(ordinal, {"val/top1": 0.5, "test/top1": 0.5 + 0.02 * arm + 0.001 * seed * (arm % 3)})
    return made


def test_the_report_has_the_verdict(compared: Search) -> None:
    page = html_of(compared)
    row = judge(compared.spec.arms, Findings.of(compared.folder).trials).rows[4]  # type: ignore[arg-type]
    assert row.cells in page.cells and row.words == "better"
    assert ["without trick number 3", "epochs 5"] in page.cells
    assert page.trials["learning_curves"] == {str(ordinal) for ordinal in range(30)}
    written = {path.name for path, _ in write.write(compared.folder)}
    assert written == {"verdict.json", "verdict.md", "leaderboard.json", "report.html", "figures"}
    assert {path.stem for path in (compared.folder / "figures").iterdir()} == {"differences", "learning_curves"}


@pytest.mark.slow
def test_the_page_reads_well_on_a_desk_and_in_a_hand(compared: Search) -> None:
    compared.journal.close()
    write.write(compared.folder)
    with pages() as context:
        page = context.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        for width, height in ((1440, 900), (390, 844)):
            page.set_viewport_size({"width": width, "height": height})
            page.goto((compared.folder / write.REPORT).as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= width, "the page itself scrolls sideways"
            labels = page.locator("#differences svg text", has_text="against without")
            labels.first.wait_for()
            assert labels.count() == 9, "a row a question"
            boxes = [label.bounding_box() for label in labels.all()]
            assert all(box is not None and box["height"] >= 12 for box in boxes), "too small to read"
            table = page.locator("h2:has-text('Verdict') ~ .wide").first
            assert table.locator("tbody tr").count() == 10
            assert "better than without trick number 0" in page.locator("h2:has-text('Verdict') ~ p").first.inner_text()
        assert errors == []


def test_a_report_that_is_written_anew_has_the_verdict_anew(compared: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    compared.journal.close()
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(compared.folder.parents[1]))
    for name in write.VERDICT:
        (compared.folder / name).write_text("old")
    done = CliRunner().invoke(commands, ["report", "compared", "-o", str(compared.folder / "elsewhere.html")])
    assert done.exit_code == 0, done.output
    verdict = compared.folder / "verdict.md"
    assert f"verdict  {verdict}" in done.output and (compared.folder / "elsewhere.html").exists()
    found = judge(compared.spec.arms, Findings.of(compared.folder).trials)  # type: ignore[arg-type]
    assert verdict.read_text() == found.markdown
    assert (compared.folder / "verdict.json").read_text() == json.dumps(found.table)
