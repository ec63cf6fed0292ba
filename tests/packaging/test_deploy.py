"""The files of deploy/ name options, metrics and paths that exist, and are what their programs read."""

import json
import re
import shutil
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest

from verbatim.router import metrics as router_metrics
from verbatim.server.http import metrics
from verbatim.server.settings.options import Options

yaml = pytest.importorskip("yaml")
ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana" / "verbatim.json").read_text())
ALERTS = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())
DOCUMENTS = [*DEPLOY.glob("*.yaml"), *DEPLOY.glob("*/*.y*ml"), *DEPLOY.glob("grafana/provisioning/*/*.yaml")]
NAME = re.compile(r"verbatim_\w+")


def queries():
    """Every query of the dashboard and of the alerts."""
    rules = [rule["expr"] for group in ALERTS["groups"] for rule in group["rules"]]
    return rules + [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def test_every_metric_that_is_looked_at_exists():
    known = {name for module in (metrics, router_metrics) for name in NAME.findall(Path(module.__file__).read_text())}
    wanted = {re.sub(r"_(total|bucket)$", "", name) for query in queries() for name in NAME.findall(query)}
    assert len(wanted) > 12 and wanted <= known


def test_every_option_exists():
    own = {"--" + field.name.replace("_", "-") for field in fields(Options)} | {"--host", "--port", "--config"}
    router = {"--router-host", "--router-port", "--endpoint-urls"}
    for file in (DEPLOY / "verbatim.service", DEPLOY / "compose.yaml", *DEPLOY.glob("kubernetes/*.yaml")):
        lines = [line for line in file.read_text().splitlines() if "serve" in line or "- --" in line]
        assert {*re.findall(r"--[a-z][a-z-]+", "\n".join(lines))} <= own | router, file.name


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: file.name)
def test_documents_can_be_read(file):
    assert all(yaml.safe_load_all(file.read_text()))


def test_containers_have_no_rights_to_lose():
    for file in DEPLOY.glob("kubernetes/*.yaml"):
        for document in yaml.safe_load_all(file.read_text()):
            if "template" in document["spec"]:
                pod = document["spec"]["template"]["spec"]
                assert pod["securityContext"]["runAsNonRoot"]
                for container in pod["containers"]:
                    assert container["securityContext"]["readOnlyRootFilesystem"]
                    assert container["readinessProbe"]["httpGet"]["path"] == "/ready"
    assert re.search(r"^USER \d+$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)


CHECKS = {
    "promtool": ["check", "config", str(DEPLOY / "prometheus" / "prometheus.yml")],
    "caddy": ["adapt", "--validate", "--config", str(DEPLOY / "Caddyfile")],
    "hadolint": [str(DEPLOY / "Dockerfile")],
    "kubernetes-validate": ["--strict", *map(str, DEPLOY.glob("kubernetes/*.yaml"))],
}


@pytest.mark.parametrize("program", CHECKS)
def test_its_program_takes_it(program):
    if not shutil.which(program):
        pytest.skip(f"no {program} on this machine")
    done = subprocess.run([program, *CHECKS[program]], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
