"""Specs by dotted names: flatten, assign, override."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import Field, ValidationError

from jobs.base import Spec, assign
from jobs.spec import JobSpec


class Red(Spec):
    kind: Literal["red"] = "red"
    depth: int = 1


class Blue(Spec):
    kind: Literal["blue"] = "blue"
    depth: int = 2
    salt: float = 0.5


class Plain(Spec):
    kind: Literal["plain"] = "plain"


Colour = Annotated[Red | Blue, Field(discriminator="kind")]
Coat = Annotated[Red | Blue | Plain, Field(discriminator="kind")]


class Frame(Spec):
    width: int
    inner: Colour = Blue()


class House(Spec):
    wall: Colour = Red()
    coats: tuple[Coat, ...] = ()
    frame: Frame | None = None
    sizes: tuple[int, ...] = (1, 2)
    options: dict[str, int] = {}  # noqa: RUF012
    open: bool = False


HOUSE = House(coats=(Red(), Plain(), Blue(salt=0.25)), frame=Frame(width=3), options={"a": 1})


def test_flatten_names_every_leaf() -> None:
    assert HOUSE.flatten() == {
        "wall.kind": "red",
        "wall.depth": 1,
        "coats.red.depth": 1,
        "coats.plain": True,
        "coats.blue.depth": 2,
        "coats.blue.salt": 0.25,
        "frame.width": 3,
        "frame.inner.kind": "blue",
        "frame.inner.depth": 2,
        "frame.inner.salt": 0.5,
        "sizes": [1, 2],
        "options.a": 1,
        "open": False,
    }
    assert House().flatten() == {
        "wall.kind": "red",
        "wall.depth": 1,
        "coats": [],
        "frame": None,
        "sizes": [1, 2],
        "options": {},
        "open": False,
    }


def test_overriding_with_its_own_leaves_changes_nothing() -> None:
    for house in (HOUSE, House()):
        assert house.override(house.flatten()) == house


def test_all_leaves_make_the_spec_from_the_default_one() -> None:
    assert House().override(HOUSE.flatten()) == HOUSE


def test_override_leaves_the_original_alone() -> None:
    before = HOUSE.model_dump_json()
    changed = HOUSE.override({"coats.blue.salt": 0.75, "options.a": 9, "sizes": [7]})
    assert HOUSE.model_dump_json() == before
    assert (changed.coats[2], changed.options, changed.sizes) == (Blue(salt=0.75), {"a": 9}, (7,))
    data = {"coats": [{"kind": "blue"}]}
    assert assign(data, {"coats.blue.depth": 5}) == {"coats": [{"kind": "blue", "depth": 5}]}
    assert data == {"coats": [{"kind": "blue"}]}


def test_list_entries_are_found_by_kind_and_keep_their_place() -> None:
    assert HOUSE.override({"coats.plain": True, "coats.red.depth": 4}).coats == (Red(depth=4), Plain(), Blue(salt=0.25))


def test_list_entry_set_as_a_whole_forgets_its_old_fields() -> None:
    assert HOUSE.override({"coats.blue": {"depth": 8}}).coats[2] == Blue(depth=8, salt=0.5)


def test_missing_list_entries_are_added_at_the_end() -> None:
    assert House().override({"coats.blue.salt": 0.1}).coats == (Blue(salt=0.1),)
    assert House(coats=(Plain(),)).override({"coats.red": {"depth": 3}}).coats == (Plain(), Red(depth=3))
    assert House(coats=(Red(),)).override({"coats.plain": True}).coats == (Red(), Plain())


def test_list_appears_where_the_data_leaves_it_out() -> None:
    assert assign({}, {"coats.blue.salt": 0.1}, House) == {"coats": [{"kind": "blue", "salt": 0.1}]}


def test_none_removes_a_list_entry() -> None:
    assert HOUSE.override({"coats.plain": None}).coats == (Red(), Blue(salt=0.25))
    assert House().override({"coats.plain": None}).coats == ()


@pytest.mark.parametrize("value", [False, 0.2, "yes", [1]])
def test_list_entry_cannot_be_a_scalar(value: object) -> None:
    with pytest.raises(ValueError, match=r"blue is an entry of a list: .*null to remove it, got"):
        HOUSE.override({"coats.blue": value})


def test_list_replaced_as_a_whole() -> None:
    assert HOUSE.override({"coats": [{"kind": "plain"}]}).coats == (Plain(),)


def test_unknown_kind_in_a_list_is_refused() -> None:
    with pytest.raises(ValidationError, match="'green'"):
        HOUSE.override({"coats.green.depth": 1})


def test_union_fields_are_addressed_without_the_kind() -> None:
    assert HOUSE.override({"wall.depth": 6}).wall == Red(depth=6)
    assert HOUSE.override({"frame.inner.salt": 0.1}).frame == Frame(width=3, inner=Blue(salt=0.1))


def test_changed_kind_starts_the_slot_afresh() -> None:
    house = House(wall=Blue(depth=9, salt=0.9))
    assert house.override({"wall.kind": "red"}).wall == Red(depth=1)
    assert house.override({"wall.kind": "blue"}).wall == Blue(depth=9, salt=0.9)


def test_kind_is_changed_before_its_fields_whatever_the_order() -> None:
    for changes in ({"wall.kind": "blue", "wall.salt": 0.1}, {"wall.salt": 0.1, "wall.kind": "blue"}):
        assert House(wall=Red(depth=7)).override(changes).wall == Blue(depth=2, salt=0.1)


def test_slot_is_set_before_its_fields_whatever_the_order() -> None:
    changes = {"frame.inner.depth": 4, "frame.inner.kind": "red", "frame": {"width": 1}}
    assert HOUSE.override(changes).frame == Frame(width=1, inner=Red(depth=4))


def test_added_entries_stand_in_the_order_of_the_changes() -> None:
    changes = {"coats.blue.salt": 0.1, "coats.plain": True, "coats.red.depth": 3, "coats.blue.depth": 1}
    assert House().override(changes).coats == (Blue(depth=1, salt=0.1), Plain(), Red(depth=3))


def test_field_of_another_kind_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"wall\.red\.salt"):
        House().override({"wall.salt": 0.1})


def test_optional_slots_open_and_close() -> None:
    assert House().override({"frame.width": 5}).frame == Frame(width=5)
    assert HOUSE.override({"frame": None}).frame is None
    assert HOUSE.override({"frame": {"width": 1}}).frame == Frame(width=1)
    with pytest.raises(ValidationError, match=r"frame\.width\s+Field required"):
        House().override({"frame.inner.depth": 1})


def test_field_that_does_not_exist_is_refused() -> None:
    for name in ("roof", "wall.roof", "frame.roof", "coats.red.roof", "roof.height"):
        with pytest.raises(ValidationError, match="roof"):
            HOUSE.override({name: 1})


@pytest.mark.parametrize(
    ("name", "value"),
    [("wall.depth", "1"), ("wall.depth", True), ("wall.depth", 1.5), ("open", 1), ("open", "yes"), ("sizes", [1, "2"])],
)
def test_types_are_not_guessed(name: str, value: object) -> None:
    with pytest.raises(ValidationError, match=name.replace(".", r"\.(red\.)?")):
        HOUSE.override({name: value})


def test_floats_may_be_written_as_integers_but_not_infinite() -> None:
    assert HOUSE.override({"coats.blue.salt": 1}).coats[2] == Blue(salt=1.0)
    with pytest.raises(ValidationError, match="finite"):
        HOUSE.override({"coats.blue.salt": float("inf")})


def test_specs_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        HOUSE.open = True  # type: ignore[misc]


def test_axes_of_a_job_by_their_names() -> None:
    job = JobSpec.model_validate(
        {
            "name": "digits",
            "data": {"kind": "digits"},
            "model": {"kind": "cnn", "width": 64},
            "optimizer": {"kind": "sgd", "lr": 0.1},
            "epochs": 10,
            "batch_size": 64,
        }
    )
    changed = job.override(
        {
            "schedule.warmup_epochs": 2,
            "batch.label_smoothing.epsilon": 0.2,
            "batch.mixup.alpha": 0.4,
            "ema.decay": 0.9,
            "model.depth": 20,
            "model.kind": "resnet",
            "schedule.decay.kind": "step",
            "schedule.decay.at_epochs": [3, 6],
        }
    )
    assert [trick.kind for trick in changed.batch] == ["label_smoothing", "mixup"]
    leaves = changed.flatten()
    assert leaves["batch.mixup.alpha"] == 0.4
    assert leaves["batch.label_smoothing.epsilon"] == 0.2
    assert leaves["schedule.warmup_epochs"] == 2
    assert leaves["schedule.decay.at_epochs"] == [3, 6]
    assert (leaves["model.kind"], leaves["model.depth"], leaves["model.width"]) == ("resnet", 20, None)
    assert leaves["ema.decay"] == 0.9
    assert job.override(leaves) == changed


def test_changes_are_left_alone_though_one_goes_into_another() -> None:
    teacher = {"teacher": {"kind": "model", "path": "x"}}
    changes = {"distillation": teacher, "distillation.temperature": 4.0}
    assert assign({}, changes)["distillation"]["temperature"] == 4.0
    assert teacher == {"teacher": {"kind": "model", "path": "x"}}
