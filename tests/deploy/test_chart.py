"""The chart, rendered by Helm itself and held against the schemas of Kubernetes' API."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from relay.serving import SHUTDOWN_MARGIN_S
from relay.settings import load_settings

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "relay"
KUBERNETES = ("1.30", "1.37")
"""The oldest that it is for, and the newest whose schemas we have."""

TOML = '[[upstreams]]\nname = "a"\nbase_url = "https://a.example/v1"\n'
SECRET = {"RELAY_ADMIN_KEY": "x", "RELAY_REDIS_URL": "redis://r"}
VALUES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "all": {
        "secret": {"values": {"RELAY_METRICS_KEY": "y", **SECRET}},
        "relayToml": TOML,
        "settings": {"keys_refresh_s": 1, "watch_config": True, "log_level": "warning"},
        "image": {"tag": "1.2", "pullSecrets": [{"name": "pull"}]},
        "ingress": {"enabled": True, "tlsSecret": "tls"},
        "networkPolicy": {
            "from": [{"namespaceSelector": {"matchLabels": {"a": "b"}}}],
            "to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}],
        },
        "metrics": {
            "annotations": True,
            "serviceMonitor": {"enabled": True, "labels": {"release": "p"}},
            "from": [{"namespaceSelector": {"matchLabels": {"m": "n"}}}],
        },
        "service": {"annotations": {"a": "b"}},
        "serviceAccount": {"annotations": {"a": "b"}},
        "podAnnotations": {"a": "b"},
        "podLabels": {"c": "d"},
        "nodeSelector": {"e": "f"},
        "tolerations": [{"operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
    },
    "least": {
        "secret": {"existing": "mine"},
        "upgradeJob": {"enabled": True},
        "hpa": {"enabled": False},
        "pdb": {"enabled": False},
        "networkPolicy": {"enabled": False},
        "topologySpread": False,
        "replicas": 3,
        "image": {"pullSecrets": [{"name": "pull"}]},
    },
}


@pytest.fixture(scope="module")
def helm() -> Any:
    """Helm as a library. It has no build for every machine; CI's is one of those that it has."""
    return pytest.importorskip("helm_python")


def rendered(helm: Any, values: dict[str, Any], name: str = "relay") -> dict[str, dict[str, Any]]:
    """The objects that would be made, by kind."""
    with helm.Chart.load(CHART) as chart:
        files = chart.render(values, name=name, namespace="prod")
    texts = (text for path, text in files.items() if path.endswith(".yaml"))
    found = [one for text in texts for one in yaml.safe_load_all(text) if one]
    by_kind = {one["kind"]: one for one in found}
    assert len(by_kind) == len(found)
    return by_kind


@pytest.mark.parametrize("case", VALUES)
def test_its_linter_finds_nothing(helm: Any, case: str) -> None:
    report = helm.lint(CHART, VALUES[case], strict=True, kube_version="v1.30.0")
    assert report["errors"] == []
    assert [one for one in report["messages"] if one["severity"] > 1] == []


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("case", VALUES)
def test_the_api_would_take_every_object(helm: Any, case: str, version: str) -> None:
    kubernetes = pytest.importorskip("kubernetes_validate")
    for kind, one in rendered(helm, VALUES[case]).items():
        if kind != "ServiceMonitor":  # the operator's own, of which the API has no schema
            kubernetes.validate(one, version, strict=True)


def test_what_is_asked_for_is_there_and_nothing_else(helm: Any) -> None:
    usual = {"Deployment", "Service", "ServiceAccount"}
    guarded = {"HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy"}
    assert set(rendered(helm, {})) == usual | guarded | {"Secret"}
    assert set(rendered(helm, VALUES["all"])) == usual | guarded | {
        *("Secret", "ConfigMap", "Ingress", "ServiceMonitor")
    }
    assert set(rendered(helm, VALUES["least"])) == usual | {"Job"}


def test_a_roll_out_drops_no_call(helm: Any) -> None:
    deployment = rendered(helm, {})["Deployment"]["spec"]
    assert deployment["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    pod = deployment["template"]["spec"]
    (container,) = pod["containers"]
    told = {one["name"]: one["value"] for one in container["env"]}
    drain_s = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    grace_s = float(told["RELAY_SHUTDOWN_GRACE_S"])
    assert pod["terminationGracePeriodSeconds"] >= drain_s + grace_s + SHUTDOWN_MARGIN_S + 5
    # By the time it stops, those who ask for readiness have long been told where else to go.
    assert drain_s > container["readinessProbe"]["periodSeconds"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["startupProbe"]["httpGet"]["path"] == "/healthz"
    assert rendered(helm, {})["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1


@pytest.mark.parametrize("kind", ["Deployment", "Job"])
def test_pods_are_held_to_the_restricted_standard(helm: Any, kind: str) -> None:
    pod = rendered(helm, VALUES["least"])[kind]["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False, "a service named relay would set RELAY_PORT"
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"]["memory"]
    assert container["envFrom"] == [{"secretRef": {"name": "mine"}}]
    assert container["image"].startswith("relay:")


def test_the_job_may_be_another_user_of_the_database(helm: Any) -> None:
    values = {**VALUES["least"], "upgradeJob": {"enabled": True, "secret": "owner"}}
    found = rendered(helm, values)
    named = {
        kind: found[kind]["spec"]["template"]["spec"]["containers"][0]["envFrom"]
        for kind in ("Job", "Deployment")
    }
    assert named["Job"] == [{"secretRef": {"name": "owner"}}]
    assert named["Deployment"] == [{"secretRef": {"name": "mine"}}]


def test_what_it_configures_is_what_a_relay_reads(
    helm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = rendered(helm, VALUES["all"])
    (container,) = found["Deployment"]["spec"]["template"]["spec"]["containers"]
    monkeypatch.chdir(tmp_path)
    for name, value in found["Secret"]["stringData"].items():
        monkeypatch.setenv(name, value)
    for one in container["env"]:
        monkeypatch.setenv(one["name"], one["value"])
    (tmp_path / "relay.toml").write_text(found["ConfigMap"]["data"]["relay.toml"])
    monkeypatch.setenv("RELAY_CONFIG", str(tmp_path / "relay.toml"))
    settings = load_settings()
    assert [one.name for one in settings.all_upstreams()] == ["a"]
    assert (settings.host, settings.port, settings.shutdown_grace_s) == ("0.0.0.0", 8000, 120)
    assert (settings.keys_refresh_s, settings.watch_config) == (1, True)
    (mount,) = [one for one in container["volumeMounts"] if one["name"] == "config"]
    assert mount["mountPath"] == "/etc/relay"


def test_prometheus_finds_the_pods_has_their_key_and_is_let_in(helm: Any) -> None:
    found = rendered(helm, VALUES["all"], name="eu")
    monitor = found["ServiceMonitor"]
    (endpoint,) = monitor["spec"]["endpoints"]
    (port,) = found["Service"]["spec"]["ports"]
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    assert wanted <= found["Service"]["metadata"]["labels"].items()
    assert (endpoint["port"], endpoint["path"]) == (port["name"], "/metrics")
    assert monitor["metadata"]["labels"]["release"] == "p"
    key = endpoint["authorization"]["credentials"]
    assert key["name"] == found["Secret"]["metadata"]["name"]
    assert key["key"] in found["Secret"]["stringData"]
    (ingress,) = found["NetworkPolicy"]["spec"]["ingress"]
    assert [one["namespaceSelector"]["matchLabels"] for one in ingress["from"]] == [
        {"a": "b"},
        {"m": "n"},
    ]
    annotations = found["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/path"] == "/metrics"
    usual = rendered(helm, {})
    assert "from" not in usual["NetworkPolicy"]["spec"]["ingress"][0], "all of the cluster"
    annotations = usual["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    assert "prometheus.io/scrape" not in annotations


@pytest.mark.parametrize(
    ("url", "port"),
    [
        ("http://collector:4318", 4318),
        ("http://[fd00::1]:4318/v1/traces", 4318),
        ("http://10.0.0.5", 80),
        ("https://traces.example", 443),
    ],
)
def test_pods_reach_the_collector_of_their_traces(helm: Any, url: str, port: int) -> None:
    found = rendered(helm, {"settings": {"traces_url": url}})
    (_, out) = found["NetworkPolicy"]["spec"]["egress"]
    usual = [443, 5432, 6379]
    assert [one["port"] for one in out["ports"]] == [*usual, port]
    (container,) = found["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert {"name": "RELAY_TRACES_URL", "value": url} in container["env"]
    (_, out) = rendered(helm, {})["NetworkPolicy"]["spec"]["egress"]
    assert [one["port"] for one in out["ports"]] == usual


def test_what_changes_the_configuration_changes_the_pods(helm: Any) -> None:
    def mark(values: dict[str, Any]) -> str:
        template = rendered(helm, values)["Deployment"]["spec"]["template"]
        found: str = template["metadata"]["annotations"]["checksum/settings"]
        return found

    changes = [{}, {"relayToml": TOML}, {"secret": {"values": {"RELAY_ADMIN_KEY": "y"}}}]
    assert len({mark(one) for one in changes}) == 3


def test_the_service_finds_the_pods_and_not_the_job(helm: Any) -> None:
    found = rendered(helm, VALUES["least"], name="eu")
    wanted = found["Service"]["spec"]["selector"].items()
    assert wanted <= found["Deployment"]["spec"]["template"]["metadata"]["labels"].items()
    assert not wanted <= found["Job"]["spec"]["template"]["metadata"]["labels"].items()
    assert found["Service"]["metadata"]["name"] == "eu-relay"
    assert found["Job"]["spec"]["template"]["spec"]["containers"][0]["args"] == ["db", "upgrade"]


@pytest.mark.parametrize(
    "values",
    [
        {"upgradeJob": {"enabled": True}},
        {"secret": {"existing": "mine", "values": {"RELAY_ADMIN_KEY": "x"}}},
        {"replica": 2},
        {"hpa": {"cpuPercent": 200}},
        {"settings": {"RELAY_HOST": "x"}},
    ],
)
def test_values_that_cannot_be_right_are_refused(helm: Any, values: dict[str, Any]) -> None:
    with pytest.raises(helm.HelmError):
        rendered(helm, values)
