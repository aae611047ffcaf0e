"""Are equal arms called different? Verdicts on made-up scores whose arms differ by nothing but chance.

    python -m benchmarks.verdicts            # 200 verdicts and, for a sharper figure, 20,000

A verdict is that of ``search confirm --top 3 --seeds 5``: three arms and the base, paired by seed; or of fifteen arms,
as ``ablate`` does for a whole stack of tricks. It is wrong if it calls any arm different. Scores are a seed's part,
which the arms of a seed share, and each run's own; or the share of a small test set that is classified rightly, which
takes few values; or have heavy tails.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuning.run.results import Trial
from tuning.spec.arms import Arms
from tuning.studies.verdict import METRIC, judge

ARMS, VERDICTS, MANY = (3, 15), 200, 20_000
Draw = Callable[[np.random.Generator, int, int], NDArray[np.float64]]


def _normal(rng: np.random.Generator, arms: int, seeds: int) -> NDArray[np.float64]:
    return 0.88 + rng.normal(0, 0.003, (1, seeds)) + rng.normal(0, 0.003, (arms, seeds))


def _heavy(rng: np.random.Generator, arms: int, seeds: int) -> NDArray[np.float64]:
    return 0.88 + 0.003 * rng.standard_t(3, (arms, seeds))


def _images(count: int, accuracy: float) -> Draw:
    return lambda rng, arms, seeds: rng.binomial(count, accuracy, (arms, seeds)) / count


SCORES: dict[str, Draw] = {
    "normal, paired": _normal,
    "heavy tails (Student's t, 3 degrees)": _heavy,
    "10,000 test images, 88 % right": _images(10_000, 0.88),
    "360 test images, 99 % right": _images(360, 0.99),
}


def wrong(draw: Draw, seeds: int, verdicts: int, start: int = 0, arms: int = ARMS[0]) -> int:
    """How many of so many verdicts call any of the equal arms different."""
    rng = np.random.default_rng(start)
    made = Arms(
        jobs={"base": {}} | {f"trial {k}": {"epochs": k} for k in range(1, arms + 1)}, seeds=tuple(range(seeds))
    )
    return sum(_differs(made, draw(rng, arms + 1, seeds)) for _ in range(verdicts))


def _differs(arms: Arms, scores: NDArray[np.float64]) -> bool:
    trials: list[Trial] = []
    for ordinal in range(arms.trials):
        seed, arm = divmod(ordinal, len(arms.jobs))
        trial: Any = Trial(ordinal, str(ordinal), {}, status="FINISHED", values={METRIC: float(scores[arm, seed])})
        trials.append(trial)
    return any(row.found is not None and row.found.different for row in judge(arms, trials).rows)


def main() -> None:
    """Count, then print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seeds", type=int, nargs="+", default=[5, 3], help="seeds of an arm")
    parser.add_argument("--arms", type=int, nargs="+", default=list(ARMS), help="arms that the base is compared to")
    parser.add_argument("--many", type=int, default=MANY, help="verdicts for the sharper figure")
    chosen = parser.parse_args()
    print(f"| scores | arms | seeds | wrong of {VERDICTS} | wrong of {chosen.many:,} | 95 % interval |")
    print("|---|---|---|---|---|---|")
    for arms, seeds in itertools.product(chosen.arms, chosen.seeds):
        for name, draw in SCORES.items():
            few, of = wrong(draw, seeds, VERDICTS, arms=arms), f"{name} | {arms} | {seeds}"
            many = wrong(draw, seeds, chosen.many, start=1, arms=arms)
            share = many / chosen.many
            half = 1.96 * math.sqrt(share * (1 - share) / chosen.many)
            interval = f"{100 * (share - half):.1f} .. {100 * (share + half):.1f} %"
            print(
                f"| {of} | {few} ({100 * few / VERDICTS:.1f} %) | {100 * share:.1f} % | {interval} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
