"""Randomness as a function: uniform, independent of the batch, and a function that does not change."""

import math
from itertools import combinations

import pytest
import torch
from timm.data.distributed_sampler import RepeatAugSampler

from jobs.randomness import SampleDraws, _seed, _uniform, generator, key, order, repeated, seed_global, sharded_order

COUNT = 40_000
PLACES = [(0, 0, "crop"), (0, 1, "crop"), (1, 0, "flip"), (2**31, 299, "random_erasing")]


def uniform(seed: int = 0, epoch: int = 0, trick: str = "crop", count: int = 1) -> torch.Tensor:
    return SampleDraws(seed, epoch, torch.arange(COUNT)).uniform(trick, count)


def test_the_function_has_not_changed() -> None:
    """A change here means that old runs cannot be resumed or repeated."""
    assert key("a", 1) == 6962120981034877120
    assert generator(0, "x").initial_seed() == 4755882605482474953
    assert order(0, 0, 10).tolist() == [9, 7, 1, 4, 0, 2, 6, 5, 3, 8]
    assert order(3, 2, 10).tolist() == [5, 9, 0, 1, 8, 4, 6, 7, 2, 3]
    draws = SampleDraws(7, 2, torch.tensor([0, 1, 2, 49999]))
    assert draws.uniform("crop", 2).tolist() == [
        [0.8327825477698577, 0.2810104935480452],
        [0.7506580354664497, 0.264065254081978],
        [0.7619363908457433, 0.07227345830349341],
        [0.5129515875226823, 0.6028240901439439],
    ]
    assert draws.integers("crop", 9, 2).tolist() == [[7, 2], [6, 2], [6, 0], [4, 5]]


def test_draws_are_splitmix64_in_plain_integers() -> None:
    mask = 2**64 - 1

    def mix(word: int) -> int:
        word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 & mask
        word = (word ^ word >> 27) * 0x94D049BB133111EB & mask
        return word ^ word >> 31

    index = [0, 1, 5, 1_281_166, 2**40]
    got = SampleDraws(5, 3, torch.tensor(index)).uniform("flip", 3)
    base = key(5, "augment", 3, "flip")
    for row, sample in zip(got.tolist(), index, strict=True):
        state = mix(sample * 0x9E3779B97F4A7C15 + base & mask)
        assert row == [(mix(state + lane * 0xD1B54A32D192ED03 & mask) >> 11) * 2.0**-53 for lane in (1, 2, 3)]


def test_keys_keep_words_apart() -> None:
    keys = [key(*words) for words in ((1, 23), (12, 3), (1, 2, 3), (123,), (23, 1), ("1", "2", "34"))]
    assert len(set(keys)) == len(keys)
    assert all(0 <= each < 2**63 for each in keys)
    assert key(1, 2) == key("1", 2)  # numbers and their text are one word


def chi_square(values: torch.Tensor, bins: int) -> float:
    seen = values.bincount(minlength=bins).double()
    assert len(seen) == bins
    expected = len(values) / bins
    return ((seen - expected) ** 2 / expected).sum().item()


@pytest.mark.parametrize("place", PLACES)
def test_draws_made_on_a_device_are_those_made_on_the_cpu(place: tuple[int, int, str]) -> None:
    seed, epoch, trick = place
    index = torch.cat((torch.arange(1000), torch.tensor([2**40, 2**63 - 1, -1])))
    there = _uniform(index, key(seed, "augment", epoch, trick), 5)
    assert torch.equal(there, SampleDraws(seed, epoch, index).uniform(trick, 5))


@pytest.mark.parametrize("place", PLACES)
def test_draws_are_uniform(place: tuple[int, int, str]) -> None:
    draws = uniform(*place, count=3)
    assert draws.dtype == torch.float64
    assert draws.shape == (COUNT, 3)
    assert 0 <= draws.min() < 1e-3
    assert 1 - 1e-3 < draws.max() < 1
    bins = 64
    for column in draws.unbind(1):
        assert chi_square((column * bins).long(), bins) < bins - 1 + 5 * (2 * (bins - 1)) ** 0.5
        low_bits = (column * 2**53).long() & (bins - 1)
        assert chi_square(low_bits, bins) < bins - 1 + 5 * (2 * (bins - 1)) ** 0.5


def test_integers_are_uniform_and_within_bounds() -> None:
    whole = SampleDraws(0, 0, torch.arange(COUNT)).integers("crop", 9, 2)
    assert (whole.dtype, whole.shape) == (torch.int64, (COUNT, 2))
    for column in whole.unbind(1):
        assert chi_square(column, 9) < 8 + 5 * 16**0.5


def test_draws_of_other_places_are_uncorrelated() -> None:
    lanes = uniform(count=2)
    columns = [
        lanes[:, 0],
        lanes[:, 1],
        uniform(epoch=1)[:, 0],
        uniform(epoch=2)[:, 0],
        uniform(seed=1)[:, 0],
        uniform(trick="flip")[:, 0],
        lanes[:, 0].roll(1),  # the neighbour in the training set
    ]
    for one, other in combinations(columns, 2):
        correlation = torch.corrcoef(torch.stack((one, other)))[0, 1].item()
        assert abs(correlation) < 4.5 / COUNT**0.5


def test_draws_do_not_depend_on_the_batch() -> None:
    whole = SampleDraws(4, 7, torch.arange(100)).uniform("crop", 3)
    pick = torch.tensor([99, 3, 3, 50])
    assert torch.equal(SampleDraws(4, 7, pick).uniform("crop", 3), whole[pick])
    assert torch.equal(SampleDraws(4, 7, pick[:1]).uniform("crop", 1), whole[pick[:1], :1])


def test_draws_are_made_on_the_cpu_and_handed_out_on_the_device() -> None:
    there = SampleDraws(4, 7, torch.arange(100), torch.device("meta"))  # a device that would forget the numbers
    here = SampleDraws(4, 7, torch.arange(100))
    assert there.uniform("crop", 2).is_meta and there.integers("crop", 9).is_meta and there.put(torch.ones(1)).is_meta
    assert torch.equal(there.host.uniform("crop", 2), here.uniform("crop", 2))
    assert torch.equal(there.host.integers("crop", 9), here.integers("crop", 9))
    assert here.uniform("crop").device == here.host.uniform("crop").device == torch.device("cpu")


def test_keys_that_share_their_low_half_draw_otherwise() -> None:
    """torch's CPU generator reads 32 bits of a seed; the others leave out draws."""
    low, firsts = key(0, "x") & 2**32 - 1, []
    for high in (0, 1, 2, 4095):
        source = _seed(torch.Generator(), low + (high << 32))
        firsts.append(int(torch.empty((), dtype=torch.int64).random_(generator=source)))
    assert len(set(firsts)) == 4
    plain = torch.Generator().manual_seed(low)
    drawn = torch.empty(3, dtype=torch.int32).random_(generator=plain)
    other = _seed(torch.Generator(), low + (2 << 32))
    assert int(torch.empty(1, dtype=torch.int32).random_(generator=other)) == int(drawn[2])
    seeds = [key(0, step, part, "mixup") for step in range(3000) for part in range(8)]
    assert len({(seed & 2**32 - 1, seed >> 32 & 4095) for seed in seeds}) == len(seeds)


def test_order_is_a_permutation_of_its_own_every_epoch() -> None:
    orders = [order(0, epoch, 500) for epoch in range(4)] + [order(1, 0, 500)]
    for one in orders:
        assert one.sort().values.tolist() == list(range(500))
    assert not any(torch.equal(one, other) for one, other in combinations(orders, 2))
    assert torch.equal(orders[2], order(0, 2, 500))


def test_generators_are_their_own() -> None:
    before = torch.get_rng_state()
    first = torch.rand(4, generator=generator(0, 5, 0, "mixup"))
    torch.rand(9, generator=generator(0, 5, 0, "cutmix"))
    assert torch.equal(first, torch.rand(4, generator=generator(0, 5, 0, "mixup")))
    assert not torch.equal(first, torch.rand(4, generator=generator(0, 5, 1, "mixup")))
    assert torch.equal(before, torch.get_rng_state())


def test_global_generators_are_seeded_from_words() -> None:
    seed_global(1, 2, 3)
    first = torch.nn.functional.dropout(torch.ones(100))
    assert not torch.equal(first, torch.nn.functional.dropout(torch.ones(100)))
    seed_global(1, 2, 3)
    assert torch.equal(first, torch.nn.functional.dropout(torch.ones(100)))
    seed_global(1, 2, 4)
    assert not torch.equal(first, torch.nn.functional.dropout(torch.ones(100)))


@pytest.mark.parametrize(
    ("counts", "batch", "lanes"), [([7] * 12, 8, 4), ([5, 30, 1, 9], 6, 4), ([3], 2, 8), ([11] * 3, 33, 32)]
)
def test_a_sharded_order_visits_all_once_and_few_shards_at_a_time(counts: list[int], batch: int, lanes: int) -> None:
    visits = sharded_order(0, 2, counts, batch, lanes)
    assert torch.equal(visits.sort().values, torch.arange(sum(counts)))
    assert torch.equal(visits, sharded_order(0, 2, counts, batch, lanes))
    for other in (sharded_order(1, 2, counts, batch, lanes), sharded_order(0, 3, counts, batch, lanes)):
        assert not torch.equal(visits, other)
    shard = torch.repeat_interleave(torch.tensor(counts))[visits]
    lanes, steps = math.gcd(batch, lanes), sum(counts) // batch
    for lane in shard[: steps * batch].view(steps, lanes, -1).transpose(0, 1).reshape(lanes, -1):
        changes = int((lane[1:] != lane[:-1]).sum())
        assert changes == len(lane.unique()) - 1, "a lane comes to a shard once, and leaves it when it is done"


def test_lanes_that_share_a_shard_read_it_at_the_same_time() -> None:
    counts, batch = [25] * 10, 8
    shard = torch.repeat_interleave(torch.tensor(counts))[sharded_order(0, 0, counts, batch, 8)]
    steps = 250 // batch
    for each in range(10):
        (when,) = torch.where((shard[: steps * batch].view(steps, batch) == each).any(1))
        assert len(when) == 0 or int(when.max() - when.min()) < 26, "it is held no longer than it takes to read it"


@pytest.mark.parametrize(("samples", "repeats", "batch"), [(1280, 3, 96), (1280, 4, 64), (1000, 3, 64), (10, 4, 5)])
def test_repeated_order_shows_what_timms_sampler_does(samples: int, repeats: int, batch: int) -> None:
    """The images of every global batch are those of all ranks together, and copies differ in their augmentation."""
    world = 4
    visits = repeated(order(0, 2, samples), repeats, batch)
    assert visits.dtype == torch.int64 and len(visits) == samples == len(visits.unique())
    permutation = order(0, 2, samples)
    samplers = [RepeatAugSampler(range(samples), world, rank, True, repeats, selected_round=0) for rank in range(world)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "randperm", lambda *_, **__: permutation)
        theirs = [list(sampler) for sampler in samplers]
    for step in range(samples // batch if batch % world == 0 else 0):
        ours = visits[step * batch : (step + 1) * batch]
        each = batch // world
        expected = sorted(index for indices in theirs for index in indices[step * each : (step + 1) * each])
        assert (ours % samples).sort().values.tolist() == expected
        if batch % (repeats * repeats) == 0:
            assert all(len((part % samples).unique()) == len(part) for part in ours.chunk(repeats))
    assert torch.equal(repeated(order(0, 2, samples), 1, batch), permutation)
