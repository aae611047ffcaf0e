"""Nothing is resumed on other images than it began with, by whatever command."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from jobs import specfile
from jobs.data.identity import UNKNOWN, OtherDataError
from jobs.spec import JobSpec
from orchestrator.execution import launch
from orchestrator.home import run_folder
from orchestrator.runs.images import FILE, settle
from orchestrator.runs.origin import of_data
from orchestrator.tracking.recorder import Recorder
from tests.orchestrator.real import job
from tests.orchestrator.test_resume import begun
from tuning.run import launch as searches
from tuning.spec.search import SearchSpec

pytestmark = pytest.mark.usefixtures("home")


class StartedError(Exception):
    """Ray would have been started, so nothing was refused."""


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: Any, **__: Any) -> None:
        raise StartedError

    monkeypatch.setattr(launch, "start_ray", start)
    monkeypatch.setattr(searches, "start_ray", start)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number, name in enumerate(("ant", "bee")):
        (tmp_path / "set" / name).mkdir(parents=True)
        for at in range(30):
            Image.new("RGB", (8, 8), (80 * number, at, 5 * at)).save(tmp_path / "set" / name / f"{at}.png")
    return tmp_path / "set"


def spec(root: Path) -> JobSpec:
    return job(f"data={{kind: image_folder, root: {root}, size: 8}}", "batch_size=16", "resources.workers=1")


def test_a_run_is_not_resumed_on_other_images_or_classes(root: Path) -> None:
    with pytest.raises(StartedError):
        launch.train(spec(root), name="r")
    assert (run_folder("r") / FILE).exists()
    begun("r", spec(root))
    with pytest.raises(StartedError):
        launch.train(spec(root), resume="r")
    (root / "ant" / "0.png").unlink()
    with pytest.raises(OtherDataError, match=r"r is of other images: .* images, it had"):
        launch.train(spec(root), resume="r")
    with pytest.raises(StartedError):
        launch.train(spec(root), name="other")
    shutil.move(root / "ant", root / "zebra")
    with pytest.raises(OtherDataError, match=r"the classes are 2 \(bee, zebra\), they were 2 \(ant, bee\)"):
        launch.train(spec(root), resume="r")


def test_a_search_is_not_resumed_on_other_images(root: Path, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(specfile.dump(spec(root)))
    text = f"name: s\njob: {tmp_path}/job.yaml\nspace: {{optimizer.lr: {{kind: uniform, low: 0.1, high: 0.2}}}}\n"
    (tmp_path / "search.yaml").write_text(text + "searcher: {kind: random}\nbudget: {trials: 2}\n")
    told: list[str] = []
    with pytest.raises(StartedError):
        searches.search(specfile.read(tmp_path / "search.yaml", SearchSpec), tell=lambda text, _: told.append(text))
    assert UNKNOWN not in told
    begun("s", spec(root))  # the journal of the parent run
    (root / "bee" / "7.png").unlink()
    for retry in (False, True):
        with pytest.raises(OtherDataError, match="s is of other images"):
            searches.search(None, resume="s", retry=retry)


def test_what_an_earlier_version_began_is_compared_by_its_digest(root: Path) -> None:
    data = spec(root).data.open()
    begun("old", spec(root))
    assert settle(run_folder("old"), data) == UNKNOWN
    recorder = Recorder(run_folder("with"), ship=False)
    recorder.begin("with", "default", params={}, tags=of_data(data))
    recorder.close()
    assert settle(run_folder("with"), data) == ""
    (run_folder("with") / FILE).unlink()
    (root / "bee" / "7.png").unlink()
    with pytest.raises(OtherDataError, match="with is of other images"):
        settle(run_folder("with"), spec(root).data.open())


def test_a_run_that_never_began_takes_other_images(root: Path) -> None:
    with pytest.raises(StartedError):
        launch.train(spec(root), name="nightly")
    (root / "bee" / "7.png").unlink()
    with pytest.raises(StartedError):
        launch.train(spec(root), name="nightly")
