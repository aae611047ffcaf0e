"""One search of ours in this process; ``python -m benchmarks.search_once SEARCH.yaml True|False``, the latter without
reuse of the trials' processes, which the orchestrator itself has no switch for.
"""

from __future__ import annotations

import sys


def main() -> None:
    from jobs import specfile
    from tuning.run import launch, tune
    from tuning.spec.search import SearchSpec

    if sys.argv[2] == "False":
        known = tune.tune.TuneConfig
        tune.tune.TuneConfig = lambda **words: known(**{**words, "reuse_actors": False})  # type: ignore[misc, assignment]
    outcome = launch.search(specfile.read(sys.argv[1], SearchSpec))
    assert {trial.status for trial in outcome.trials} == {"FINISHED"}
    print(f"epochs {sum(max(trial.results) for trial in outcome.trials)}")


if __name__ == "__main__":
    main()
