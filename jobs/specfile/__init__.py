"""Spec files: YAML to a spec and back. Every mistake of a file is reported at once, with its place and its cure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from jobs.base import Spec, assign
from jobs.specfile import cures
from jobs.specfile.errors import MOST_PROBLEMS, Finding, Problem, SpecError, dotted, findings
from jobs.specfile.schema import Node, Shape, schema, shown
from jobs.specfile.writing import dump, inline
from jobs.specfile.yaml import MOST_CHARACTERS, Flaw, Mark, Tree, kind_of, parse, split
from jobs.words import any_of, nearest

__all__ = ["Problem", "SpecError", "dump", "inline", "read", "schema"]

S = TypeVar("S", bound=Spec)
_Override = tuple[str, Tree | None, list[Flaw]]
"""``name=value``, and what its value was parsed to."""


def read(path: str | Path, cls: type[S], overrides: Sequence[str] | Mapping[str, Any] = ()) -> S:
    """The spec of class ``cls`` in a YAML file.

    Args:
        path: the file, UTF-8.
        cls: what it must be.
        overrides: ``name=value`` strings, dotted name and YAML value (``optimizer.lr=0.2``, ``ema=null``,
            ``data.mean=[0.5]``); they replace what the file says, the last of several for one name wins. Or name ->
            value.

    Raises:
        SpecError: the file or an override is wrong; every problem at once.
    """
    text = _text(Path(path))
    tree, flaws = parse(text)
    lines = split(text)
    problems = [
        Problem(flaw.what, "", str(path), flaw.mark, _line(lines, flaw.mark), (flaw.cure,) if flaw.cure else ())
        for flaw in flaws
    ]
    more = 0
    if tree is None or not isinstance(tree.value, dict):
        raise SpecError(problems or [_no_mapping(path, tree, lines, cls)])
    if stranger := _of_another_kind(path, tree.value, cls):
        raise SpecError([*problems, stranger])
    shape = Shape.of(cls)
    given: list[_Override]
    if isinstance(overrides, Mapping):
        given = [(f"{name}={json.dumps(value)}", Tree(value, Mark()), []) for name, value in overrides.items()]
    else:
        given = [(override, *parse(override.partition("=")[2])) for override in overrides]
    changes, wrong = _changes(shape, given, cures.job_of(cls), tree.value.get("space"))
    texts = [text for text, *_ in given]
    data = tree.value
    try:
        data = assign(tree.value, changes, cls)
        spec = cls.model_validate(data)
    except ValidationError as error:
        place = _Places(str(path), lines, tree, data, changes, texts)
        wrong_values = findings(shape, data, error.errors(include_url=False))
        found, more = list(map(place, wrong_values[:MOST_PROBLEMS])), len(wrong_values[MOST_PROBLEMS:])
        flawed = {flaw.mark for flaw in flaws}
        problems += [problem for problem in found if problem.mark is None or problem.mark not in flawed]
    except ValueError as error:  # an override goes into a list that should not be one
        problems += [Problem(str(error), "", "-s " + " -s ".join(texts))]
    problems.sort(key=lambda problem: (not problem.mark, problem.mark and (problem.mark.line, problem.mark.column)))
    if problems or wrong:
        raise SpecError([*problems, *wrong], more)
    return spec


def _text(path: Path) -> str:
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise SpecError([Problem("is neither a file nor a folder (a pipe, a socket or a device)", "", str(path))])
        if path.is_file() and path.stat().st_size > 4 * MOST_CHARACTERS:
            raise SpecError([Problem(f"has {path.stat().st_size:,} bytes, more than any spec", "", str(path))])
        raw = path.read_bytes()
    except FileNotFoundError:
        raise SpecError([Problem("no such file", "", str(path), cures=_files(path))]) from None
    except IsADirectoryError:
        raise SpecError([Problem("is a folder, not a file", "", str(path), cures=_files(path / ""))]) from None
    except OSError as error:
        raise SpecError([Problem(f"cannot be read: {error.strerror}", "", str(path))]) from None
    except ValueError:  # a zero byte, or what is no text
        raise SpecError([Problem("is no name of a file", "", str(path))]) from None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = split(raw[: error.start].decode("utf-8-sig"))
        mark = Mark(len(before), len(before[-1]) + 1)
        line = _line(split(raw.decode("utf-8-sig", "replace")), mark)
        what = f"byte 0x{raw[error.start]:02x} is not UTF-8"
        raise SpecError([Problem(what, "", str(path), mark, line, ("save the file as UTF-8",))]) from None


def _files(path: Path) -> tuple[str, ...]:
    """A cure that names the spec files where one was looked for, the nearest ones first."""
    folder = path if path.is_dir() else path.parent
    if not folder.is_dir():
        return (f"there is no folder {folder} either",)
    names = sorted(file.name for file in folder.iterdir() if file.suffix in (".yaml", ".yml") and file.is_file())
    if not names:
        return (f"there are no .yaml files in {folder}",)
    stems = nearest(path.stem, [Path(name).stem for name in names], 3, 0.6)
    near = [name for stem in stems for name in names if Path(name).stem == stem]
    if near and folder == path.parent:
        return (f"did you mean {any_of([str(folder / name) for name in near[:3]])}?",)
    return (f"in {folder} there are: {', '.join(names[:20])}{', ...' if len(names) > 20 else ''}",)


def _of_another_kind(path: str | Path, data: dict[Any, Any], cls: type[Spec]) -> Problem | None:
    """What is wrong with a file most of whose keys resemble none of the class."""
    strange = [str(key) for key in data if not nearest(str(key), cls.model_fields, 1, 0.8)]
    if not cls.elsewhere or 2 * len(strange) <= len(data):
        return None
    what = f"this is no {_noun(cls)}: {', '.join(strange[:4])} {'is' if len(strange) == 1 else 'are'} no part of one"
    return Problem(what, "", str(path), cures=(cls.elsewhere,))


def _noun(cls: type[Spec]) -> str:
    return cls.__name__.removesuffix("Spec").lower()


def _no_mapping(path: str | Path, tree: Tree | None, lines: list[str], cls: type[Spec]) -> Problem:
    needed = ", ".join(name for name, field in cls.model_fields.items() if field.is_required())
    cure = f"a {_noun(cls)} is a mapping" + (f"; it needs at least: {needed}" if needed else "")
    if tree is None:
        return Problem("the file is empty", "", str(path), cures=(cure,))
    what = f"the file must be a mapping (`key: value` lines), got {shown(tree.value)}"
    return Problem(what, "", str(path), tree.mark, _line(lines, tree.mark), (cure,))


def _line(lines: list[str], mark: Mark) -> str:
    return lines[mark.line - 1] if mark.line <= len(lines) else ""


def _changes(
    shape: Shape, given: Sequence[_Override], job: Shape | None, space: Any
) -> tuple[dict[str, Any], list[Problem]]:
    """The overrides as dotted name -> value, and what is wrong with those that cannot be applied.

    Of a search, ``job`` is the shape of its job and ``space`` what its file varies.
    """
    names = {name.dotted: name for name in shape.names}
    changes: dict[str, Any] = {}
    wrong: list[Problem] = []
    for override, tree, flaws in given:
        name, equals, _ = override.partition("=")
        name = name.strip()
        value = tree.value if tree else None
        cure = ""
        if not equals or not name:
            what, cure = "an override is name=value", cures.example(job)
        elif flaws:
            what, cure = flaws[0].what, flaws[0].cure
        elif name not in names and not _free(shape, shape.root, name.split(".")):
            what, cure = f"there is no {name}", cures.unknown(shape, job, name)
        elif (axis := cures.unknown_axis(job, name, [*(space or ()), *changes])) and axis[0]:
            what, cure = axis
        elif name in names and names[name].entry and not (value is None or value is True or isinstance(value, dict)):
            what = f"{name} must be true (with its defaults), null (without it) or a mapping, got {shown(value)}"
            cure = cures.of_entry(shape, name, value)
        else:
            changes[name] = value
            continue
        wrong.append(Problem(what, name, f"-s {override}", cures=(cure,) if cure else ()))
    return changes, wrong


def _free(shape: Shape, node: Node, path: Sequence[str]) -> bool:
    """Whether the path leads into a mapping whose keys are free."""
    if not path:
        return False
    for option in shape.options(node):
        items = option.get("items") or {}
        if isinstance(items, dict) and (entry := shape.choices(items).get(path[0])) and _free(shape, entry, path[1:]):
            return True
        for chosen in shape.choices(option).values() or [option]:
            inner = chosen.get("properties", {}).get(path[0])
            if _free(shape, inner, path[1:]) if inner else isinstance(chosen.get("additionalProperties"), dict):
                return True
    return False


class _Places:
    """Where a finding about the data comes from: the file, or an override."""

    def __init__(
        self, path: str, lines: list[str], tree: Tree, data: Any, changes: dict[str, Any], overrides: Sequence[str]
    ) -> None:
        self.path, self.lines, self.tree, self.data, self.changes = path, lines, tree, data, changes
        self.texts = {override.partition("=")[0].strip(): override for override in overrides}

    def __call__(self, finding: Finding) -> Problem:
        """The problem that a finding is."""
        path = self._mentioned(finding) if finding.at == "mentioned" else finding.path
        name, target = dotted(self.data, path), path[:-1] if finding.at == "parent" else path
        if guilty := self._override(name, target):
            written = tuple(cures.as_override(cure, name) for cure in finding.cures)
            return Problem(finding.what, name, f"-s {self.texts[guilty]}", cures=written)
        mark = self._mark(target, finding.at)
        return Problem(finding.what, name, self.path, mark, _line(self.lines, mark), finding.cures)

    def _mentioned(self, finding: Finding) -> tuple[str | int, ...]:
        """The path of the first field, set below the finding's own path, that the text of a validator names."""
        for word in re.findall(r"[a-z_]\w*(?:\.[a-z_]\w*)*", finding.what):
            path: list[str | int] = list(finding.path)
            node = self.data
            for step in path:
                node = node[step]
            for part in word.split("."):
                kinds = [kind_of(entry) for entry in node] if isinstance(node, list) else []
                step = kinds.index(part) if part in kinds else part
                if not (part in kinds or (isinstance(node, dict) and part in node)):
                    break
                path.append(step)
                node = node[step]
            else:
                return tuple(path)
        return finding.path

    def _override(self, name: str, target: tuple[str | int, ...]) -> str:
        """The override that brought a field about; empty where the file did."""
        for change in reversed(self.changes):
            if f"{name}.".startswith(f"{change}."):
                return change
        for change, value in self.changes.items():
            slot, _, last = change.rpartition(".")
            if last == "kind" and name.startswith(f"{slot}.") and self._in_file(change) != value:
                return change
        inside = f"{dotted(self.data, target)}."
        absent = target and len(self._trees(target)) <= len(target)
        return next((change for change in self.changes if absent and change.startswith(inside)), "")

    def _in_file(self, name: str) -> Any:
        """The file's own value of a dotted name."""
        tree: Tree | None = self.tree
        for part in name.split("."):
            tree = tree and tree.get((part, 0) if isinstance(tree.value, list) else part)
        return tree and tree.value

    def _trees(self, path: Sequence[str | int]) -> list[Tree]:
        """The trees from the root to a path, as far as the file goes; overrides may have moved a list's entries."""
        trees, node = [self.tree], self.data
        for step in path:
            if isinstance(step, int):
                kinds = [kind_of(entry) for entry in node]
                inner = trees[-1].get((kinds[step], kinds[:step].count(kinds[step])))
            else:
                inner = trees[-1].get(step)
            if inner is None:
                break
            trees.append(inner)
            node = node[step]
        return trees

    def _mark(self, path: Sequence[str | int], at: str) -> Mark:
        """Where a path stands, as far as the file has it: its key, or its value where that begins on the same line."""
        trees = self._trees(path)
        if len(trees) == 1:
            return Mark(trees[0].mark.line, trees[0].mark.column)
        key, value = trees[-2].keys.get(str(path[len(trees) - 2])), trees[-1].mark
        return value if key is None or (at in ("value", "mentioned") and value.line == key.line) else key
