"""cluster.yaml and deploy/: valid where they are read, and true to the lock file and to what the docs say of them."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import jsonschema
import pytest
import yaml

from engram.sweeps.commands import line, options
from engram.sweeps.study import loading as studies
from tests.cluster.heads import RAY
from tests.command_line import ROOT
from tests.installed import BUILT_FROM

UP = ["cluster.yaml", "deploy/local.yaml"]
KUBERAY = {"deploy/kuberay-job.yaml": "RayJob", "deploy/kuberay-nightly.yaml": "RayCronJob"}
LOCK = dict(
    line.split("==") for line in (ROOT / "requirements.lock").read_text().split() if "==" in line
)


def read(name: str) -> dict:
    return yaml.safe_load((ROOT / name).read_text())


def prepared(name: str) -> dict:
    """As `ray up` reads it: defaults filled in."""
    from ray.autoscaler._private.util import prepare_config

    return prepare_config(read(name))


@pytest.mark.parametrize("name", UP)
def test_ray_takes_the_file(name):
    from ray.autoscaler._private.util import validate_config

    validate_config(prepared(name))


def test_ray_refuses_a_file_with_a_typing_error(tmp_path):
    """The test sees what it should."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    with pytest.raises(Exception, match=r"[Aa]dditional|unexpected"):
        validate_config(prepare_config({**read("cluster.yaml"), "idle_timeout": 10}))


@pytest.mark.parametrize("name", UP)
def test_every_node_installs_from_the_lock_file_and_asks_for_a_token(name):
    config = read(name)
    assert any("--requirement ~/engram/requirements.lock" in c for c in config["setup_commands"])
    assert "~/.ray/auth_token" in config["file_mounts"]
    assert "chmod 600 ~/.ray/auth_token" in config["setup_commands"]
    starts = [
        c
        for part in ("head_start_ray_commands", "worker_start_ray_commands")
        for c in config[part]
        if "ray start" in c
    ]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token" in command for command in starts)
    assert "--dashboard-host=127.0.0.1" in starts[0]
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in starts[0]


@pytest.mark.parametrize("name", UP)
def test_ray_start_knows_every_option(name):
    """Words of `ray start` in the file are options that it has."""
    known = subprocess.run([*RAY, "start", "--help"], capture_output=True, text=True).stdout
    for part in ("head_start_ray_commands", "worker_start_ray_commands"):
        for command in read(name)[part]:
            for option in re.findall(r"(--[a-z-]+)", command.partition("ray start")[2]):
                assert option in known, option


@pytest.mark.parametrize("name", UP)
def test_files_that_are_sent_are_there(name):
    for source in read(name)["file_mounts"].values():
        assert source.startswith("~") or (ROOT / source).is_file(), source


@pytest.mark.parametrize("name", UP)
def test_set_up_commands_are_shell(name):
    config = read(name)
    for part in ("setup_commands", "head_setup_commands", "head_start_ray_commands"):
        for command in config.get(part, ()):
            done = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True)
            assert done.returncode == 0, (command, done.stderr)


def test_the_cloud_file_grows_and_gives_back():
    config = prepared("cluster.yaml")
    kinds = config["available_node_types"]
    assert config["idle_timeout_minutes"] <= 15
    assert kinds["head"]["resources"]["CPU"] == 0, "no trials on the head"
    assert kinds["gpu"]["min_workers"] == 0
    assert kinds["gpu"]["resources"]["GPU"] == 1
    assert kinds["gpu"]["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"


def test_every_line_of_the_cloud_file_is_explained():
    """A comment on the line, or just above it, for each setting that is not part of one explained above it."""
    text = (ROOT / "cluster.yaml").read_text()
    tops = [line for line in text.splitlines() if re.match(r"[a-z_]+:", line)]
    bare = [line for line in tops if "#" not in line]
    assert {line.split(":")[0] for line in bare} <= {
        "cluster_name",
        "provider",
        "auth",
        "available_node_types",
        "head_start_ray_commands",
        "worker_start_ray_commands",
    }


# -- Kubernetes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KUBERAY)
def test_kuberay_takes_the_file(name):
    """The shapes of KubeRay's own resource definitions, unknown keys refused."""
    schemas = json.loads((ROOT / "tests/cluster/kuberay_schemas.json").read_text())
    found = read(name)
    assert found["kind"] == KUBERAY[name]
    jsonschema.validate(found, schemas[found["kind"]])
    job = job_of(found)
    job["rayClusterSpec"]["headGroupSpec"]["rayStartParam"] = {}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(found, schemas[found["kind"]])


def job_of(found: dict) -> dict:
    spec = found["spec"]
    return spec["jobTemplate"] if found["kind"] == "RayCronJob" else spec


@pytest.mark.parametrize("name", KUBERAY)
def test_the_pods_fit_their_cluster(name):
    job = job_of(read(name))
    cluster = job["rayClusterSpec"]
    assert cluster["rayVersion"] == LOCK["ray"]
    assert cluster["authOptions"]["mode"] == "token"
    assert job["shutdownAfterJobFinishes"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    images = set()
    for group in groups:
        spec = group["template"]["spec"]
        volumes = {volume["name"] for volume in spec["volumes"]}
        for container in spec["containers"]:
            images.add(container["image"])
            assert container["resources"]["requests"] == container["resources"]["limits"]
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
    assert len(images) == 1, "one image: the driver and its workers are the same code"
    claim = read("deploy/kuberay-state.yaml")["metadata"]["name"]
    head = cluster["headGroupSpec"]["template"]["spec"]
    assert head["volumes"][0]["persistentVolumeClaim"]["claimName"] == claim
    state = next(v for v in head["containers"][0]["env"] if v["name"] == "ENGRAM_HOME")
    assert state["value"].startswith(head["containers"][0]["volumeMounts"][0]["mountPath"])


def test_both_kubernetes_files_describe_one_cluster():
    job, night = (job_of(read(name)) for name in KUBERAY)
    assert job["rayClusterSpec"] == night["rayClusterSpec"]


def test_the_job_is_a_command_that_parses():
    words = shlex.split(job_of(read("deploy/kuberay-job.yaml"))["entrypoint"])
    assert words[0] == "engram"
    arguments = line.parser().parse_args(words[1:])
    assert studies.load(options.request(arguments)).resources.gpu == 0.25


def test_the_image_has_what_the_command_needs():
    """What is copied for the wheel is what a wheel is built from (tests/test_packaging.py builds one)."""
    text = (ROOT / "deploy/Dockerfile").read_text()
    copied = [line.split()[1:-1] for line in re.findall(r"^COPY (?!--).*", text, re.MULTILINE)]
    assert {name for names in copied for name in names} == {*BUILT_FROM, "requirements.lock"}
    assert "--requirement /tmp/requirements.lock" in text
    commands = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert json.loads(text.rpartition("CMD ")[2])[0] in commands


# -- MLflow as a service ----------------------------------------------------------------------------


def test_systemd_takes_the_unit(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    text = (ROOT / "deploy/mlflow.service").read_text()
    # Its program is where the head has it: here, one that exists.
    unit = tmp_path / "mlflow.service"
    unit.write_text(
        re.sub(r"/home/ubuntu/engram/.venv/bin/mlflow", sys.executable, text).replace(
            "User=ubuntu", "User=root"
        )
    )
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True
    )
    about_ours = [line for line in done.stderr.splitlines() if "mlflow.service" in line]
    assert not about_ours, done.stderr


def test_mlflow_knows_every_option_of_the_unit():
    text = (ROOT / "deploy/mlflow.service").read_text()
    command = re.search(r"^ExecStart=\S+ (.*)$", text, re.MULTILINE)
    assert command
    known = subprocess.run(
        [sys.executable, "-m", "mlflow", "server", "--help"], capture_output=True, text=True
    ).stdout
    for option in re.findall(r"--[a-z-]+", command[1]):
        assert option in known, option
    assert "--host 127.0.0.1" in command[1]
    assert "postgresql" not in command[1], "an address may hold a password: not among the arguments"


def test_mlflow_reads_its_users_from_the_file(monkeypatch):
    pytest.importorskip("flask_wtf", reason="Flask-WTF is not installed: no basic authentication")
    monkeypatch.setenv("MLFLOW_AUTH_CONFIG_PATH", str(ROOT / "deploy/mlflow-auth.ini"))
    from mlflow.server.auth.config import read_auth_config

    found = read_auth_config()
    assert found.default_permission == "READ"
    assert found.database_uri == "postgresql+psycopg:///mlflow_auth"
    parser = configparser.ConfigParser()
    parser.read(Path(ROOT / "deploy/mlflow-auth.ini"))
    assert {key for key in parser["mlflow"] if not hasattr(found, key)} == set()
