"""The compose file: its syntax by Compose itself, and that what it names is there and fits the service."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from collector.settings import Settings
from tests.deploy.manifests import missing

FOLDER = Path(__file__).parents[2] / "deploy" / "compose"


def services() -> dict[str, dict[str, Any]]:
    composed: dict[str, dict[str, Any]] = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
    return composed


def scrape() -> dict[str, Any]:
    (job,) = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"]
    return dict(job)


def compose() -> list[str]:
    """Return the command of a Compose that works; it needs no engine to read a file."""
    commands = [["docker", "compose"], ["docker-compose"]]
    found = [command for command in commands if shutil.which(command[0]) and not run([*command, "version"]).returncode]
    if not found:
        missing("Docker Compose", "apt-get install docker-compose")
    return found[0]


def run(command: list[str], given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, input=given, capture_output=True, text=True, timeout=30, check=False)


def test_compose_reads_it() -> None:
    composed = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    del composed["name"]  # Debian 12's Compose does not know it yet
    command = [*compose(), "--file", "-", "--project-directory", str(FOLDER), "config", "--quiet"]
    read = run(command, yaml.safe_dump(composed))
    assert read.returncode == 0, read.stderr


def test_the_replicas_start_with_what_they_are_given() -> None:
    collector = services()["collector"]
    settings = Settings.read(collector["environment"])
    assert settings.nats.hosts == ("nats://nats:4222",)
    assert settings.database is not None
    assert settings.database.read().startswith("mongodb://mongodb:27017/")
    assert collector["deploy"]["replicas"] == 2
    assert collector["stop_grace_period"] == f"{settings.shutdown_timeout + 60:.0f}s"
    assert collector["depends_on"].keys() == {"nats", "mongodb"} <= services().keys()


def test_they_wait_until_both_servers_are_healthy_and_say_themselves_when_they_are_ready() -> None:
    collector = services()["collector"]
    assert {one["condition"] for one in collector["depends_on"].values()} == {"service_healthy"}
    assert "healthcheck" in services()["nats"]
    assert "replSet=rs0" in services()["mongodb"]["command"][0]
    assert 'rs.initiate({_id: "rs0"' in services()["mongodb"]["healthcheck"]["test"][-1]
    assert ":8080/readyz" in collector["healthcheck"]["test"][-1]


def test_prometheus_scrapes_every_replica_by_the_name_of_their_service() -> None:
    (found,) = scrape()["dns_sd_configs"]
    assert (found["names"], found["port"]) == (["collector"], 8080)
    assert "collector" in services()


def test_nothing_is_open_to_the_network() -> None:
    published = [port for service in services().values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_every_file_that_is_mounted_is_there() -> None:
    mounts = [volume.split(":") for service in services().values() for volume in service.get("volumes", [])]
    files = {source: target for source, target, *_ in mounts if source.startswith(".")}
    assert [source for source in files if not (FOLDER / source).exists()] == []
    rules = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["rule_files"]
    assert {f"/etc/prometheus/{rule}" for rule in rules} <= set(files.values())
    assert (FOLDER / services()["collector"]["build"] / "Dockerfile").exists()
