"""What is fetched when, and when it is done."""

from __future__ import annotations

from itertools import islice

from jobs.data.course import LAG, course

Passes = list[list[list[str]]]


def events(passes: Passes, room: int, batches: int) -> list[tuple[list[str], list[str]]]:
    return list(islice(course(iter(passes), room), batches))


def test_each_thing_is_fetched_once_in_time_and_given_up_when_it_is_done() -> None:
    letters = "abcdefghij"
    passes: Passes = [[[letters[number // 10]] for number in range(100)]]
    room, held, before = 3, set[str](), set[str]()
    for number, (coming, done) in enumerate(events(passes, room, 120)):
        assert not before & set(coming), "once"
        before |= set(coming)
        held = (held | set(coming)) - set(done)
        needed = {letters[each // 10] for each in range(max(0, number - LAG + 1), min(number + LAG, 100))}
        assert needed <= held and len(held) <= room + 1
    assert before == set(letters) and not held


def test_the_next_passes_are_looked_at_but_no_more() -> None:
    read = []

    def passes():
        for number in range(100):
            read.append(number)
            yield [[f"thing {number}"]] * 20

    batches = course(passes(), 50)
    coming, _ = next(batches)
    assert coming == [f"thing {number}" for number in range(4)] and len(read) == 4
    assert [each for coming, _ in islice(batches, 30) for each in coming] == ["thing 4"]


def test_what_comes_again_is_neither_given_up_nor_fetched_again() -> None:
    passes: Passes = [[["a"], ["a"], ["b"]]] * 4
    found = events(passes, 2, 12)
    assert [thing for coming, _ in found for thing in coming] == ["a", "b"]
    assert not [thing for _, done in found for thing in done]
