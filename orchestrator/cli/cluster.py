"""Clusters: up, down, submit, jobs list | status | logs | stop, doctor. Parse, call, print."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Never

import typer
from rich.table import Table
from rich.text import Text

from jobs.words import byte_size
from orchestrator.cli.console import FAILED, Overrides, commands, echo, fail, out, say
from orchestrator.cluster import client as clusters
from orchestrator.cluster.client import Cluster, Job
from orchestrator.cluster.preflight import Kind

if TYPE_CHECKING:
    from orchestrator.cluster.follow import Ended

Address = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Of the dashboard; else RAY_API_SERVER_ADDRESS, RAY_ADDRESS, this machine's."),
]
Insecure = Annotated[bool, typer.Option("--insecure", help="Use a cluster that has no token.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="Of the job; its newest attempt is meant.")]
_SHOWN, _MAX_MB, _STOP_WAIT_S = 20, 50.0, 60


def register(app: typer.Typer, kinds: Sequence[Kind]) -> None:
    """Add the commands to the application, for these kinds of spec."""
    jobs = commands("Jobs on a cluster: what runs, how far it is, and how to stop it.")
    app.add_typer(jobs, name="jobs")
    for name, command in (("list", jobs_list), ("status", jobs_status), ("logs", jobs_logs), ("stop", jobs_stop)):
        jobs.command(name)(command)
    for alone in (up, down, doctor):
        app.command()(alone)

    @app.command()
    def submit(
        spec: Annotated[Path, typer.Argument(help="YAML file of a job or a search, in the working directory.")],
        set_: Overrides = [],  # noqa: B006
        address: Address = None,
        id: Annotated[
            str | None,
            typer.Option(
                metavar="ID", help="Name of the run. The same name again resumes it, unless it is running or done."
            ),
        ] = None,
        follow: Annotated[bool, typer.Option("--follow", "-f", help="Show its lines until it ends.")] = False,
        working_dir: Annotated[
            Path, typer.Option(metavar="DIR", help="What is sent, but for what .gitignore and .rayignore name.")
        ] = Path("."),
        max_mb: Annotated[float, typer.Option(min=0, metavar="N", help="Megabytes to send at most.")] = _MAX_MB,
        env: Annotated[
            list[str],
            typer.Option(
                metavar="NAME[=VALUE]", help="Environment of the job. No secrets: everybody can read it there."
            ),
        ] = [],  # noqa: B006
        stop_wait: Annotated[
            int, typer.Option(min=1, metavar="S", help="Seconds for a last checkpoint when the job is stopped.")
        ] = _STOP_WAIT_S,
        insecure: Insecure = False,
    ) -> None:
        """Send a job or a search to a cluster, where it runs without this machine.

        The spec is checked first, and what the cluster can never hold is refused. The working directory goes with it;
        data does not, and secrets do not: put those into the environment in which the cluster is started. A cluster
        without a token is refused.
        """
        _submit(spec, set_, address, id, follow, working_dir, max_mb, env, stop_wait, insecure, kinds)


def _submit(
    spec: Path,
    overrides: list[str],
    address: str | None,
    id: str | None,
    following: bool,
    folder: Path,
    max_mb: float,
    env: list[str],
    stop_wait: int,
    insecure: bool,
    kinds: Sequence[Kind],
) -> None:
    from orchestrator.cluster import preflight, shipping, submit

    asked = preflight.read(spec, overrides, folder, kinds)
    variables = shipping.variables(env, stop_wait)
    shipment = shipping.pack(folder)
    shipment.check(max_mb)
    remarks = preflight.check_paths(asked, shipment)
    cluster = Cluster.reach(address, insecure)
    options = [word for each in env for word in ("--env", each)]
    options += ["--working-dir", str(folder)] if folder != Path(".") else []
    options += ["--max-mb", f"{max_mb:g}"] if max_mb != _MAX_MB else []
    options += ["--stop-wait", str(stop_wait)] if stop_wait != _STOP_WAIT_S else []
    sent = submit.submit(asked, cluster, shipment, id, variables, options)
    for remark in remarks + sent.remarks:
        say("note", remark)
    job = sent.job
    if not sent.new:
        say("job", f"{job.id} is {job.state} already" + (": nothing is left to do" if job.over else ""))
    else:
        again = f", after {sent.before.id}, which is {sent.before.state}" if sent.before else ""
        say("job", f"{job.id} submitted{again}; {asked.need}")
        say("run", f"{job.run}")
        say("sent", f"{byte_size(shipment.bytes)}, {len(shipment.files)} files of {shipment.folder}")
    say("cluster", f"{cluster.address} (the dashboard; it asks for the token: ray get-auth-token)")
    if job.over:
        return
    where = ("" if address is None else f" --address {cluster.address}") + " --insecure" * insecure
    for what in ("logs", "status", "stop"):
        say(what, f"orchestrator jobs {what} {job.run}{' -f' if what == 'logs' else ''}{where}")
    if following:
        _follow(cluster, job)


def _follow(cluster: Cluster, job: Job) -> Never:
    from orchestrator.cluster.follow import follow

    try:
        ended = follow(cluster, job.id, out)
    except clusters.ClusterError as error:
        fail(f"{error}\nThe job continues without this terminal", FAILED)
    _close(cluster, ended)


def _close(cluster: Cluster, ended: Ended) -> Never:
    from orchestrator.cluster.follow import summary

    for line in summary(cluster, ended.job, ended.job.about.get(clusters.AGAIN)):
        echo(line)
    raise typer.Exit(ended.code)


def up(
    idle: Annotated[
        float, typer.Option(min=0, metavar="MINUTES", help="It ends after so many minutes without a command.")
    ] = 60,
) -> None:
    """Keep a Ray cluster on this machine, which saves each command the seconds that Ray takes to start.

    Commands and notebooks with this ORCHESTRATOR_HOME join it, and their jobs share its CPUs: a job waits until there
    is room. It listens on loopback, and its token is in the home.
    """
    from orchestrator.execution import kept

    found, new = kept.up(idle * 60)
    say("cluster", f"{'is up' if new else 'was up'} at {found.address}, with {found.cpus} CPUs")
    say("end", f"orchestrator down, or {found.idle_s / 60:g} minutes without a command")


def down(
    force: Annotated[bool, typer.Option("--force", help="Also while it is used; the runs on it fail.")] = False,
) -> None:
    """End the cluster that up keeps."""
    from orchestrator.execution import kept

    found = kept.down(force)
    say("cluster", "none was up" if found is None else f"{found.address} has ended")


def jobs_list(
    address: Address = None,
    all_: Annotated[bool, typer.Option("--all", help=f"Not only the newest {_SHOWN}.")] = False,
    insecure: Insecure = False,
) -> None:
    """The jobs of a cluster, the newest first: how far each is and how well it does, by MLflow or by its log."""
    from orchestrator.cluster.jobs import rows

    cluster = Cluster.reach(address, insecure)
    jobs = cluster.jobs()
    found = rows(cluster, jobs if all_ else jobs[:_SHOWN])
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("job", "state", "run", "progress", "best", "time", "takes"):
        table.add_column(name, overflow="fold")
    for row in found:
        told = [row.job.state, row.status, row.progress, row.best, row.age, row.need or row.job.entrypoint[:40]]
        table.add_row(*map(Text, [row.job.id, *told]))
    out.print(table)
    if len(jobs) > len(found):
        out.print(f"{len(jobs) - len(found)} older ones: --all shows them")


def jobs_status(id: Id, address: Address = None, insecure: Insecure = False) -> None:
    """Status of a job; of one that failed, the cause and the cure."""
    from orchestrator.cluster.follow import summary
    from orchestrator.cluster.jobs import rows

    cluster, job = _find(id, address, insecure)
    row = rows(cluster, [job])[0]
    say("command", job.entrypoint)
    for name, value in (("takes", row.need), ("time", row.age), ("revision", _revision(job))):
        if value:
            say(name, value)
    if row.progress:
        best = f", the best {row.best}" if row.best else ""
        say("progress", f"{row.progress}{best} (by {row.told_by})")
    if row.status:
        say("run", f"{job.run} {row.status}")
    for line in summary(cluster, job, job.about.get(clusters.AGAIN)):
        echo(line)


def jobs_logs(
    id: Id,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Until it ends; exits as submit --follow does.")
    ] = False,
    address: Address = None,
    insecure: Insecure = False,
) -> None:
    """The log of a job, also after its end."""
    from orchestrator.cluster.follow import Printer

    cluster, job = _find(id, address, insecure)
    if follow:
        _follow(cluster, job)
    printer = Printer(out)
    printer(cluster.logs(job.id))
    printer.flush()


def jobs_stop(id: Id, address: Address = None, insecure: Insecure = False) -> None:
    """Stop a job once it has written a last checkpoint, and print how to resume it."""
    from orchestrator.cluster.follow import stop, summary

    cluster, job = _find(id, address, insecure)
    if job.over:
        say("job", f"{job.id} is {job.state} already")
        return
    say("job", f"stopping {job.id}: it writes a last checkpoint")
    job = stop(cluster, job)
    if not job.over:
        fail(f"{job.id} is still {job.state}; look at it with: orchestrator jobs logs {job.id}", FAILED)
    for line in summary(cluster, job, job.about.get(clusters.AGAIN)):
        echo(line)


def doctor(
    address: Annotated[
        str | None, typer.Option(metavar="URL", help="Of a cluster's dashboard, to look at it too.")
    ] = None,
) -> None:
    """What is missing, open, mismatched or too small, each with its cure; exits 1 if there is a problem."""
    from orchestrator.doctor import local

    findings = local.examine(address)
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("", "check", "found"):
        table.add_column(name, overflow="fold")
    styles = {"ok": "green", "warning": "yellow", "problem": "bold red"}
    for found in findings:
        cure = f"\n{found.cure}" if found.cure else ""
        table.add_row(Text(found.level, style=styles[found.level]), found.check, Text(f"{found.text}{cure}"))
    out.print(table)
    if any(found.level == "problem" for found in findings):
        raise typer.Exit(FAILED)


def _find(id: str, address: str | None, insecure: bool) -> tuple[Cluster, Job]:
    cluster = Cluster.reach(address, insecure)
    return cluster, cluster.find(id)


def _revision(job: Job) -> str:
    dirty = " with changes" if job.about.get("revision.dirty") == "True" else ""
    return f"{job.about['revision']}{dirty}" if "revision" in job.about else ""
