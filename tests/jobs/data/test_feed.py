"""Loader processes: they live as long as the run, work ahead over the ends of passes, and change nothing."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
import torch
from PIL import Image

from jobs.augment import RandomResizedCrop
from jobs.augment.resample import resized
from jobs.data import ImageFolder
from jobs.data.decode import DataError
from jobs.data.feed import Pass
from jobs.data.loader import Loader
from jobs.data.sets import Data
from jobs.data.streamed import GAP, Streamed
from jobs.place import Place
from jobs.randomness import SampleDraws
from jobs.spec import JobSpec
from tests.jobs import digits_job
from tests.jobs.augment.pictures import PHOTOS

COUNT = 26


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photographs")
    for name, photo in zip(("china", "flower"), PHOTOS, strict=True):
        (root / name).mkdir()
        for number in range(COUNT):
            image = Image.fromarray(photo.numpy()).crop((number * 4, number, number * 4 + 300, number + 220))
            image.transpose(Image.Transpose.ROTATE_90 if number % 3 else Image.Transpose.ROTATE_180).save(
                root / name / f"{number:02}.jpg", quality=90
            )
    return root


def job(folder: Path, workers: int, **changes: object) -> JobSpec:
    data = {"kind": "image_folder", "root": str(folder), "size": 32, "in_memory": False, "loader_workers": workers}
    augment = [{"kind": "random_resized_crop"}, {"kind": "flip"}]
    return digits_job.job(**{"data": data, "augment": augment, "epochs": 3, "batch_size": 6, **changes})


def loader(spec: JobSpec, data: Data, place: Place | None = None) -> Loader:
    return Loader(spec, data, place or Place(), spec.steps(len(data.train)))


def epoch(feed: Loader, number: int, first: int = 0) -> list[torch.Tensor]:
    return [x for _, parts in feed.epoch(number, first) for _, x, _ in parts]


def children() -> set[int]:
    return {each.pid for each in psutil.Process().children(recursive=True) if "resource_tracker" not in each.cmdline()}


@pytest.fixture
def alone() -> Iterator[set[int]]:
    before = children()
    yield before
    assert children() == before, "loader processes were left behind"


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.usefixtures("alone")
def test_any_number_of_processes_gives_the_same_batches(folder: Path) -> None:
    runs = []
    for workers in (0, 1, 3):
        spec = job(folder, workers)
        data = spec.data.open()
        with closing(loader(spec, data)) as feed:
            first, scored = epoch(feed, 0), [x for x, _ in feed.scoring(data.val)]
            runs.append(
                [*first, *scored, *epoch(feed, 1), *epoch(feed, 1, 2), *[x for x, _ in feed.scoring(data.test)]]
            )
    assert len(runs[0]) > 10
    for run in runs[1:]:
        assert all(torch.equal(*pair) for pair in zip(run, runs[0], strict=True))


def test_the_same_processes_serve_all_passes(folder: Path, alone: set[int]) -> None:
    spec = job(folder, 2)
    data = spec.data.open()
    with closing(loader(spec, data)) as feed:
        seen = []
        for number in range(3):
            epoch(feed, number)
            seen.append(children() - alone)
            list(feed.scoring(data.val))
            seen.append(children() - alone)
    assert len(seen[0]) == 2 and all(each == seen[0] for each in seen)


def test_what_comes_next_is_made_before_it_is_wanted(folder: Path) -> None:
    """The plan is what the loop does, so nothing that was made is dropped: the tasks keep their generation."""
    spec = job(folder, 1, evaluation={"every_epochs": 2})
    data = spec.data.open()
    with closing(loader(spec, data)) as feed:
        inner = feed._feed
        assert inner is not None

        def ahead() -> set[str]:
            return {each.task.split for each in inner._issued if each is not None}

        epoch(feed, 0)  # no evaluation is due
        assert ahead() == {"train"}
        batches = feed.epoch(1, 0)
        for _ in range(spec.steps(len(data.train)).per_epoch):
            list(next(batches)[1])
        assert next(batches, None) is None
        assert ahead() >= {"val"}
        list(feed.scoring(data.val))
        epoch(feed, 2)
        list(feed.scoring(data.val))
        list(feed.scoring(data.test))
        assert inner._generation == 1
        assert inner._plan(Pass("test", 2)) is None


@pytest.mark.usefixtures("alone")
def test_a_run_that_leaves_the_plan_gets_what_it_asks_for(folder: Path) -> None:
    spec = job(folder, 2)
    data = spec.data.open()
    with closing(loader(spec, data)) as feed, closing(loader(job(folder, 0), data)) as plain:
        expected = epoch(plain, 0)
        for _, parts in feed.epoch(2, 0):
            list(parts)
            break  # early in an epoch
        assert all(torch.equal(*pair) for pair in zip(epoch(feed, 0), expected, strict=True))
        scored = [x for x, _ in feed.scoring(data.test)]  # not what was planned
        assert torch.equal(torch.cat(scored), torch.cat([x for x, _ in plain.scoring(data.test)]))


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_memory_is_bounded_by_the_batch(folder: Path) -> None:
    for workers, batch in ((1, 6), (3, 6), (8, 24), (2, 24)):
        spec = job(folder, workers, batch_size=batch)
        feed = loader(spec, spec.data.open())._feed
        assert feed is not None
        held = sum(buffer.numel() for buffer in feed._buffers) / (32 * 32 * 3)
        assert held <= 3.5 * batch + 3 * workers
        feed.close()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.usefixtures("alone")
def test_an_image_that_changes_is_named(folder: Path, tmp_path: Path, workers: int) -> None:
    for name in ("china", "flower"):
        (tmp_path / name).mkdir()
        for file in sorted((folder / name).iterdir()):
            (tmp_path / name / file.name).write_bytes(file.read_bytes())
    spec = job(tmp_path, workers)
    data = spec.data.open()
    with closing(loader(spec, data)) as feed:
        epoch(feed, 0)
        for file in tmp_path.glob("*/*.jpg"):
            file.write_bytes(file.read_bytes()[:300])
        with pytest.raises(DataError, match=r"(china|flower)/\d\d\.jpg can no longer be read: .*the data changed"):
            epoch(feed, 0)
        for file in tmp_path.glob("*/*.jpg"):
            Image.new("RGB", (90, 80)).save(file)
        with pytest.raises(DataError, match=r"was (300x220|220x300) and is 80x90 now"):
            epoch(feed, 2)


def test_ranks_get_what_one_process_gets(folder: Path) -> None:
    one = job(folder, 0, accumulation=2)
    data = one.data.open()
    with closing(loader(one, data)) as feed:
        whole = epoch(feed, 0)
        scored = torch.cat([x for x, _ in feed.scoring(data.val)])
    two = job(folder, 1, resources={"workers": 2})
    shares = []
    for rank in range(2):
        with closing(loader(two, data, Place(rank=rank, world=2))) as feed:
            assert all(torch.equal(*pair) for pair in zip(epoch(feed, 0), whole[rank::2], strict=True))
            shares.append(torch.cat([x for x, _ in feed.scoring(data.val)]))
    assert torch.equal(shares[0], scored[::2]) and torch.equal(shares[1], scored[1::2])


def test_a_split_with_fewer_images_than_ranks(folder: Path) -> None:
    spec = job(folder, 1, resources={"workers": 6})
    data = spec.data.open()
    assert len(data.val) == 5
    with closing(loader(spec, data, Place(rank=5, world=6))) as feed:
        epoch(feed, 0)
        assert list(feed.scoring(data.val)) == []
        epoch(feed, 1)


@pytest.mark.parametrize(("size", "mean", "most"), [(32, 0.9, 12), (200, 0.01, 2)])
def test_cut_from_files_as_in_memory(size: int, mean: float, most: int, tmp_path: Path) -> None:
    """The second one is decoded whole; of the first one a half or a quarter, and its box has edges of such pixels."""
    for name, photo in zip(("china", "flower"), PHOTOS, strict=True):
        (tmp_path / name).mkdir()
        for number in range(12):
            image = Image.fromarray(photo.numpy()).crop((number * 8, number, number * 8 + 400, number + 400))
            image.save(tmp_path / name / f"{number:02}.jpg", quality=90)
    trick = RandomResizedCrop(scale=(0.3, 1.0))
    split = ImageFolder(root=str(tmp_path), size=size, in_memory=False).open().train
    assert isinstance(split, Streamed)
    boxes = trick.boxes(SampleDraws(0, 0, torch.arange(len(split))), torch.from_numpy(split.shapes))
    differences, scales = [], set()
    for number, box in enumerate(boxes.tolist()):
        whole, part = split.read(number), split.cut(number, box, size)
        scale = max(each for each in (1, 2, 4, 8) if GAP * size * each <= min(box[2:]) or each == 1)
        scales.add(scale)
        box = [round(each / scale) * scale for each in box]
        assert part.shape[:2] == (box[2] // scale, box[3] // scale)
        top, left, tall, wide = box
        exact = resized(whole[top : top + tall, left : left + wide], (size, size), "bilinear")
        differences.append((resized(part, (size, size), "bilinear").int() - exact.int()).abs())
    assert scales == ({2, 4} if size == 32 else {1})
    assert torch.stack(differences).double().mean() <= mean and torch.stack(differences).max() <= most
