"""``python -m tuning``: the searches alone, as ``orchestrator search``."""

from tuning.cli import search

if __name__ == "__main__":
    search(prog_name="python -m tuning")
