"""What a wrong spec file is told, to the letter."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.jobs.small_spec import Small, refusal


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


TEXTS = {
    "moved key": (
        "lr: 0.1\noptimizer: {kind: sgd, lr: 1}\n",
        """\
x.yaml:1:1: unknown key lr
  1 | lr: 0.1
    | ^^
  did you mean optimizer.lr, that is lr under optimizer?
  the top level allows name, optimizer, tricks, precision, fast, mean, average, epochs, labels""",
    ),
    "misspelt key of a list's entry": (
        "optimizer: {kind: sgd, lr: 1}\ntricks:\n  - kind: zoom\n    facter: 2\n",
        """\
x.yaml:4:5: unknown key tricks.zoom.facter
  4 |     facter: 2
    |     ^^^^^^
  did you mean factor?
  tricks.zoom (kind zoom) allows kind, factor""",
    ),
    "key of another kind": (
        "optimizer:\n  kind: adam\n  lr: 1\n  momentum: 0.9\n",
        """\
x.yaml:4:3: unknown key optimizer.momentum
  4 |   momentum: 0.9
    |   ^^^^^^^^
  momentum belongs to kind sgd, not to adam
  optimizer (kind adam) allows kind, lr, betas""",
    ),
    "kind as a key": (
        "optimizer: {kind: sgd, lr: 1}\nzoom: {factor: 2}\n",
        """\
x.yaml:2:1: unknown key zoom
  2 | zoom: {factor: 2}
    | ^^^^
  did you mean `- kind: zoom` under tricks?
  the top level allows name, optimizer, tricks, precision, fast, mean, average, epochs, labels""",
    ),
    "unknown kind": (
        "optimizer:\n  kind: adamw  # decoupled\n  lr: 1\n",
        """\
x.yaml:2:9: optimizer has no kind adamw; it has adam, sgd
  2 |   kind: adamw  # decoupled
    |         ^^^^^
  did you mean adam?""",
    ),
    "kind of another slot": (
        "optimizer: {kind: blur}\n",
        """\
x.yaml:1:19: optimizer has no kind blur; it has adam, sgd
  1 | optimizer: {kind: blur}
    |                   ^^^^
  blur is a kind of tricks""",
    ),
    "no kind": (
        "optimizer: {kind: sgd, lr: 1}\ntricks:\n  - sigma: 2\n",
        """\
x.yaml:3:5: tricks[0].kind is missing; it must be blur or zoom
  3 |   - sigma: 2
    |     ^^^^^^^^
  its keys are those of kind: blur""",
    ),
    "missing field": (
        "epochs: 3\noptimizer:\n  kind: sgd\n",
        """\
x.yaml:2:1: optimizer.lr is missing; it must be a number > 0
  2 | optimizer:
    | ^^^^^^^^^
  lr: Learning rate; null of it is scaled.""",
    ),
    "wrong choice": (
        "optimizer: {kind: sgd, lr: 1}\nprecision: bf61\n",
        """\
x.yaml:2:12: precision must be fp32 or bf16, got bf61
  2 | precision: bf61
    |            ^^^^
  did you mean bf16?""",
    ),
    "branches of a union": (
        "optimizer: {kind: sgd, lr: 1}\nfast: yes\n",
        """\
x.yaml:2:7: fast must be auto, true or false, got yes
  2 | fast: yes
    |       ^^^
  write true""",
    ),
    "bounds": (
        "optimizer: {kind: sgd, lr: 1, momentum: 1.0}\n",
        """\
x.yaml:1:41: optimizer.momentum must be a number >= 0 and < 1, got 1.0
  1 | optimizer: {kind: sgd, lr: 1, momentum: 1.0}
    |                                         ^^^""",
    ),
    "quoted number": (
        'optimizer: {kind: sgd, lr: "1e-4"}\n',
        """\
x.yaml:1:28: optimizer.lr must be a number > 0, got the text "1e-4"
  1 | optimizer: {kind: sgd, lr: "1e-4"}
    |                            ^^^^^^
  take the quotes away: 1e-4""",
    ),
    "no value": (
        "optimizer: {kind: sgd, lr: 1}\nepochs:\n\nfast: true\n",
        """\
x.yaml:2:1: epochs must be an integer > 0, got null
  2 | epochs:
    | ^^^^^^
  leave epochs out for its default, 10""",
    ),
    "pattern": (
        "optimizer: {kind: sgd, lr: 1}\nname: my job\n",
        """\
x.yaml:2:7: name must be text that matches ^[a-z-]+$, got "my job"
  2 | name: my job
    |       ^^^^^^
  did you mean my-job?""",
    ),
    "length of a list": (
        "optimizer: {kind: sgd, lr: 1}\nmean: []\n",
        """\
x.yaml:2:7: mean must be a list of 1 to 3 entries, each a number, or null, got []
  2 | mean: []
    |       ^^""",
    ),
    "entry of a list": (
        "optimizer: {kind: adam, lr: 1, betas: [0.9, true]}\n",
        """\
x.yaml:1:45: optimizer.betas[1] must be a number, got true
  1 | optimizer: {kind: adam, lr: 1, betas: [0.9, true]}
    |                                             ^^^^""",
    ),
    "mapping for a list": (
        "optimizer: {kind: sgd, lr: 1}\ntricks:\n  zoom: {factor: 2}\n",
        """\
x.yaml:2:1: tricks must be a list, each a mapping whose kind is blur or zoom, got a mapping with keys zoom
  2 | tricks:
    | ^^^^^^
  it is a list: write `- kind: zoom`""",
    ),
    "text for a slot": (
        "optimizer: sgd\n",
        """\
x.yaml:1:12: optimizer must be a mapping whose kind is adam or sgd, got the text sgd
  1 | optimizer: sgd
    |            ^^^
  write `optimizer: {kind: sgd, lr: ...}`""",
    ),
    "duplicate key": (
        "optimizer: {kind: sgd, lr: 1}\nepochs: 3\nepochs: 4\n",
        """\
x.yaml:3:1: duplicate key epochs: line 2 has it already
  3 | epochs: 4
    | ^^^^^^
  keep one""",
    ),
    "two at once": (
        "optimizer:\n  kind: sgd\nepoch: 3\n",
        """\
2 problems

x.yaml:1:1: optimizer.lr is missing; it must be a number > 0
  1 | optimizer:
    | ^^^^^^^^^
  lr: Learning rate; null of it is scaled.

x.yaml:3:1: unknown key epoch
  3 | epoch: 3
    | ^^^^^
  did you mean epochs?
  the top level allows name, optimizer, tricks, precision, fast, mean, average, epochs, labels""",
    ),
    "key without a colon": (
        "optimizer: {kind: sgd, lr: 1}\nepochs 3\nfast: true\n",
        """\
x.yaml:2:1: not YAML: could not find expected ':'
  2 | epochs 3
    | ^
  a key needs a colon and a space after it: `key: value`""",
    ),
    "tab": (
        "optimizer:\n\tkind: sgd\n",
        """\
x.yaml:2:1: not YAML: found character '\\t' that cannot start any token
  2 | \tkind: sgd
    | ^
  YAML indents with spaces only""",
    ),
    "not a mapping": (
        "- kind: sgd\n",
        """\
x.yaml:1:1: the file must be a mapping (`key: value` lines), got a list of 1 entry
  1 | - kind: sgd
    | ^^^^^^^^^^^
  a small is a mapping; it needs at least: optimizer""",
    ),
    "empty": ("# nothing\n", "x.yaml: the file is empty\n  a small is a mapping; it needs at least: optimizer"),
    "tag": (
        "optimizer: {kind: sgd, lr: 1}\nname: !!python/name:os.system x\n",
        """\
x.yaml:2:7: tag !!python/name:os.system is not allowed in a spec
  2 | name: !!python/name:os.system x
    |       ^^^^^^^^^^^^^^^^^^^^^^^^^
  take the tag away""",
    ),
}


@pytest.mark.parametrize("case", TEXTS)
def test_the_text_of_a_refusal(case: str) -> None:
    text, told = TEXTS[case]
    assert str(refusal(text, cls=Small)) == told


OVERRIDES = {
    "optimizer.lr=fast": "-s optimizer.lr=fast: optimizer.lr must be a number > 0, got the text fast",
    "lr=1": "-s lr=1: there is no lr\n  did you mean optimizer.lr?",
    "optimizer.moment=1": "-s optimizer.moment=1: there is no optimizer.moment\n  did you mean optimizer.momentum?",
    "tricks.zom.factor=2": "-s tricks.zom.factor=2: there is no tricks.zom.factor\n  did you mean tricks.zoom.factor?",
    "tricks.zoom.factor=9": "-s tricks.zoom.factor=9: tricks.zoom.factor must be a number > 1 and <= 4, got 9",
    "tricks.zoom=2": "-s tricks.zoom=2: tricks.zoom must be true (with its defaults), null (without it) or a mapping, "
    "got 2\n  for example -s tricks.zoom.factor=2",
    "optimizer.kind=adam": """\
-s optimizer.kind=adam: optimizer.lr is missing; it must be a number > 0""",
    "optimizer.kind=adm": "-s optimizer.kind=adm: optimizer has no kind adm; it has adam, sgd\n  did you mean adam?",
    "average.decay=0.5": """\
-s average.decay=0.5: average.every_steps is missing; it must be an integer > 0
  every_steps: Updates between two averagings.""",
    "epochs": "-s epochs: an override is name=value\n  for example -s optimizer.lr=0.2",
    "mean=[1": "-s mean=[1: not YAML: expected ',' or ']', but got '<stream end>'\n"
    "  an opened bracket was not closed, or a comma is missing",
}


@pytest.mark.parametrize("override", OVERRIDES)
def test_a_wrong_override_is_named_instead_of_a_line(override: str) -> None:
    error = refusal("optimizer: {kind: sgd, lr: 1}\n", override, cls=Small)
    assert str(error) == OVERRIDES[override]
    assert error.problems[0].mark is None


def test_a_wrong_line_is_named_though_an_override_is_beside_it() -> None:
    error = refusal("optimizer: {kind: sdg, lr: 1}\n", "optimizer.lr=2", "epochs=0", cls=Small)
    assert [str(problem).splitlines()[0] for problem in error.problems] == [
        "x.yaml:1:19: optimizer has no kind sdg; it has adam, sgd",
        "-s epochs=0: epochs must be an integer > 0, got 0",
    ]


def test_an_override_into_a_list_that_should_be_a_mapping() -> None:
    error = refusal("optimizer: [1]\n", "optimizer.lr=2", cls=Small)
    assert "optimizer" in str(error)
    assert "list" in str(error)


def test_entries_are_found_after_an_override_removed_one() -> None:
    text = "optimizer: {kind: sgd, lr: 1}\ntricks:\n  - {kind: zoom}\n  - {kind: blur, sigma: -1}\n"
    assert str(refusal(text, "tricks.zoom=null", cls=Small)).startswith("x.yaml:4:25: tricks.blur.sigma must be")


def test_long_lines_are_cut_around_the_place() -> None:
    text = (
        f"optimizer: {{kind: sgd, lr: 1}}\nlabels: {{{', '.join(f'label{i}: {i}' for i in range(99))}, a: b, z: 1}}\n"
    )
    first, line, carets = str(refusal(text, cls=Small)).splitlines()
    assert first.endswith("labels.a must be a number, got the text b")
    assert len(line) < 120
    assert line[carets.index("^")] == "b"
    assert carets.count("^") == 1


def test_lines_are_counted_as_yaml_counts_them() -> None:
    error = refusal("name: 'a\u2028\x85b'\r\noptimizer: {kind: sgd, lr: 1}\r\nepochs: 0\r\n", cls=Small)
    assert str(error.problems[1]).splitlines()[:2] == [
        "x.yaml:3:9: epochs must be an integer > 0, got 0",
        "  3 | epochs: 0",
    ]


def test_carets_stand_under_wide_characters() -> None:
    error = refusal("optimizer: {kind: sgd, lr: 1}\nlabels: {数字: x}\n", cls=Small)
    assert str(error).splitlines()[1:] == ["  2 | labels: {数字: x}", "    |                ^"]
