"""``orchestrator shards``: parse, call, print."""

from pathlib import Path
from typing import Annotated

import typer

from jobs.data.source import Source
from jobs.words import byte_size
from orchestrator.cli.console import Overrides, echo, say


def shards(
    data: Annotated[
        str, typer.Argument(help="YAML file of a job, whose data are meant; or a folder or table, as init takes.")
    ],
    out: Annotated[str, typer.Argument(help="Folder or URL that the shards are written to.")],
    megabytes: Annotated[int, typer.Option(min=1, max=65536, help="Size of a shard, about.")] = 256,
    set_: Overrides = [],  # noqa: B006
) -> None:
    """Write images into shards, for data that no disk holds; interrupted, the same command continues."""
    from jobs.data.shards.write import write
    from jobs.paths import absolute

    source, notes = _source(data, set_)
    written = write(absolute(source, "data"), out, megabytes * 2**20)
    for note in [*notes, *written.notes]:
        say("note", note)
    for split in ("train", "val", "test"):
        own = [each for each in written.shards if each.split == split]
        images, size = sum(each.images for each in own), byte_size(sum(each.bytes for each in own))
        say(split, f"{images:,} images in {len(own):,} shard{'s' * (len(own) != 1)}, {size}")
    echo(f"\nIn a job:\n\ndata:\n  kind: shards\n  root: {out}")


def _source(data: str, changes: list[str]) -> tuple[Source, list[str]]:
    from jobs import specfile
    from jobs.spec import JobSpec
    from orchestrator.init.source import recognise

    if data.lower().endswith((".yaml", ".yml")):
        return specfile.read(Path(data), JobSpec, changes).data, []
    if changes:
        raise ValueError("--set changes the data of a job; give its file")
    return recognise(Path(data))
