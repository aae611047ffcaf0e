"""Every recipe is valid, says its command, cost and accuracy, and its network can be built for its images."""

from pathlib import Path

import pytest

from jobs import specfile
from jobs.models.size import measure
from jobs.spec import JobSpec

RECIPES = sorted(Path("jobs/recipes").rglob("*.yaml"))

each = pytest.mark.parametrize("path", RECIPES, ids=lambda path: str(path.relative_to("jobs/recipes")))


def test_there_are_recipes() -> None:
    assert len(RECIPES) > 25


@each
def test_it_is_valid_and_its_header_names_its_own_command(path: Path) -> None:
    specfile.read(path, JobSpec)
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert header[0].startswith("# yaml-language-server: $schema=")
    assert any(f"orchestrator train {path}" in line for line in header), "no line with the command"


@each
def test_its_network_takes_its_images(path: Path) -> None:
    spec = specfile.read(path, JobSpec)
    imagenet = path.parent.name == "imagenet"
    channels = 1 if spec.data.kind == "digits" else 3
    for size in {spec.data.size or (8 if channels == 1 else 32), spec.data.test_size or spec.data.size or 32}:
        measured = measure(spec.model, 1000 if imagenet else 10, channels, size, 2, 4)
        assert measured.parameters > 0


def test_names_are_unlike() -> None:
    names = [specfile.read(path, JobSpec).name for path in RECIPES]
    assert len(set(names)) == len(names)
