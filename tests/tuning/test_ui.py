"""What people see of a search: the two links into MLflow's real UI, its artifacts there, and the report."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator.runs.links import LOCAL
from orchestrator.tracking.mlflow import Shipper
from tests.orchestrator.real import wait_until
from tests.tuning.browser import pages, server
from tests.tuning.test_driver import outcome_spec, spec
from tests.tuning.test_report import only
from tuning.report.links import links
from tuning.run.launch import search
from tuning.run.named import find

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cluster")]


@pytest.fixture(scope="module")
def outcome() -> Any:
    return search(spec("looked-at", budget={"trials": 3, "epochs_per_trial": 3}))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with pages() as context:
        yield context


@pytest.fixture(scope="module")
def ui(outcome: Any, browser: Any) -> Iterator[dict[str, str]]:
    """The links that the search prints, at the server of this test, whose address the browser has opened."""
    with server() as invitation:
        page = browser.new_page()
        page.goto(invitation)
        page.wait_for_url("**/?again")
        page.close()
        address = invitation.partition("/?")[0]
        found = links(outcome, outcome_spec(outcome.name))
        yield {label: link.replace(LOCAL, address) for label, link in found.items()} | {"server": address}


def curves(part: Any) -> list[int]:
    """How many points each of the curves in a part of a page has; MLflow draws some of them twice."""
    lines = {line.get_attribute("d") or "" for line in part.locator(".scatterlayer path.js-line").all()}
    return [line.count("L") + 1 for line in lines if line]


def test_the_link_to_all_trials_shows_a_curve_of_each(outcome: Any, ui: dict[str, str], browser: Any) -> None:
    page = browser.new_page()
    page.goto(ui["trials"])
    page.get_by_placeholder("Search metric charts").fill("val/top1")
    card = page.get_by_test_id("experiment-view-compare-runs-card").filter(has_text="val/top1").first
    wait_until(lambda: curves(card) == [3, 3, 3], "a curve of each trial with a point an epoch")
    rows = page.locator("a", has_text=re.compile(rf"^{outcome.name}-\d+$")).all_inner_texts()
    assert list(dict.fromkeys(rows)) == [trial.run for trial in outcome.ranked], "the best stands first"
    page.close()


def test_the_compare_link_shows_what_differs(outcome: Any, ui: dict[str, str], browser: Any) -> None:
    page = browser.new_page()
    page.goto(ui["compare"])
    page.locator(".axis-title").nth(2).wait_for()
    axes = page.locator(".axis-title").all_text_contents()
    assert axes[:2] == ["batch.label_smoothing.epsilon", "optimizer.lr"], "an axis a parameter that differs, no other"
    assert page.get_by_placeholder("Ask a question").count() == 0, "its panel would hide a third of the page"
    table = page.locator("body").inner_text()
    for trial in outcome.trials:
        assert trial.run in table and str(trial.params["optimizer.lr"]) in table
    page.get_by_role("link", name="lr", exact=True).click()  # those further down are made when they are scrolled to
    wait_until(lambda: curves(page) == [3, 3, 3], "a curve of each trial with a point an epoch")
    page.close()


def test_the_parent_run_has_a_leaderboard_and_the_report(outcome: Any, ui: dict[str, str], browser: Any) -> None:
    experiment, run_id = ui["trials"].split("/experiments/")[1].split("/")[0], Shipper(find(outcome.name)).target[1]
    artifacts = f"{ui['server']}/#/experiments/{experiment}/runs/{run_id}/artifacts"
    page = browser.new_page()
    page.goto(f"{artifacts}/leaderboard.json")
    for trial in outcome.trials:
        page.get_by_text(trial.run, exact=True).first.wait_for()
        page.get_by_text(f"{trial.params['optimizer.lr']:.6g}", exact=True).wait_for()
    page.close()
    page = browser.new_page()
    page.goto(f"{artifacts}/report.html")
    report = page.frame_locator("iframe")
    report.get_by_role("heading", name=f"Search {outcome.name}").wait_for()
    report.locator("#best_so_far path[aria-label^='trial ']").last.hover()
    report.locator("#vg-tooltip-element", has_text=": finished after 3 epochs").wait_for()
    page.close()


def test_the_report_points_out_a_trial_in_every_figure(outcome: Any, browser: Any) -> None:
    asked: list[str] = []
    errors: list[str] = []
    page = browser.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(outcome.report.as_uri())
    assert asked == [outcome.report.as_uri()], "the report loads something"
    best = outcome.ranked[0].ordinal
    page.locator(f"#best_so_far path[aria-label='trial {best}']").hover()
    tip = page.locator("#vg-tooltip-element.visible")
    assert tip.inner_text().startswith(f"trial {best}: finished after 3 epochs")
    only(page, str(best))
    for figure in ("learning_curves", "parallel_coordinates", "best_so_far"):
        clear = page.locator(f"#{figure} path[aria-label='trial {best}'][opacity='1']")
        assert clear.count() > 0, "it is seen in every figure"
    page.locator(f"tr[data-trial='{best}']").click()
    page.mouse.move(0, 0)
    only(page, str(best))  # a click keeps a trial
    assert errors == []
    page.close()
