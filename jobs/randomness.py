"""Every random draw as a function of where the run is, so that a resumed run needs its step and nothing else.

- The order of the samples is a function of (seed, epoch): :func:`order`, :func:`sharded_order`,
  :func:`balanced_order`; see also :func:`repeated`.
- A sample's augmentation is a function of (seed, epoch, sample index, trick): :class:`SampleDraws`.
- A batch trick's draws are a function of (seed, step, part, trick), or of (seed, step, place in the global batch,
  trick) where it changes each image by itself: :func:`generator`.
- The global generators (dropout, stochastic depth) are seeded from (seed, step, part): :func:`seed_global`.

A *part* is one of the ``workers x accumulation`` equal pieces of a global batch. Nothing here depends on the rank or on
the number of loader workers, so two workers draw what one worker with two accumulation steps draws.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_UNIT = 2.0**-53
_GOLDEN, _LANE = 0x9E3779B97F4A7C15, 0xD1B54A32D192ED03


def key(*words: int | str) -> int:
    """A 63-bit integer that is a hash of ``words``; the same on every machine and in every process."""
    digest = hashlib.blake2b("\x1f".join(map(str, words)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


_SKIPPED = 12
"""Bits of a key that choose where in its sequence a generator begins."""


def _seed(source: torch.Generator, seed: int) -> torch.Generator:
    """Seed a CPU generator with more of a key than the low 32 bits, which are all that its own seeding reads.

    By these alone, of n places of a run n^2 / 2^33 pairs would share their draws: some 4,100 in a job of 600 epochs of
    ImageNet in 8 parts. The upper bits leave out the first draws, up to 4,095, which leaves one such pair.
    """
    import torch

    source.manual_seed(seed)
    skipped = seed >> 32 & 2**_SKIPPED - 1
    if skipped:
        torch.empty(skipped, dtype=torch.int32).random_(generator=source)
    return source


def generator(*words: int | str) -> torch.Generator:
    """A CPU generator of its own for one place of the run, seeded with a hash of ``words``."""
    import torch

    return _seed(torch.Generator(), key(*words))


def seed_global(*words: int | str, device: torch.device | None = None) -> None:
    """Seed torch's global generators of the CPU and of ``device`` from ``words``; dropout and initialisation
    draw from them.

    Not ``torch.manual_seed``: where CUDA is absent or asleep, that formats a stack trace for every call.
    """
    import torch

    seed = key(*words)
    _seed(torch.default_generator, seed)
    if device is not None and device.type == "cuda":
        torch.cuda.manual_seed(seed)


def order(seed: int, epoch: int, samples: int) -> torch.Tensor:
    """The order in which an epoch visits the samples: an int64 permutation ``(samples,)``."""
    import torch

    return torch.randperm(samples, generator=generator(seed, "order", epoch))


def sharded_order(seed: int, epoch: int, counts: Sequence[int], batch: int, lanes: int) -> torch.Tensor:
    """An epoch that goes through shards: an int64 permutation of all samples, whose numbers are in the shards' order.

    The shards come in an order of their own, the samples within each too. This sequence is cut into equal *lanes*, and
    a batch takes as many samples of each lane, so it mixes samples of as many shards. A worker's part of a batch is
    of lanes of its own, where their number is a multiple of the workers'. Every other lane is read backwards, so that
    a shard that two lanes share is read by both at the same time.

    Args:
        seed: ``seed.data`` of the spec.
        epoch: of the run, from 0.
        counts: samples of each shard.
        batch: samples of a global batch.
        lanes: the largest divisor of both this and ``batch`` is taken.
    """
    import torch

    source = generator(seed, "sharded order", epoch)
    begins = [0, *itertools.accumulate(counts)]
    shards = torch.randperm(len(counts), generator=source).tolist()
    sequence = torch.cat([torch.randperm(counts[shard], generator=source) + begins[shard] for shard in shards])
    lanes, steps = math.gcd(lanes, batch), len(sequence) // batch
    whole = sequence[: steps * batch].view(lanes, -1).clone()
    whole[1::2] = whole[1::2].flip(1)
    return torch.cat([whole.view(lanes, steps, -1).transpose(0, 1).reshape(-1), sequence[steps * batch :]])


def balanced_order(seed: int, epoch: int, labels: torch.Tensor) -> torch.Tensor:
    """An epoch in which every class comes equally often on average: as many int64 visits, with replacement, as samples.

    Visit ``v`` shows sample ``v % samples`` for the time ``v // samples``, from 0, so that each showing of a sample has
    augmentation draws of its own.

    Args:
        seed: ``seed.data`` of the spec.
        epoch: of the run, from 0.
        labels: int64 ``(samples,)`` on the CPU.
    """
    import torch

    source = generator(seed, "balanced order", epoch)
    _, inverse, counts = labels.unique(return_inverse=True, return_counts=True)
    by_class = inverse.argsort(stable=True)
    chosen = torch.randint(len(counts), (len(labels),), generator=source)
    within = torch.rand(len(labels), generator=source, dtype=torch.float64) * counts[chosen]
    visit: torch.Tensor = by_class[(counts.cumsum(0) - counts)[chosen] + within.to(torch.int64)]
    ordered, places = visit.sort(stable=True)
    first = torch.searchsorted(ordered, ordered)
    visit[places] += len(labels) * (torch.arange(len(labels)) - first)
    return visit


def repeated(once: torch.Tensor, repeats: int, batch: int) -> torch.Tensor:
    """An epoch in which every global batch shows each of its images ``repeats`` times: as many visits (as those of
    :func:`balanced_order`) as ``once``, an order of all images, has images, of the first of them.

    Repeated augmentation (Hoffer et al., arXiv 1901.09335; Berman et al., arXiv 1902.05509): the images of an epoch are
    those of timm's ``RepeatAugSampler``, the first ones of a permutation. Within a batch the copies of an image are far
    apart, so that with as many parts as repeats no part has two of them, and the order does not depend on the parts.
    """
    import torch

    samples = len(once)
    place = torch.arange(samples)
    visit = once[place // repeats] + samples * (place % repeats)
    return torch.cat([part[(part // samples).argsort(stable=True)] for part in visit.split(batch)])


class SampleDraws:
    """Uniform draws for the samples of a batch, each a function of (seed, epoch, sample index, trick) alone.

    A counter-based generator (the finaliser of SplitMix64, applied twice) runs on the CPU over the whole batch, so a
    sample's draws do not depend on its neighbours, its batch, its rank or the process that augments it.

    Args:
        seed: ``seed.data`` of the spec.
        epoch: epoch of the run, from 0.
        index: int64 ``(N,)`` indices of the samples in the training set, on the CPU.
        device: where the images are and the draws are wanted.
    """

    def __init__(self, seed: int, epoch: int, index: torch.Tensor, device: torch.device | None = None) -> None:
        self.seed, self.epoch, self.index, self.device = seed, epoch, index, device or index.device

    @property
    def host(self) -> SampleDraws:
        """The same draws on the CPU, for decisions that Python takes: it never waits for the device."""
        return SampleDraws(self.seed, self.epoch, self.index)

    def at(self, index: torch.Tensor) -> SampleDraws:
        """Such draws for other indices, int64 on whatever device, where they are made too."""
        return SampleDraws(self.seed, self.epoch, index)

    def put(self, numbers: torch.Tensor) -> torch.Tensor:
        """``numbers`` of the CPU on the device of the images; the CPU does not wait for the copy."""
        from jobs.transfer import put

        return put(numbers, self.device)

    def uniform(self, trick: str, count: int = 1) -> torch.Tensor:
        """Float64 ``(N, count)`` in [0, 1) for the trick of that name."""
        base = key(self.seed, "augment", self.epoch, trick)
        if self.index.device.type != "cpu":
            return _uniform(self.index, base, count)
        import numpy as np
        import torch

        # NumPy's operators cost a fraction of torch's on so few numbers, and it has unsigned ones
        index, lanes = self.index.numpy().view(np.uint64), np.arange(1, count + 1, dtype=np.uint64)
        state = _mix(index * np.uint64(_GOLDEN) + np.uint64(base), np.right_shift, np.uint64)
        bits = _mix(state[:, None] + lanes * np.uint64(_LANE), np.right_shift, np.uint64)
        return self.put(torch.from_numpy((bits >> np.uint64(11)).astype(np.float64) * _UNIT))

    def integers(self, trick: str, high: int, count: int = 1) -> torch.Tensor:
        """Int64 ``(N, count)`` in 0 .. ``high`` - 1."""
        import torch

        return (self.uniform(trick, count) * high).to(torch.int64)


def _uniform(index: torch.Tensor, base: int, count: int) -> torch.Tensor:
    """The same where the indices are: torch's integers are signed, but their products have the same bits."""
    import torch

    lanes = torch.arange(1, count + 1, dtype=torch.int64, device=index.device)
    state = _mix(index * _signed(_GOLDEN) + base, _shift, _signed)
    bits = _mix(state[:, None] + lanes * _signed(_LANE), _shift, _signed)
    return _shift(bits, 11).to(torch.float64) * _UNIT


def _signed(word: int) -> int:
    word &= 2**64 - 1
    return word - 2**64 if word >= 2**63 else word


def _shift(word: torch.Tensor, bits: int) -> torch.Tensor:
    """Logical right shift of int64, whose own shift drags the sign along."""
    shifted: torch.Tensor = (word >> bits) & (2 ** (64 - bits) - 1)
    return shifted


def _mix(word: Any, shift: Callable[[Any, Any], Any], number: Callable[[int], Any]) -> Any:
    word = (word ^ shift(word, number(30))) * number(0xBF58476D1CE4E5B9)
    word = (word ^ shift(word, number(27))) * number(0x94D049BB133111EB)
    return word ^ shift(word, number(31))
