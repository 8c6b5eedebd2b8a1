"""The Helm chart, read strictly by what a cluster would read it with; no cluster is asked."""

import copy
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("helm_python", reason="no Helm here: make test-scale")

import helm_python
import kubernetes_validate
from cloudcoil.models.keda.v1alpha1 import ScaledObject

from tests.deploy.scale.balancer import ENVOY, chart_configuration, local_configuration
from tests.deploy.scale.rendering import CHART, MANIFESTS, render

VERSIONS = ("1.30", "1.37")
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
BUCKET = {"repository": {"kind": "objectStorage"}}
PLAIN = {
    "autoscaling": {"enabled": False},
    "networkPolicy": {"enabled": False},
    "envoy": {"serviceType": "LoadBalancer"},
}
FEW = {"servers": {"gpus": 0, "nodeSelector": None, "tolerations": None}}


def objects(values: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    return [part for text in render(values).values() for part in yaml.safe_load_all(text) if part]


def only(kind: str, values: dict[str, Any] | None = None, end: str = "") -> dict[str, Any]:
    (found,) = [
        o for o in objects(values) if o["kind"] == kind and o["metadata"]["name"].endswith(end)
    ]
    return found


def server(values: dict[str, Any] | None = None) -> dict[str, Any]:
    pod: dict[str, Any] = only("Deployment", values, "-servers")["spec"]["template"]["spec"]
    return pod


@pytest.mark.parametrize("values", [None, BUCKET, PLAIN, FEW])
def test_helm_finds_nothing_to_complain_about(values: dict[str, Any] | None) -> None:
    """An install would fail on the day of the upgrade."""
    report = helm_python.lint(CHART, values, strict=True)
    assert report["errors"] == []
    assert all(message["severity"] < 2 for message in report["messages"]), report


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("values", [None, BUCKET, PLAIN, FEW])
def test_every_object_fits_the_schemas_of_kubernetes(
    values: dict[str, Any] | None, version: str
) -> None:
    """A field with a wrong name is dropped in silence, or refused."""
    kinds = []
    for found in objects(values):
        kinds.append(found["kind"])
        if found["kind"] != "ScaledObject":
            kubernetes_validate.validate(found, version, strict=True)
    assert kinds.count("Deployment") == 2
    assert ("ScaledObject" in kinds) is (values != PLAIN)


def test_the_strict_schemas_find_a_mistake() -> None:
    """A check that never fails would be no check."""
    wrong = only("Deployment", end="-servers")
    wrong["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="readynessProbe"):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


def test_keda_takes_its_object_whole() -> None:
    """KEDA would ignore what it does not know, and scale on nothing."""
    given = only("ScaledObject")
    taken = ScaledObject.model_validate(given).model_dump(
        mode="json", by_alias=True, exclude_none=True, exclude_unset=True
    )
    assert taken["spec"] == given["spec"]
    (trigger,) = given["spec"]["triggers"]
    assert trigger["metadata"]["threshold"] == str(VALUES["servers"]["places"])
    assert f"+ {VALUES['autoscaling']['freePlaces']}" in trigger["metadata"]["query"]
    target = only("Deployment", end="-servers")
    assert given["spec"]["scaleTargetRef"]["name"] == target["metadata"]["name"]
    assert "replicas" not in target["spec"], "the chart and KEDA would fight about it"


def test_the_committed_manifests_are_the_rendering() -> None:
    """Who uses them without Helm would get yesterday's. Mend: make manifests"""
    assert {file.name: file.read_text() for file in MANIFESTS.glob("*.yaml")} == render()


def test_a_server_has_the_time_to_drain() -> None:
    """It would be killed while people talk, or while Triton unloads."""
    pod, values = server(), VALUES["servers"]
    wanted = values["drainLimitSeconds"] + values["exitTimeoutSeconds"]
    assert pod["terminationGracePeriodSeconds"] > wanted
    (container,) = pod["containers"]
    stopped = container["lifecycle"]["preStop"]["exec"]["command"]
    assert stopped[-2:] == ["drain", f"--limit-s={values['drainLimitSeconds']}"]
    folder = [word for word in container["args"] if word.startswith("--log-dir")]
    assert folder == [word for word in stopped if word.startswith("--log-dir")]


def test_probes_ask_the_supervisor_and_liveness_lets_it_heal() -> None:
    """Triton says ready when a model is dead; a server that loads one anew must not be killed."""
    (container,) = server()["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    asked = {
        name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")
    }
    assert {probe["port"] for probe in asked.values()} == {"ready"}
    assert ports["ready"] == 8003
    assert [probe["path"] for probe in asked.values()] == ["/ready", "/ready", "/alive"]
    startup = container["startupProbe"]
    assert startup["failureThreshold"] * startup["periodSeconds"] >= 600


@pytest.mark.parametrize("values", [None, BUCKET])
def test_no_container_is_root_or_writes_where_it_should_not(
    values: dict[str, Any] | None,
) -> None:
    """What is broken into could change the server."""
    for deployment in (o for o in objects(values) if o["kind"] == "Deployment"):
        pod = deployment["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}


def test_the_repository_is_read_only_and_shared_memory_is_memory() -> None:
    """A server could change another's models; 64 MB are too little for the Python backend."""
    pod = server()
    (container,) = pod["containers"]
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert mounts["models"]["readOnly"] is True
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert mounts["shared-memory"]["mountPath"] == "/dev/shm"
    assert volumes["shared-memory"]["emptyDir"]["medium"] == "Memory"
    assert container["resources"]["limits"]["nvidia.com/gpu"] == VALUES["servers"]["gpus"]


def test_clients_reach_envoy_and_only_envoy_reaches_the_servers() -> None:
    """Triton's own port unloads models for whoever asks."""
    policy = only("NetworkPolicy")["spec"]
    assert policy["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "server"
    first, second = policy["ingress"]
    (peer,) = first["from"]
    assert peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "envoy"
    assert [port["port"] for port in second["ports"]] == ["metrics", "ready"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("servers", "places"), 0),
        (("servers", "place"), 2),
        (("repository", "kind"), "disk"),
        (("envoy", "port"), 80),
        (("envoy", "clients"), {"callsPerSecond": 0}),
        (("autoscaling", "prometheus"), "prometheus:9090"),
    ],
)
def test_wrong_values_are_refused(path: tuple[str, str], value: Any) -> None:
    """A typing mistake would be found in production."""
    values = copy.deepcopy(VALUES)
    values[path[0]][path[1]] = value
    with pytest.raises(helm_python.HelmError, match=path[1]):
        helm_python.Chart.load(CHART).render(values, name="x", namespace="y")


def test_every_value_has_its_word() -> None:
    """A value that nobody explains is set by guessing, one without a schema by mistake."""
    lines = (CHART / "values.yaml").read_text().splitlines()
    assert sum(line.lstrip().startswith("#") for line in lines) > 20
    schema = yaml.safe_load((CHART / "values.schema.json").read_text())["properties"]
    for name, section in VALUES.items():
        assert set(section) <= set(schema[name]["properties"]), name


def test_a_client_keeps_its_address_on_the_way_to_the_proxy() -> None:
    """A node's address would stand for all clients, and they would share one limit."""
    service = only("Service", PLAIN, end="live-avatar")["spec"]
    assert (service["type"], service["externalTrafficPolicy"]) == ("LoadBalancer", "Local")
    assert "externalTrafficPolicy" not in only("Service", end="live-avatar")["spec"]


def test_envoy_takes_the_configuration(tmp_path: Path) -> None:
    """The proxy would not start, and with it nobody could connect."""
    for name, configuration in (
        ("chart", chart_configuration()),
        ("local", local_configuration(8001, [])),
    ):
        file = tmp_path / f"{name}.yaml"
        file.write_text(yaml.safe_dump(configuration))
        done = subprocess.run(
            [ENVOY, "--mode", "validate", "--config-path", file], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert "deprecated" not in done.stderr


def test_envoy_lets_a_session_last() -> None:
    """A limit of 15 seconds is the proxy's own choice where none is given."""
    (listener,) = chart_configuration()["static_resources"]["listeners"]
    manager = listener["filter_chains"][0]["filters"][-1]["typed_config"]
    assert (manager["stream_idle_timeout"], manager["request_timeout"]) == ("0s", "0s")
    routes = manager["route_config"]["virtual_hosts"][0]["routes"]
    calls = [route for route in routes if "route" in route]
    assert {route["route"]["timeout"] for route in calls} == {"0s"}
    allowed = {route["match"]["path"].rpartition("/")[2] for route in calls}
    assert "ModelStreamInfer" in allowed
    assert not allowed & {"RepositoryModelUnload", "RepositoryModelLoad", "ModelInfer"}
