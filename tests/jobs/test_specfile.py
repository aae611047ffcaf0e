"""Spec files: what is read, what overrides do, and what is written."""

from __future__ import annotations

import pickle
import random
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from jobs.base import Spec
from jobs.spec import JobSpec
from jobs.specfile import SpecError, dump, read, schema
from jobs.specfile.schema import Shape
from jobs.specfile.yaml import parse
from tests.jobs.small_spec import SGD, Small, load, refusal

RECIPES = Path(__file__).parents[2] / "jobs" / "recipes"

GOOD = """\
name: digits
data: {kind: digits}
model: {kind: cnn}
optimizer: {kind: sgd, lr: 0.1}
epochs: 5
batch_size: 64
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_problems_carry_their_parts() -> None:
    error = refusal("optimizer: {kind: sgd, lr: 1}\nepochs: 0\n", cls=Small)
    (problem,) = error.problems
    assert problem.mark is not None
    assert (problem.source, problem.name, problem.mark.line, problem.mark.column) == ("x.yaml", "epochs", 2, 9)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_files_that_cannot_be_read() -> None:
    Path("sub").mkdir()
    Path("digits.yaml").write_text(GOOD)
    cases = {
        "digit.yaml": "digit.yaml: no such file\n  did you mean digits.yaml?",
        "digits": "digits: no such file\n  did you mean digits.yaml?",
        "cifar.yaml": "cifar.yaml: no such file\n  in . there are: digits.yaml",
        "sub/digits.yaml": "sub/digits.yaml: no such file\n  there are no .yaml files in sub",
        "none/digits.yaml": "none/digits.yaml: no such file\n  there is no folder none either",
        "sub": "sub: is a folder, not a file\n  there are no .yaml files in sub",
    }
    for path, told in cases.items():
        with pytest.raises(SpecError) as caught:
            read(path, JobSpec)
        assert str(caught.value) == told
    Path("x.yaml").write_bytes("# ok\nname: café\n".encode("latin-1"))
    with pytest.raises(SpecError) as caught:
        read("x.yaml", JobSpec)
    assert str(caught.value).splitlines()[0] == "x.yaml:2:10: byte 0xe9 is not UTF-8"


BROKEN = ["a: [", "a: 'b", "a: *b", "a: &b [*b]", "? [a]\n: 1", "a: \x01", "a: 1\n---\nb: 2\n", "5: 6", "a: b: c", "{"]
BROKEN += [
    "a: 0o9",
    "<<: {a: 1}",
    "null: 1",
    "a:\n - b\n- c",
    "%YAML 9.9\n---\na: 1",
    "a: !!int x",
    "!!set {a}",
    "\ufeff",
]


@pytest.mark.parametrize("text", BROKEN)
def test_any_broken_text_is_a_spec_error(text: str) -> None:
    assert str(refusal(text, cls=Small)).startswith(("x.yaml", "2 problems", "3 problems"))


def test_yaml_1_2() -> None:
    spec = load(GOOD.replace("lr: 0.1", "lr: 1e-4") + "tracking: {experiment: no, uri: 2026-01-01}\n", cls=JobSpec)
    assert spec.optimizer.lr == 1e-4
    assert (spec.tracking.experiment, spec.tracking.uri) == ("no", "2026-01-01")


def test_anchors() -> None:
    text = "optimizer: {kind: sgd, lr: &x 3}\nepochs: *x\n"
    assert load(text, cls=Small).epochs == 3


def test_overrides() -> None:
    spec = load(
        GOOD + "ema: {decay: 0.9}\n",
        *("epochs=7", "optimizer.lr=0.2", "ema=null", "data.mean=[0.5]", "batch.mixup.alpha=0.4", "epochs=6"),
        *("seed.init=3", "tracking.uri=", "augment.flip=true", "schedule.decay={kind: step, at_epochs: [3]}"),
        cls=JobSpec,
    )
    plain = load(
        GOOD.replace("lr: 0.1", "lr: 0.2").replace("epochs: 5", "epochs: 6").replace("digits}", "digits, mean: [0.5]}")
        + "batch: [{kind: mixup, alpha: 0.4}]\nseed: {init: 3}\naugment: [{kind: flip}]\n"
        + "schedule: {decay: {kind: step, at_epochs: [3]}}\n",
        cls=JobSpec,
    )
    assert spec == plain


def test_overrides_may_bring_what_the_file_lacks() -> None:
    assert load("epochs: 3\n", "optimizer={kind: sgd, lr: 1}", cls=Small).optimizer == SGD(lr=1)
    assert load("epochs: 3\n", "optimizer.lr=1", "optimizer.kind=sgd", "labels.a=2", cls=Small).labels == {"a": 2}


def test_a_validator_over_several_fields_points_at_the_one_it_names() -> None:
    text = GOOD.replace("64", "33") + "resources: {workers: 2}\n"
    assert str(refusal(text, cls=JobSpec)) == (
        "x.yaml:6:13: batch_size 33 does not divide by 2 workers x 1 accumulation = 2 parts; "
        "the nearest that does is 32\n"
        "  6 | batch_size: 33\n"
        "    |             ^^"
    )
    assert str(refusal(GOOD, "batch_size=33", "resources.workers=2", cls=JobSpec)).startswith(
        "-s batch_size=33: batch_size 33 does"
    )


@pytest.mark.parametrize("path", sorted(RECIPES.rglob("*.yaml")), ids=lambda path: str(path.relative_to(RECIPES)))
def test_recipes(path: Path) -> None:
    spec = read(path, JobSpec)
    assert load(dump(spec), cls=JobSpec) == spec
    validator = jsonschema.Draft202012Validator(schema(JobSpec))
    tree, _ = parse(path.read_text(encoding="utf-8"))
    assert tree is not None
    for data in (tree.value, spec.model_dump(mode="json")):
        validator.validate(data)
        assert not validator.is_valid({**data, "epoch": 3})
        assert not validator.is_valid({**data, "optimizer": {**data["optimizer"], "lrr": 3}})


def test_there_are_recipes() -> None:
    assert list(RECIPES.rglob("*.yaml"))


def test_schema() -> None:
    root = schema(Small)
    jsonschema.Draft202012Validator.check_schema(root)
    sgd = root["$defs"]["SGD"]
    assert next(iter(sgd["properties"])) == "kind"
    assert sgd["properties"]["kind"]["const"] == "sgd"
    assert sgd["required"] == ["kind", "lr"]
    assert sgd["properties"]["lr"] == {
        "description": "Learning rate; null of it is scaled.",
        "exclusiveMinimum": 0,
        "type": "number",
    }
    assert all(node["additionalProperties"] is False for node in [root, *root["$defs"].values()])
    validator = jsonschema.Draft202012Validator(root)
    assert validator.is_valid({"optimizer": {"kind": "sgd", "lr": 1}, "tricks": [{"kind": "zoom"}]})
    for wrong in ({"lr": 1}, {"kind": "sgd"}, {"kind": "sgd", "lr": 0}, {"kind": "adam", "lr": 1, "momentum": 0}):
        assert not validator.is_valid({"optimizer": wrong})


def draw(shape: Shape, node: dict[str, Any], dice: random.Random) -> Any:
    """A random value that a JSON Schema's node allows."""
    options = shape.options(node)
    node = dice.choice(options)
    if kinds := shape.choices(node):
        kind = dice.choice(list(kinds))
        return draw(shape, kinds[kind], dice)
    if "const" in node or "enum" in node:
        return dice.choice(node.get("enum", [node.get("const")]))
    low = node.get("minimum", node.get("exclusiveMinimum", -50))
    high = node.get("maximum", node.get("exclusiveMaximum", low + 100))
    match node.get("type"):
        case "integer":
            return dice.randint(int(low) + 1, int(high) - 1)
        case "number":
            return low + (high - low) * dice.choice([0.5, 1e-9, 0.1 + 0.2, dice.random() or 0.5])
        case "boolean":
            return dice.random() < 0.5
        case "string":
            return dice.choice(["a", "x-b"] if "pattern" in node else WORDS)
        case "array":
            entries = node.get("prefixItems") or [node["items"]] * dice.randint(
                node.get("minItems", 0), node.get("maxItems", 2)
            )
            drawn = [draw(shape, entry, dice) for entry in entries]
            kinds_drawn = [entry["kind"] if isinstance(entry, dict) else i for i, entry in enumerate(drawn)]
            return [entry for i, entry in enumerate(drawn) if kinds_drawn.index(kinds_drawn[i]) == i]
        case "object":
            keys = node.get("properties", {})
            chosen = [k for k in keys if k == "kind" or k in node.get("required", ()) or dice.random() < 0.5]
            return {k: draw(shape, keys[k], dice) for k in chosen}
    return None


WORDS = [
    "no",
    "5",
    "1e-4",
    "null",
    "~",
    "",
    " a",
    "a: b",
    "- a",
    "#",
    "'\"",
    "日本",
    "a\nb\n",
    "\t",
    "\0",
    "\x85",
    "\ufeff",
]
WORDS += [
    "{a}",
    "!!str",
    "*x",
    "&x",
    "2026-01-01",
    "0x10",
    "<<",
    "=",
    "%",
    "@",
    "`",
    "é" * 200,
    "long " * 60,
    "a\u2028b",
    "😀",
]


class Words(Spec):
    text: str
    texts: tuple[str, ...]
    labels: dict[str, str]
    inner: tuple[Small, ...]


def test_dump_reads_back() -> None:
    dice = random.Random(0)
    for _ in range(60):
        small = [Small.model_validate(draw(Shape.of(Small), Shape.of(Small).root, dice)) for _ in range(2)]
        words = dice.choices(WORDS, k=5)
        spec = Words(
            text=words[0], texts=tuple(words[1:]), labels=dict(zip(words, words[::-1], strict=True)), inner=small
        )
        assert load(dump(spec), cls=Words) == spec


def test_dump_reads_back_whatever_the_kinds() -> None:
    dice, shape, done = random.Random(1), Shape.of(JobSpec), 0
    for _ in range(1000):
        data = draw(shape, shape.root, dice)
        try:
            spec = JobSpec.model_validate(data)
        except ValueError:
            continue  # what the JSON Schema cannot say: validators over several fields
        assert load(dump(spec), cls=JobSpec) == spec
        assert JobSpec.model_validate_json(spec.model_dump_json()) == spec
        done += 1
    assert done >= 5


def test_dump_is_meant_for_people() -> None:
    spec = load("optimizer: {lr: 1, kind: sgd}\ntricks: [{kind: zoom}]\nmean: [0.5, 1e-8]\n", cls=Small)
    assert (
        dump(spec)
        == """\
name: x
optimizer:
  kind: sgd
  lr: 1.0
  momentum: 0.9
tricks:
  - kind: zoom
    factor: 1.5
precision: fp32
fast: auto
mean: [0.5, 1e-08]
average: null
epochs: 10
labels: {}
"""
    )
