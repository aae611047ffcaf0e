"""Reports of searches, from journals as a search writes them, with made-up numbers."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from orchestrator.tracking.journal import Journal
from tests.orchestrator.real import wait_until
from tests.tuning.browser import pages
from tests.tuning.planted import BRANCHED, EPOCHS, TEACHER, curve
from tuning.report import write
from tuning.report.chart import png, trials_of
from tuning.report.findings import Findings
from tuning.report.importance import Importance, importance
from tuning.report.scales import fence, line, scale_of
from tuning.run.history import FILE, History
from tuning.run.results import jsonable
from tuning.searchers.searcher import uniform
from tuning.spec.search import SearchSpec
from tuning.spec.space import Choice, Distribution, Fixed, Integers, LogUniform, Uniform

SPACE: dict[str, Distribution] = {
    "optimizer.lr": LogUniform(low=0.001, high=1.0),
    "batch.label_smoothing.epsilon": Uniform(low=0.0, high=0.2),
    "batch.mixup.alpha": Choice(values=(0.05, 0.1, 0.2, 0.4)),
    "augment.crop.padding": Integers(low=0, high=4),
    "resources.workers": Fixed(value=1),
}
LR = 0.03
FIGURES = ["learning_curves", "best_so_far", "parallel_coordinates", "importance", "contour"]
POINTED = """() => {
  const marks = [...document.querySelectorAll("path[aria-label^='trial ']")];
  const clear = marks.filter(mark => mark.getAttribute("opacity") === "1");
  const rows = [...document.querySelectorAll("tr.on")];
  return [[...new Set(clear.map(mark => mark.getAttribute("aria-label")))], rows.map(row => row.dataset.trial)];
}"""
"""The trials whose marks have not faded, and those whose rows are marked."""


def spec(name: str = "made-up", **changes: Any) -> SearchSpec:
    given = {"name": name, "job": "jobs/recipes/digits.yaml", "space": SPACE, "budget": {"trials": 40}}
    return SearchSpec.model_validate({**given, **changes})


def draw(space: dict[str, Distribution], ordinal: int) -> dict[str, Any]:
    return {name: axis.at(uniform("report", ordinal, name)) for name, axis in space.items()}


def quality(params: dict[str, Any]) -> float:
    """The learning rate matters, smoothing a little, the rest not at all."""
    return 0.97 - 0.1 * math.log10(params["optimizer.lr"] / LR) ** 2 - params["batch.label_smoothing.epsilon"] / 10


class Search:
    """Writes the journal of a search, with a clock of its own: a minute an epoch."""

    def __init__(self, folder: Path, of: SearchSpec) -> None:
        self.now, self.folder, self.spec = 1_700_000_000.0, folder / "runs" / of.name, of
        self.journal = Journal(self.folder / FILE)
        self.params: list[dict[str, Any]] = []
        self.add("search", spec=of.model_dump(mode="json"))
        self.add("open")

    def add(self, event: str, **fields: Any) -> None:
        self.journal.append([{"event": event, "time": self.now, **fields}])

    def trial(self, params: dict[str, Any]) -> int:
        ordinal = len(self.params)
        self.params.append(params)
        self.add("trial", ordinal=ordinal, run=f"{self.spec.name}-{ordinal:04d}", params=params)
        return ordinal

    def epochs(self, ordinal: int, values: list[dict[str, float]]) -> None:
        for epoch, at in enumerate(values, 1):
            self.now += 60
            self.add("result", ordinal=ordinal, epoch=epoch, values=jsonable(at))

    def end(self, ordinal: int, values: dict[str, float], **how: Any) -> None:
        fields = {"status": "FINISHED", "stopped_by": None, "cause": None, "kind": None, **how}
        self.add("end", ordinal=ordinal, values=jsonable(values), **fields)

    def learn(self, params: dict[str, Any], best: float, epochs: int = 4, **how: Any) -> None:
        """A trial with a curve towards ``best``."""
        ordinal = self.trial(params)
        values = [
            {"val/top1": best - 0.3 * math.exp(-epoch), "val/loss": 1 - best, "seconds": 60.0 * epoch}
            for epoch in range(1, epochs + 1)
        ]
        self.epochs(ordinal, values)
        self.end(ordinal, values[-1], **how)

    def findings(self) -> Findings:
        self.journal.close()
        return Findings.of(self.folder)


@pytest.fixture
def search(tmp_path: Path) -> Callable[..., Search]:
    return lambda name="made-up", **changes: Search(tmp_path, spec(name, **changes))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with pages() as context:
        yield context


def only(page: Any, trial: str) -> None:
    """Wait until all others have faded in every figure, and its row alone is marked."""
    wait_until(lambda: page.evaluate(POINTED) == [[f"trial {trial}"], [trial]], f"trial {trial} to stand out")


def usual(search: Callable[..., Search], trials: int = 16) -> Search:
    """Finished trials, some that were stopped, two that failed and one without an end."""
    made = search(scheduler={"kind": "asha", "grace_epochs": 2})
    for ordinal in range(trials):
        params = draw(SPACE, ordinal)
        stopped = ordinal % 3 == 2
        made.learn(params, quality(params), 2 if stopped else 4, stopped_by="asha" if stopped else None)
    for _ in range(2):
        failed = made.trial(draw(SPACE, 90))
        made.end(failed, {}, status="FAILED", cause="CUDA out of memory: 3 GB <b>", kind="memory")
    made.epochs(made.trial(draw(SPACE, 91)), [{"val/top1": math.nan, "val/loss": math.inf}])
    return made


class Page(HTMLParser):
    """What a page says, which trials its table and figures have, and what it would load."""

    VOID = frozenset({"meta", "br", "hr", "img", "link", "input"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.trials: dict[str, set[str]] = {}
        self.loads: list[str] = []
        self.text = self.data = ""
        self.cells: list[list[str]] = []
        self.feed(html)
        assert not self.open, f"left open: {self.open}"
        data = json.loads(self.data)
        self.texts: dict[str, str] = data["texts"]
        for name, figure in data["figures"].items():
            for part in (figure, *figure["layer"]):
                values = part.get("data", {}).get("values", ())
                if isinstance(values, str):
                    head, *lines = (line.split(",") for line in values.splitlines())
                    values = [dict(zip(head, line, strict=True)) for line in lines]
                self.trials.setdefault(name, set()).update(str(row["trial"]) for row in values if "trial" in row)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag not in self.VOID:
            self.open.append(tag)
        self.ids += [found["id"]] if "id" in found else []
        if "data-trial" in found:
            self.trials.setdefault("table", set()).add(found["data-trial"])
        addresses = [found[name] for name in ("src", "href") if name in found]
        self.loads += [address for address in addresses if not address.startswith(("#", "data:"))]
        if tag == "tr":
            self.cells.append([])
        if tag in ("td", "th"):
            self.cells[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("script", "style"):
            self.data = data if self.ids[-1:] == ["data"] and not self.data else self.data
            return
        self.text += data
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1][-1] += data


def html_of(made: Search) -> Page:
    findings = made.findings()
    return Page(write.render(findings, write.panels(findings)))


def test_the_page_is_whole_and_loads_nothing(search: Callable[..., Search]) -> None:
    made = usual(search)
    findings = made.findings()
    html = write.render(findings, write.panels(findings))
    page = Page(html)
    assert page.loads == [] and "@import" not in html
    assert len(page.ids) == len(set(page.ids)), "an id is used twice"
    assert list(page.trials)[1:] == FIGURES
    assert len(html) < 2_000_000


def test_every_trial_with_a_value_can_be_pointed_at_in_every_figure(
    search: Callable[..., Search], browser: Any
) -> None:
    made = usual(search)
    valued = {str(ordinal) for ordinal in range(16)}
    page = html_of(made)
    assert page.trials["table"] == valued | {"16", "17", "18"} == page.texts.keys()
    write.write(made.folder)
    shown, errors = browser.new_page(), list[str]()
    shown.on("pageerror", lambda error: errors.append(str(error)))
    shown.goto((made.folder / write.REPORT).as_uri())
    for figure in FIGURES:
        shown.locator(f"#{figure} svg").wait_for()
    tip, other = shown.locator("#vg-tooltip-element.visible"), {"contour"}
    for figure in ("learning_curves", "parallel_coordinates", "best_so_far", "contour"):
        marks = shown.locator(f"#{figure} path[aria-label^='trial ']")
        found = {mark.get_attribute("aria-label").removeprefix("trial ") for mark in marks.all()}
        assert found == page.trials[figure] and (found <= valued if figure in other else found == valued)
        assert len(found) >= 11
        for ordinal in found:
            mark = shown.locator(f"#{figure} path[aria-label='trial {ordinal}']").last
            for event in ("mouseover", "mousemove"):
                mark.dispatch_event(event)
            assert tip.text_content() == page.texts[ordinal]
            only(shown, ordinal)
    assert errors == []
    shown.close()


def test_what_is_no_text_of_ours_is_shown_as_it_is(search: Callable[..., Search], browser: Any) -> None:
    """Values, causes and names with markup in them are text, in the tables and where a trial is pointed at."""
    evil = "</script><img src=x onerror=alert(1)>"
    made = search(space={**SPACE, "schedule.decay.kind": Choice(values=(evil, "a, 'b' \\ \n {{c}}"))})
    for ordinal in range(12):
        made.learn(
            {**draw(SPACE, ordinal), "schedule.decay.kind": (evil, "a, 'b' \\ \n {{c}}")[ordinal % 2]}, ordinal / 20
        )
    made.end(made.trial({**draw(SPACE, 90), "schedule.decay.kind": evil}), {}, status="FAILED", cause=evil, kind=evil)
    page = html_of(made)
    assert [evil, "1", "12", evil] in page.cells
    write.write(made.folder)
    shown, errors = browser.new_page(), list[str]()
    for event in ("pageerror", "dialog", "requestfailed"):
        shown.on(event, lambda what: errors.append(str(what)))
    shown.goto((made.folder / write.REPORT).as_uri())
    for figure in FIGURES:
        shown.locator(f"#{figure} svg").wait_for()
    shown.locator("#best_so_far path[aria-label='trial 10']").dispatch_event("mousemove")
    assert evil in shown.locator("#vg-tooltip-element.visible").text_content()
    assert shown.locator("img").count() == 0 and errors == []
    shown.close()


def test_the_report_is_for_keys_and_paper_too(search: Callable[..., Search], browser: Any) -> None:
    made = usual(search, 40)
    made.journal.close()
    write.write(made.folder)
    page = browser.new_page()
    page.goto((made.folder / write.REPORT).as_uri())
    page.locator("#contour svg").wait_for()
    row = page.locator("tr[data-trial]").nth(1)
    trial = row.get_attribute("data-trial")
    row.focus()
    only(page, trial)
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.locator("pre").focus()
    only(page, trial)  # Enter keeps it
    page.emulate_media(media="print")
    box = page.locator("table").first.locator("xpath=..").evaluate("box => [box.scrollHeight, box.clientHeight]")
    assert box[0] == box[1], "a table is cut off on paper"
    page.close()


def test_what_draws_the_report_is_imported_when_it_is_drawn() -> None:
    program = (
        "import sys; import orchestrator.__main__, tuning.cli, tuning.report.write, tuning.run.launch;"
        "print([name for name in ('vl_convert', 'jinja2', 'matplotlib') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_leaderboard_has_the_best_first_and_the_others_last(search: Callable[..., Search]) -> None:
    made = usual(search)
    findings = made.findings()
    table = write.leaderboard(findings)
    json.dumps(table, allow_nan=False)
    column = {name: [row[at] for row in table["data"]] for at, name in enumerate(table["columns"])}
    assert column["rank"] == [*range(1, 17), None, None, None]
    values = column["val/top1"][:16]
    assert values == sorted(values, reverse=True) and column["val/top1"][16:] == [None] * 3
    assert column["state"][16:] == ["failed (memory)", "failed (memory)", "unfinished"]
    assert "resources/workers" not in column, "what is fixed is no parameter"
    assert not any("." in name for name in table["columns"]), "MLflow's UI shows such columns empty"
    best = column["trial"][0]
    assert column["optimizer/lr"][0] == pytest.approx(made.params[best]["optimizer.lr"], rel=1e-5)
    assert column["epochs"][0] in (2, 4) and column["seconds"][0] == 60.0 * column["epochs"][0]
    page = Page(write.render(findings, []))
    assert page.cells[1][:2] == ["1", str(best)] and page.cells[1][-1] in ("finished", "stopped by asha")


def test_failures_are_told_with_their_causes(search: Callable[..., Search]) -> None:
    page = html_of(usual(search))
    assert ["memory", "2", "16, 17", "CUDA out of memory: 3 GB <b>"] in page.cells


def test_what_was_searched_is_told(search: Callable[..., Search]) -> None:
    page = html_of(usual(search))
    assert ["optimizer.lr", "loguniform", "0.001 to 1", ""] in page.cells
    assert ["batch.mixup.alpha", "choice", "0.05, 0.1, 0.2, 0.4", ""] in page.cells
    assert "kind: asha" in page.text


def test_what_matters_is_found(search: Callable[..., Search]) -> None:
    made = search()
    for ordinal in range(30):
        params = draw(SPACE, ordinal)
        made.learn(params, quality(params))
    findings = made.findings()
    found = importance(findings, scales(findings))
    assert isinstance(found, Importance)
    first = next(iter(found.shares))
    assert first == "optimizer.lr" and found.shares[first] > 0.7
    assert found.low[first] > max(found.high[name] for name in found.shares if name != first)
    assert found.sure and found.fit > 0.5 and "little" not in found.trust
    assert 0.7 < sum(found.shares.values()) <= 1.0


def test_noise_is_called_noise_and_few_trials_are_called_few(search: Callable[..., Search]) -> None:
    made = search()
    for ordinal in range(30):
        made.learn(draw(SPACE, ordinal), uniform("noise", ordinal))
    findings = made.findings()
    noise = importance(findings, scales(findings))
    assert isinstance(noise, Importance) and not noise.sure and "means little" in noise.trust
    few = search("few")
    for ordinal in range(6):
        few.learn(draw(SPACE, ordinal), quality(draw(SPACE, ordinal)))
    page = html_of(few)
    assert "With 6 trials this means little" in page.text
    three = search("three")
    for ordinal in range(3):
        three.learn(draw(SPACE, ordinal), 0.9)
    assert "it needs at least 4 trials that can be compared, and there are 3" in html_of(three).text


def test_trials_that_were_stopped_are_compared_at_an_epoch_that_all_reached(search: Callable[..., Search]) -> None:
    made = search(scheduler={"kind": "asha", "grace_epochs": 2})
    for ordinal in range(12):
        stopped = ordinal > 2
        made.learn(draw(SPACE, ordinal), 0.9, 2 if stopped else 5, stopped_by="asha" if stopped else None)
    values, of = made.findings().comparable()
    assert of == "val/top1 after epoch 2, the last that all 12 trials reached"
    assert set(values.values()) == {0.9 - 0.3 * math.exp(-2)}
    other = search("finished")
    for _ in range(3):
        other.learn(draw(SPACE, 0), 0.9)
    assert other.findings().comparable()[1] == "val/top1 at the end of the 3 trials that finished"


def test_the_clock_stands_still_between_drivers(search: Callable[..., Search]) -> None:
    made = search()
    made.learn(draw(SPACE, 0), 0.5)
    made.now += 10**6
    made.add("open")
    made.learn(draw(SPACE, 1), 0.4)
    made.learn(draw(SPACE, 2), 0.9)
    findings = made.findings()
    assert [(at, trial.ordinal) for at, _, trial in findings.best_so_far()] == [(240.0, 0), (720.0, 2)]
    assert findings.seconds == 720.0


def test_a_journal_that_a_search_writes_itself_is_read_the_same(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.add("search", spec=spec().model_dump(mode="json"))
    history.add("open")
    history.add("trial", ordinal=0, run="made-up-0000", params=draw(SPACE, 0))
    history.add("result", ordinal=0, epoch=1, values={"val/top1": 0.5})
    assert Findings.of(tmp_path).state == "running"
    end = {"status": "FINISHED", "values": {"val/top1": 0.5}, "stopped_by": None, "cause": None, "kind": None}
    history.add("end", ordinal=0, **end)
    history.add("close", why="trials")
    findings = Findings.of(tmp_path)
    history.close()
    assert findings.state == "over: trials" and findings.ranked == list(findings.trials) == [history.trials[0]]


def test_less_is_better_where_the_goal_says_so(search: Callable[..., Search]) -> None:
    made = search(metric="val/loss", mode="min")
    for best in (0.5, 0.9, 0.7):
        made.learn(draw(SPACE, int(10 * best)), best)
    findings = made.findings()
    assert [trial.ordinal for trial in findings.ranked] == [1, 2, 0]
    assert [trial.ordinal for _, _, trial in findings.best_so_far()] == [0, 1]
    assert fence([0.1, 0.2, 0.15, 0.12, 50.0], "min")[1] < 1 < fence([0.1, 0.2, 0.15, 0.12, 50.0], "max")[1]


def test_the_front_of_several_objectives(search: Callable[..., Search]) -> None:
    objectives = [{"metric": "val/top1", "mode": "max"}, {"metric": "seconds", "mode": "min"}]
    made = search(objectives=objectives, searcher={"kind": "nsga2"})
    for top1, seconds in ((0.9, 100), (0.8, 50), (0.7, 60), (0.95, 300), (0.9, 100.5)):
        trial = made.trial(draw(SPACE, int(seconds)))
        made.epochs(trial, [{"val/top1": top1, "seconds": seconds}])
        made.end(trial, {"val/top1": top1, "seconds": seconds})
    findings = made.findings()
    assert [trial.ordinal for trial in findings.front()] == [3, 0, 1]
    page = Page(write.render(findings, write.panels(findings)))
    assert page.trials["front"] == {"0", "1", "2", "3", "4"}
    assert "never among them" in page.text


def test_branches_are_shown_where_they_were_not_drawn(search: Callable[..., Search]) -> None:
    made = search(space=BRANCHED)
    for ordinal in range(12):
        params: dict[str, Any] = {
            "distillation": TEACHER if ordinal % 2 else None,
            "batch.label_smoothing.epsilon": 0.1,
        }
        names = ("distillation.temperature", "distillation.weight") if ordinal % 2 else ("batch.mixup.alpha",)
        params |= {name: BRANCHED[name].at(uniform("branch", ordinal, name)) for name in names}
        made.learn(params, curve(params, EPOCHS))
    page = html_of(made)
    assert "Left out, since not all of these trials drew them: distillation.temperature" in page.text
    assert page.trials["parallel_coordinates"] == {str(ordinal) for ordinal in range(12)}
    table = write.leaderboard(Findings.of(made.folder))
    json.dumps(table, allow_nan=False)


@pytest.mark.parametrize("trials", [0, 1, 2])
def test_a_search_with_little_to_show_still_has_a_report(search: Callable[..., Search], trials: int) -> None:
    made = search()
    for ordinal in range(trials):
        made.learn(draw(SPACE, ordinal), 0.5, 1)
    page = html_of(made)
    assert "Not shown" in page.text
    assert ("No trial has come to a result." in page.text) == (trials == 0)


def test_trials_that_all_failed_still_have_a_report(search: Callable[..., Search]) -> None:
    made = search()
    for ordinal in range(5):
        made.end(made.trial(draw(SPACE, ordinal)), {}, status="FAILED", cause="loss is nan", kind="nan")
    page = html_of(made)
    assert ["nan", "5", "0, 1, 2, 3, 4", "loss is nan"] in page.cells


def test_what_is_written_is_what_mlflow_shows(search: Callable[..., Search]) -> None:
    made = usual(search)
    made.journal.close()
    parts = write.write(made.folder)
    assert [(path.name, to) for path, to in parts] == [
        ("leaderboard.json", ""),
        ("report.html", ""),
        ("figures", "figures"),
    ]
    table = json.loads(parts[0][0].read_text())
    assert set(table) == {"columns", "data"} and all(len(row) == len(table["columns"]) for row in table["data"])
    names = sorted(path.stem for path in parts[2][0].iterdir())
    assert names == ["best_so_far", "contour", "importance", "learning_curves", "parallel_coordinates"]
    for path in parts[2][0].iterdir():
        with Image.open(path) as image:
            assert image.width >= 1000


def test_values_stand_where_they_belong() -> None:
    lr = scale_of(SPACE["optimizer.lr"], [0.1])
    assert [lr.place(value) for value in (0.001, 0.1, 1.0)] == pytest.approx([0, 2 / 3, 1])
    assert [label for _, label in lr.ticks] == ["0.001", "0.01", "0.1", "1"]
    alpha = scale_of(SPACE["batch.mixup.alpha"], [])
    assert alpha.ordered and [at for at, _ in alpha.ticks] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert math.isnan(alpha.place(0.3))
    named = scale_of(Choice(values=("cosine", None, {"kind": "linear"})), [])
    assert not named.ordered and [label for _, label in named.ticks] == ["cosine", "none", "linear"]
    padding = scale_of(SPACE["augment.crop.padding"], [6])
    assert padding.place(3) == 0.5 and all(float(label).is_integer() for _, label in padding.ticks)
    assert [line(0, 1).place(value) for value in (-5, 0.25, math.inf, math.nan)][:3] == [0, 0.25, 1]
    assert line(0.5, 0.5).place(0.5) == 0.5
    tiny = scale_of(LogUniform(low=1e-9, high=1.0), [])
    assert 2 <= len(tiny.ticks) <= 6


def scales(findings: Findings) -> dict[str, Any]:
    return {name: scale_of(axis, []) for name, axis in findings.axes.items()}


def test_a_picture_is_the_same_without_what_is_only_pointed_at(search: Callable[..., Search]) -> None:
    import vl_convert

    findings = usual(search, 5).findings()
    trials = trials_of(findings)
    for panel in write.panels(findings):
        if panel.name in ("learning_curves", "parallel_coordinates"):
            figure = panel.figure
            assert not isinstance(figure, str)
            hidden = [layer for layer in figure["layer"] if layer["mark"].get("strokeOpacity") == 0]
            assert hidden, panel.name
            look = {"width": 900, "background": "white", "padding": 12, "datasets": {"trials": trials}}
            assert png(figure, trials) == vl_convert.vegalite_to_png({**figure, **look}, scale=1.5)
