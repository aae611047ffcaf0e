"""A cluster over ssh, as ``deploy/local.yaml`` starts it: jobs over several hosts, and hosts that die under them."""

from __future__ import annotations

import re

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from tests.cluster.conftest import CLIENT, CONFIG, HOME, SHARED, Cluster
from tests.cluster.hosts import CHECKOUT, until

DIGITS = "jobs/recipes/digits.yaml -s epochs=25"

SEARCH = """
name: search
job: jobs/recipes/digits.yaml
set: {resources.workers: 1}
space: {batch.label_smoothing.epsilon: {kind: uniform, low: 0, high: 0.2}}
searcher: {kind: random}
budget: {trials: 6, epochs_per_trial: 60}
finish: false
max_concurrent: 3
"""


def client(cluster: Cluster) -> MlflowClient:
    """MLflow of the cluster, which is in the shared folder."""
    return MlflowClient(f"sqlite:///{cluster.shared / HOME.relative_to(SHARED)}/mlflow.db")


def runs(cluster: Cluster) -> list[Run]:
    """All runs of the cluster, the newest first."""
    mlflow = client(cluster)
    return list(mlflow.search_runs([one.experiment_id for one in mlflow.search_experiments()]))


def named(cluster: Cluster, name: str) -> Run:
    """The one run of this name."""
    (found,) = [run for run in runs(cluster) if run.info.run_name == name]
    return found


def trials(cluster: Cluster) -> list[Run]:
    """The trials of the search."""
    return [run for run in runs(cluster) if "mlflow.parentRunId" in run.data.tags]


def test_one_token_for_all_and_nobody_else_reads_it(up: Cluster) -> None:
    tokens = {up.ssh(host, "cat ~/.ray/auth_token").stdout.strip() for host in up.hosts}
    assert len(tokens) == 1 and len(tokens.pop()) >= 32
    for host in up.hosts:
        assert up.ssh(host, "stat -c %a ~/.ray/auth_token").stdout.strip() == "600"
    assert up.laptop("stat -c %a ~/.ray/cluster_token").stdout.strip() == "600"


def test_nothing_listens_beyond_loopback_but_sshd_and_the_ports_of_the_file(up: Cluster) -> None:
    meant = {22, *range(6379, 6389), *range(10002, 11000)}
    for host in up.hosts:
        listening = up.ssh(host, "ss --no-header --listening --numeric --tcp --udp").stdout
        places = [line.split()[4].rsplit(":", 1) for line in listening.splitlines()]
        open_ = {int(port) for address, port in places if not re.search(r"127\.0\.0\.1|\[::1\]", address)}
        assert open_ and open_ <= meant, listening
    told = up.ssh(up.hosts[0], "ss --no-header --listening --numeric --tcp src :8265").stdout
    assert [line.split()[3] for line in told.splitlines()] == ["127.0.0.1:8265"]


def test_nothing_answers_without_the_token(up: Cluster) -> None:
    ask = "curl -s -o /dev/null -w '%{http_code}' http://localhost:8265/api/jobs/"
    assert up.laptop(ask).stdout == "401"
    assert up.laptop(f'{ask} -H "Authorization: Bearer $(cat ~/.ray/cluster_token)"').stdout == "200"
    doctor = up.laptop(f"{CLIENT} orchestrator doctor --address http://localhost:8265")
    assert "wanted, and ours is taken" in doctor.stdout
    bare = f"{CLIENT} export RAY_AUTH_TOKEN_PATH=~/wrong; echo {'0' * 64} >~/wrong; "
    refused = up.laptop(f"{bare} ray status --address {up.hosts[0].address}:6379", check=False)
    assert refused.returncode and "uthenticat" in refused.stderr, refused.stdout + refused.stderr


def test_a_home_that_the_hosts_do_not_share_is_refused(up: Cluster) -> None:
    words = f". ~/.orchestrator.env; cd {CHECKOUT}; export RAY_ADDRESS=auto ORCHESTRATOR_HOME=~/own"
    refused = up.ssh(up.hosts[0], f"{words}; orchestrator plan jobs/recipes/digits.yaml", check=False)
    assert refused.returncode == 2, refused.stdout + refused.stderr
    assert all(f"{host.name}" in refused.stderr for host in up.hosts[1:]) and "cannot see" in refused.stderr


def test_a_job_on_two_hosts_goes_on_when_one_of_them_dies(up: Cluster) -> None:
    up.submit("calm", f"train {DIGITS} --run calm")
    up.wait("calm")
    up.laptop(f"{CLIENT} orchestrator submit {DIGITS} --id storm")
    journal = up.shared / "orchestrator" / "runs" / "storm" / "journal.jsonl"
    until(lambda: journal.exists() and journal.read_text().count('"val/top1"') >= 5, "five epochs were recorded", 240)
    victim = next(host for host in up.hosts[1:] if up.works(host))
    up.kill(victim)
    up.laptop(f"{CLIENT} orchestrator jobs logs storm --follow")  # exits as the job does

    calm, storm = named(up, "calm"), named(up, "storm")
    assert calm.info.status == storm.info.status == "FINISHED"
    assert "beginning again" in up.laptop(f"{CLIENT} orchestrator jobs logs storm").stdout
    assert storm.data.tags["weights.sha256"] == calm.data.tags["weights.sha256"]
    for metric in ("train/loss", "val/top1", "test/top1"):
        histories = [
            [(point.step, point.value) for point in client(up).get_metric_history(run.info.run_id, metric)]
            for run in (calm, storm)
        ]
        assert histories[0] == histories[1], metric
    up.revive(victim)
    until(lambda: up.nodes() == len(up.hosts), f"{victim.name} was a node again", 300)


def test_a_search_loses_a_host_and_no_trial(up: Cluster) -> None:
    until(lambda: up.nodes() == len(up.hosts), "all hosts were nodes", 300)
    (up.shared / "search.yaml").write_text(SEARCH)
    up.submit("search", f"search launch {SHARED}/search.yaml --name search")
    until(lambda: any("val/top1" in run.data.metrics for run in trials(up)), "a trial had a result", 300)
    victim = until(lambda: next(filter(up.works, up.hosts[1:]), None), "another host than the head worked", 120)
    up.kill(victim)
    up.wait("search", 600)
    assert [run.info.status for run in trials(up)] == ["FINISHED"] * 6
    assert named(up, "search").info.status == "FINISHED"
    up.revive(victim)


def test_ray_down_leaves_nothing(up: Cluster) -> None:
    up.laptop(f"ray down --yes {CONFIG}")
    for host in up.hosts[1:]:
        up.ssh(host, ". ~/.orchestrator.env; ray stop --force")
    for host in up.hosts:
        until(
            lambda host=host: not [line for line in up.processes(host) if re.search(r"ray(::|/|let)|gcs_server", line)],
            f"no Ray ran on {host.name}",
            60,
        )
