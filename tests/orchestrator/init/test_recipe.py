"""What init chooses and writes, and that it runs."""

from __future__ import annotations

import itertools
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torchvision
from PIL import Image
from safetensors.torch import save_file

from jobs.data.packed import Packed
from orchestrator.execution import launch
from orchestrator.execution.pretrained import resolve
from orchestrator.init.choose import choose
from orchestrator.init.machine import Machine
from orchestrator.init.start import find
from orchestrator.init.write import job_text, names, search_text
from tests.orchestrator.init.steps import CPUS, FRESH, Make, chosen, looked, said, search
from tests.orchestrator.real import ROOT, orchestrator


def test_uneven_classes_are_weighted_and_very_uneven_ones_drawn_equally(make: Make, tmp_path: Path) -> None:
    found = looked(make("some", zero=100, one=20))
    assert "uneven classes, 5.0 to 1: zero has 100, one 20" in said(found)
    spec = chosen(found, tmp_path)
    assert spec.data.class_weights == "balanced" and not spec.data.balanced_sampling
    found = looked(make("pics", three=4, two=150))
    assert "uneven classes, 37.5 to 1" in said(found)
    assert chosen(found, tmp_path).data.balanced_sampling
    assert search(found, tmp_path).metric == "val/balanced_accuracy"


@pytest.mark.parametrize(("images", "said"), [(4, "1 update an epoch"), (25, "4 updates"), (100, "at least 8 updates")])
def test_the_batch_is_said_to_make_as_many_updates_as_it_does(make: Make, images: int, said: str) -> None:
    recipe = choose("x", looked(make("pics", zero=images, one=images)), CPUS, FRESH)
    assert recipe.why["batch_size"].startswith(said)


def test_a_gpu_gets_a_larger_network_and_a_worker_each(make: Make, tmp_path: Path) -> None:
    found = looked(make("pics", zero=100, one=100))
    spec = chosen(found, tmp_path, Machine(16, ("a GPU", "a GPU"), 8 * 2**30))
    assert (spec.model.depth, spec.resources.workers, spec.resources.cpus_per_worker) == (56, 2, 8)
    assert chosen(found, tmp_path).model.depth == 20


def test_the_time_it_takes_includes_decoding_where_crops_are_cut_from_originals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = []
    monkeypatch.setattr("orchestrator.init.choose.images_per_s", lambda spec, data, _: timed.append(data) or 1000.0)
    for number, at in itertools.product(range(2), range(30)):
        (tmp_path / "pics" / str(number)).mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng((number, at)).integers(0, 256, (110, 140, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pics" / str(number) / f"{at}.png")
    found = looked(tmp_path / "pics")
    (tmp_path / "pics" / "0" / "0.png").write_bytes(b"")
    assert chosen(found, tmp_path, Machine(16, ("a GPU",), 8 * 2**30)).resizes
    split = timed[0].training(True)
    assert len(split) == len(timed[0].train)
    assert {split.read(index).shape for index in range(70)} == {(110, 140, 3)}


def test_photographs_are_made_smaller_once(tmp_path: Path) -> None:
    for number, at in itertools.product(range(2), range(30)):
        (tmp_path / "pics" / str(number)).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (520, 400), (number * 99, at, 7)).save(tmp_path / "pics" / str(number) / f"{at}.jpg")
    found = looked(tmp_path / "pics")
    spec = chosen(found, tmp_path, Machine(16, ("a GPU",), 8 * 2**30))
    assert (spec.data.size, spec.data.prepare, spec.resizes) == (224, "auto", True)
    assert isinstance(spec.data.open().training(True), Packed)
    gpu, room = ("a GPU",), 43 * 256 * 333 * 3  # of 60 images 43 are trained on
    enough, scarce = (chosen(found, tmp_path, Machine(16, gpu, 8 * 2**30, 0.0, int(room * f))) for f in (1.3, 1.2))
    assert (enough.data.prepare_as, scarce.data.prepare_as) == ("pixels", "jpeg")
    assert chosen(found, tmp_path).data.prepare is False  # at 64 pixels, without a GPU, images are shifted, not cut


def test_a_speed_that_was_timed_on_a_busy_machine_says_so(make: Make, tmp_path: Path) -> None:
    found = looked(make("x", a=20, b=20))
    busy = Machine(2, load=1.7)
    recipe = choose("x", found, busy, FRESH)
    words = "1,000 images/s, timed while other programs used 1.7 of 2 CPUs (an idle machine is faster)"
    assert words.removeprefix("1,000 images/s, ") in recipe.why["epochs"]
    path = tmp_path / "x.yaml"
    written = job_text(path, found, recipe, ()) + search_text("y", path, path, found, recipe, busy)[0]
    assert " ".join(written.replace("#", " ").split()).count("timed while other programs used 1.7 of 2 CPUs") == 2
    assert choose("x", found, Machine(8, load=1.7), FRESH).how == "timed"
    assert Machine.here().load >= 0


def test_characters_are_not_flipped(make: Make, tmp_path: Path) -> None:
    found = looked(make("pics", **{"0": 30, "1": 30}))
    assert [trick.kind for trick in chosen(found, tmp_path).augment] == ["crop"]


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("my_job.yaml", ("my_job", "my_search", "my_search.yaml")),
        ("pets.yml", ("pets", "pets_search", "pets_search.yml")),
        ("job.yaml", ("job", "search", "search.yaml")),
        ("мои фото.yaml", ("images", "images_search", "мои фото_search.yaml")),
    ],
)
def test_names(output: str, expected: tuple[str, str, str]) -> None:
    job, search, path = names(Path("there") / output)
    assert (job, search, str(path)) == (*expected[:2], f"there/{expected[2]}")


def test_the_commands_in_both_files_can_be_pasted(make: Make, tmp_path: Path) -> None:
    found, path = looked(make("pics", zero=20, one=20)), Path("my jobs/my_job.yaml")
    recipe = choose("x", found, CPUS, FRESH)
    text = job_text(path, found, recipe, ()) + search_text("y", path.with_name("s.yaml"), path, found, recipe, CPUS)[0]
    commands = [shlex.split(words) for words in re.findall(r"orchestrator ((?:train|plan|search launch) .*)", text)]
    assert commands == [
        ["train", "my jobs/my_job.yaml"],
        ["plan", "my jobs/my_job.yaml"],
        ["search", "launch", "my jobs/s.yaml"],
    ]
    assert "job: my jobs/my_job.yaml" in text, "from the same folder"


@pytest.mark.parametrize("page", ["README.md", "docs/your-images.md"])
def test_the_change_that_pages_show_works_on_what_is_written(make: Make, tmp_path: Path, page: str) -> None:
    """Small sets get 100 epochs, of which 5 are warmup."""
    job = chosen(looked(make("pics", zero=20, one=20)), tmp_path)
    assert (job.epochs, job.schedule.warmup_epochs) == (100, 5)
    [epochs] = re.findall(r"-s epochs=(\d+)", (ROOT / page).read_text(encoding="utf-8"))
    short = job.override({"epochs": int(epochs)})
    assert short.schedule.warmup_epochs <= short.epochs / 4


def test_the_search_has_the_four_axes_and_a_budget_for_the_machine(make: Make, tmp_path: Path) -> None:
    spec = search(looked(make("pics", zero=100, one=100)), tmp_path)
    axes = ("schedule.warmup_epochs", "batch.label_smoothing.epsilon", "batch.mixup.alpha", "optimizer.lr")
    assert tuple(spec.axes()) == axes and spec.axes()["batch.label_smoothing.epsilon"].contains(0.0)
    assert spec.scheduler.kind == "asha" and spec.set["resources.workers"] == 1
    assert spec.budget.trials and spec.budget.hours


def test_the_search_is_sized_to_the_memory_too(make: Make, tmp_path: Path) -> None:
    found = looked(make("pics", zero=100, one=100))
    spec = search(found, tmp_path, machine=Machine(16, memory_bytes=8 * 2**30))
    assert 4 < spec.max_concurrent < 8 / 0.8, "of 0.7 GB each at least"
    assert search(found, tmp_path, machine=Machine(16, memory_bytes=64 * 2**30)).max_concurrent is None
    assert search(found, tmp_path, machine=Machine(4, memory_bytes=2**30)).max_concurrent == 1


def test_trials_of_one_worker_compute_the_parts_of_the_job(make: Make, tmp_path: Path) -> None:
    """The part of a GPU is what has room in its memory; in other parts BatchNorm and mixup would be of another job."""
    found, four = looked(make("pics", zero=170, one=170)), Machine(16, ("a GPU",) * 4, 8 * 2**30)
    job, trial = chosen(found, tmp_path, four), search(found, tmp_path, machine=four).base()
    assert (job.resources.workers, trial.resources.workers, trial.resources.cpus_per_worker) == (4, 1, 4)
    assert trial.parts == job.parts == 4 and trial.steps(240).part == job.steps(240).part
    alone = search(found, tmp_path, machine=Machine(16, ("a GPU",), 8 * 2**30))
    assert "accumulation" not in alone.set


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_the_recipe_trains_to_the_end(make: Make, tmp_path: Path) -> None:
    root = make("pics", zero=40, one=8)
    (root / "zero" / "broken.png").write_bytes(b"")
    job = chosen(looked(root), tmp_path).override({"epochs": 2, "schedule.warmup_epochs": 1, "model.depth": 8})
    result = launch.train(job)
    assert (result.status, result.ended_by) == ("FINISHED", "epochs")
    assert 0 <= result.metrics["test/top1"] <= 1
    again = chosen(looked(root), tmp_path, start=find(result.run, CPUS))  # and another one starts from its weights
    assert (again.model.depth, again.model.pretrained.run) == (8, result.run) and resolve(again).data.size == 16


@pytest.mark.slow
def test_the_command_writes_both_files_and_overwrites_nothing_unasked(make: Make, tmp_path: Path) -> None:
    root, out = make("pics", zero=40, one=40), tmp_path / "my_job.yaml"
    (root / "zero" / "broken.png").write_bytes(b"")
    done = orchestrator("init", str(root), "-o", str(out), "--pretrained", "none")
    assert done.returncode == 0, done.stderr
    for part in ("one 40", "1 image cannot be read", "broken.png: zero bytes", "orchestrator train", "my_search.yaml"):
        assert part in done.stdout
    written = out.read_text(), (tmp_path / "my_search.yaml").read_text()
    assert orchestrator("plan", str(out)).returncode == 0
    planned = orchestrator("search", "plan", str(tmp_path / "my_search.yaml"))
    assert planned.returncode == 0 and "batch.mixup.alpha" in planned.stdout
    again = orchestrator("init", str(root), "-o", str(out), "--pretrained", "none")
    assert again.returncode == 2 and "my_job.yaml and" in again.stderr and "--force" in again.stderr
    (root / "one").rename(root / "zero" / "one")
    refused = orchestrator("init", str(root), "-o", str(out), "--pretrained", "none", "--force")
    assert refused.returncode == 2 and "one class only" in refused.stderr and "Traceback" not in refused.stderr
    assert written == (out.read_text(), (tmp_path / "my_search.yaml").read_text())


def test_weights_from_a_file_set_all_that_goes_with_them(make: Make, tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    save_file(torchvision.models.resnet18().state_dict(), file)
    found = looked(make("pics", zero=40, one=40))
    start = find(f"resnet18={file}", CPUS)
    spec = chosen(found, tmp_path, start=start)
    assert (spec.model.name, spec.model.pretrained.path, spec.model.freeze_epochs) == ("resnet18", str(file), 1)
    assert spec.data.size is None and spec.optimizer.layer_decay == 0.8 and spec.optimizer.lr < 0.01
    assert (resolve(spec).data.size, resolve(spec).data.channels) == (224, 3)
    assert search(found, tmp_path, start).scheduler.grace_epochs > spec.model.freeze_epochs
    with pytest.raises(ValueError, match=r"there are no weights at .*none.pth"):
        find(str(tmp_path / "none.pth"), CPUS)
    with pytest.raises(ValueError, match="neither torchvision nor timm has such a network"):
        find("resnet19", CPUS)


def test_without_the_library_s_weights_it_starts_from_scratch_and_says_how(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("torch.hub.download_url_to_file", unreachable)
    start = find(None, CPUS)
    assert "cannot be fetched: no network, so the recipe starts from scratch" in start.told
    spec = chosen(looked(make("pics", zero=40, one=40)), tmp_path, start=start)
    assert spec.model.kind == "resnet" and "https://download.pytorch.org/" in (tmp_path / "x.yaml").read_text()
