"""The files that start clusters and servers: Ray's own validation, pins, and nothing secret in them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
LAUNCHED = [ROOT / "cluster.yaml", ROOT / "deploy" / "local.yaml"]
KUBERNETES = ROOT / "deploy" / "kubernetes"
ALL = [*LAUNCHED, *sorted((ROOT / "deploy").rglob("*.*"))]
PINS = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())


def load(path: Path) -> Any:
    """The one document of a YAML file."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", LAUNCHED, ids=lambda path: path.name)
def test_ray_s_own_validation_takes_it(path: Path) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(load(path))
    validate_config(config)
    assert config["max_workers"] > 0 and config["head_node_type"] in config["available_node_types"]


def test_ray_s_own_validation_does_look() -> None:
    from jsonschema import ValidationError
    from ray.autoscaler._private.util import prepare_config, validate_config

    with pytest.raises(ValidationError):
        validate_config(prepare_config(load(LAUNCHED[0]) | {"idle_timeout": 10}))


@pytest.mark.parametrize("path", LAUNCHED, ids=lambda path: path.name)
def test_nothing_secret_travels_and_the_environment_is_the_pinned_one(path: Path) -> None:
    config = load(path)
    for mounted in config["file_mounts"].values():
        assert mounted in {"pyproject.toml", "constraints.txt", "README.md", "LICENSE"}
        assert (ROOT / mounted).is_file()
    assert config["cluster_synced_files"] == ["~/.ray/auth_token"]  # from the head to its workers only
    install = [command for command in config["setup_commands"] if "pip install" in command]
    assert len(install) == 1 and "-c constraints.txt" in install[0]
    extras = re.search(r"'\.\[(.*)\]'", install[0])
    assert extras and set(extras.group(1).split(",")) <= set(_extras())
    assert "==" not in path.read_text(encoding="utf-8")  # one place has versions


def _extras() -> dict[str, Any]:
    import tomllib

    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]  # type: ignore[no-any-return]


@pytest.mark.parametrize("path", LAUNCHED, ids=lambda path: path.name)
def test_the_dashboard_stays_on_loopback_and_asks_for_the_token(path: Path) -> None:
    config = load(path)
    (head,) = [command for command in config["head_start_ray_commands"] if "ray start" in command]
    assert "--dashboard-host=127.0.0.1" in head and "--autoscaling-config=~/ray_bootstrap_config.yaml" in head
    environment = "\n".join(config["setup_commands"])
    assert "RAY_AUTH_MODE=token" in environment and "ORCHESTRATOR_HOME=" in environment
    make = config["head_setup_commands"][-1]
    assert "ray get-auth-token --generate" in make and "chmod 600" in make


def test_spot_machines_come_first_and_others_where_there_are_none() -> None:
    types = load(LAUNCHED[0])["available_node_types"]
    spot, on_demand = types["gpu_spot"], types["gpu_on_demand"]
    assert spot["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert "InstanceMarketOptions" not in on_demand["node_config"]
    assert spot["priority"] > on_demand["priority"]
    assert spot["node_config"]["InstanceType"] == on_demand["node_config"]["InstanceType"]
    assert types["head"]["resources"] == {"CPU": 0}


def test_python_and_ray_are_the_pinned_ones_wherever_an_image_is_named() -> None:
    for path in ALL:
        text = path.read_text(encoding="utf-8")
        for image in re.findall(r"rayproject/ray:(\S+)", text):
            assert re.fullmatch(rf"{re.escape(PINS['ray'])}-py311-[cg]pu", image), path
        for version in re.findall(r'rayVersion: "(.*)"', text):
            assert version == PINS["ray"], path


@pytest.mark.parametrize("path", [path for path in ALL if path.suffix != ".md"], ids=lambda path: path.name)
def test_no_secret_is_written_anywhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for name, value in re.findall(r"(?i)\b(\w*(?:password|secret|token)\w*)\s*[:=]\s*(\S+)", text):
        reference = re.match(r"\$|\.\.\.|\{|token\b", value)
        assert reference, f"{path.name}: {name} {value}"


@pytest.mark.parametrize("name", ["raycluster.yaml", "rayjob.yaml"])
def test_fields_are_those_that_kuberay_documents(name: str) -> None:
    document = load(KUBERNETES / name)
    assert document["apiVersion"] == "ray.io/v1"
    spec = document["spec"]
    if document["kind"] == "RayJob":
        assert set(spec) == {
            "entrypoint", "runtimeEnvYAML", "backoffLimit", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished",
            "rayClusterSpec",
        }  # fmt: skip
        assert set(yaml.safe_load(spec["runtimeEnvYAML"])) == {"working_dir"}
        spec = spec["rayClusterSpec"]
    else:
        assert document["kind"] == "RayCluster"
    assert set(spec) == {
        "rayVersion", "authOptions", "enableInTreeAutoscaling", "autoscalerOptions", "headGroupSpec",
        "workerGroupSpecs",
    }  # fmt: skip
    assert spec["authOptions"] == {"mode": "token"}
    assert set(spec["headGroupSpec"]) == {"rayStartParams", "template"}
    (group,) = spec["workerGroupSpecs"]
    assert set(group) == {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}
    assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    claim = load(KUBERNETES / "storage.yaml")
    assert claim["kind"] == "PersistentVolumeClaim" and claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for part in (spec["headGroupSpec"], group):
        assert all(isinstance(value, str) for value in part["rayStartParams"].values())
        pod = part["template"]["spec"]
        (container,) = pod["containers"]
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert volumes["shared"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
        for variable in container["env"]:
            secret = re.search("PASSWORD|TOKEN|SECRET", variable["name"])
            assert not secret or set(variable["valueFrom"]["secretKeyRef"]) == {"name", "key"}
        assert {"cpu", "memory"} <= set(container["resources"]["requests"])
    assert group["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_the_same_cluster_whether_it_stays_or_comes_with_a_job() -> None:
    cluster, job = load(KUBERNETES / "raycluster.yaml")["spec"], load(KUBERNETES / "rayjob.yaml")["spec"]
    assert cluster == job["rayClusterSpec"]


def test_mlflow_for_a_team_answers_here_only_and_asks_for_a_password() -> None:
    services = load(ROOT / "deploy" / "mlflow" / "compose.yaml")["services"]
    assert services["mlflow"]["ports"] == ["${ADDRESS:-127.0.0.1}:5000:5000"]
    assert "ports" not in services["database"]
    assert "--app-name basic-auth" in services["mlflow"]["command"]
    for value in re.findall(r"\$\{(\w+)", "\n".join(str(service) for service in services.values())):
        assert value in {"ADDRESS", "ALLOWED_HOSTS", "POSTGRES_PASSWORD", "ADMIN_PASSWORD", "MLFLOW_SECRET_KEY"}


def test_entrypoints_named_in_the_files_exist() -> None:
    entrypoint = load(KUBERNETES / "rayjob.yaml")["spec"]["entrypoint"].split()
    assert entrypoint[:3] == ["python", "-m", "orchestrator"] and (ROOT / entrypoint[4]).is_file()
