"""Kubernetes' files fit its schemas and the Dask operator's; the image's lock fits pyproject.toml.

No pod is run, for there is no cluster here; the commands of pods are.
"""

from __future__ import annotations

import copy
import os
import re
import tomllib
from datetime import UTC, datetime, timedelta
from importlib.resources import files

import pytest
import yaml
from by_commands import reduce_with, succeed
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from processes import REPOSITORY
from small_night import bits

FOLDER = REPOSITORY / "deploy" / "kubernetes"
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
INSTALL = "pip install 'daskcal[deploy]'"
DOCUMENTS = [
    (path.name, document)
    for path in sorted(FOLDER.glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text())
]
DASK = "kubernetes.dask.org/v1"


def of_kind(kind):
    return [document for _, document in DOCUMENTS if document["kind"] == kind]


# --- schemas --------------------------------------------------------------------------------------


def closed(schema):
    """A schema as the API server takes it: no unknown field; number or text where either may be."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: closed(value) for key, value in schema.items()}
    if made.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    free = made.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in made
    if isinstance(made.get("properties"), dict) and not free:
        made["additionalProperties"] = False
    return made


@pytest.fixture(scope="module")
def operator():
    """Schemas of the operator's kinds."""
    pytest.importorskip("dask_kubernetes", reason=INSTALL)
    folder = files("dask_kubernetes") / "operator/deployment/helm/dask-kubernetes-operator/crds"
    found = {}
    for file in folder.iterdir():
        for crd in yaml.safe_load_all(file.read_text()):
            for version in crd["spec"]["versions"]:
                of = f"{crd['spec']['group']}/{version['name']}", crd["spec"]["names"]["kind"]
                found[of] = closed(version["schema"]["openAPIV3Schema"])
    return found


def check(document, operator):
    """Complaints of the operator's schemas, or of Kubernetes' own."""
    if document["apiVersion"] != DASK:
        validate = pytest.importorskip("kubernetes_validate", reason=INSTALL)
        try:
            validate.validate(document, validate.latest_version(), strict=True)
        except validate.ValidationError as error:
            return [error.message]
        return []
    jsonschema = pytest.importorskip("jsonschema", reason=INSTALL)
    schema = copy.deepcopy(operator[document["apiVersion"], document["kind"]])
    schema["properties"] |= {"apiVersion": {}, "kind": {}, "metadata": {}}
    return [
        error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(document)
    ]


@pytest.mark.parametrize(("file", "document"), DOCUMENTS)
def test_files_fit_the_schemas(file, document, operator):
    assert not check(document, operator)


@pytest.mark.parametrize(
    ("kind", "path", "wrong"),
    [
        ("DaskJob", ("spec", "job", "spec", "containers", 0), {"imagee": "x"}),
        ("DaskJob", ("spec", "cluster", "spec", "worker"), {"replicas": "four"}),
        ("DaskCluster", ("spec", "worker"), {"replcas": 3}),
        ("DaskCluster", ("spec", "scheduler", "service", "ports", 0), {"port": "comm"}),
        ("DaskAutoscaler", ("spec",), {"minimum": None}),
        ("CronJob", ("spec",), {"schedul": "0 9 * * *"}),
        ("CronJob", ("spec", "jobTemplate", "spec"), {"backoffLimit": "3"}),
        ("NetworkPolicy", ("spec",), {"podselector": {}}),
    ],
)
def test_a_slip_is_found(kind, path, wrong, operator):
    document = copy.deepcopy(of_kind(kind)[0])
    at = document
    for step in path:
        at = at[step]
    at |= wrong
    assert any(
        next(iter(wrong)) in found or "not of type" in found for found in check(document, operator)
    )


# --- what belongs together ------------------------------------------------------------------------


def found_under(key, node):
    """Values of a key, however deep."""
    if isinstance(node, list):
        return [value for one in node for value in found_under(key, one)]
    if not isinstance(node, dict):
        return []
    here = [node[key]] if key in node else []
    return here + [value for one in node.values() for value in found_under(key, one)]


def test_pods_are_nobody_and_run_one_image():
    pods = [spec for _, d in DOCUMENTS for spec in found_under("spec", d) if "containers" in spec]
    assert len(pods) == 6
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["automountServiceAccountToken"] is False
        mounted = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert container["image"].endswith(f"/daskcal:{PROJECT['version']}")
            assert container["securityContext"]["readOnlyRootFilesystem"]
            assert {mount["name"] for mount in container["volumeMounts"]} == mounted
    assert "USER 1000:1000" in (FOLDER / "Containerfile").read_text().splitlines()


def test_names_meet():
    (claim,) = of_kind("PersistentVolumeClaim")
    claims = [name for _, d in DOCUMENTS for name in found_under("claimName", d)]
    assert {*claims} == {claim["metadata"]["name"]}
    (cluster,), (scaler,), (job,) = map(of_kind, ("DaskCluster", "DaskAutoscaler", "DaskJob"))
    assert scaler["spec"]["cluster"] == cluster["metadata"]["name"]
    for document in (cluster, job):
        (service,) = found_under("service", document)
        assert service["selector"]["dask.org/cluster-name"] == document["metadata"]["name"]
    (cron,) = of_kind("CronJob")
    assert f"tcp://{cluster['metadata']['name']}-scheduler:8786" in str(cron)
    (policy,) = of_kind("NetworkPolicy")
    (labels,) = found_under("labels", cron)
    assert labels in found_under("matchLabels", policy)


def only(node, *path):
    """The one container of the pod at a path."""
    for step in path:
        node = node[step]
    (container,) = node["spec"]["containers"]
    return container


def test_a_jobs_commands_reduce_a_night(night):
    folder, raw, config = night
    out = folder / "kubernetes"
    (job,) = of_kind("DaskJob")
    runner = only(job, "spec", "job")
    worker, scheduler = (
        only(job, "spec", "cluster", "spec", name) for name in ("worker", "scheduler")
    )
    names = {
        "/data/raw/20261121": str(raw), "/data/reduced/20261121": str(out),
        "$(DASK_WORKER_NAME)": "one",
    }  # fmt: skip
    shown = ("--dashboard", "--dashboard-address", "8788")  # a port of this machine may be taken
    reduce_with(
        scheduler["args"], [word for word in worker["args"] if word not in shown],
        [*runner["args"], "-c", str(config)], "$(DASK_SCHEDULER_ADDRESS)", names,
        variable="DASK_SCHEDULER_ADDRESS",  # of the operator
    )  # fmt: skip
    assert bits(out) == bits(folder / "threads")


def test_the_nightly_reduces_last_night(tmp_path):
    """Its shell finds the night's folder; daskcal is a stand-in that says how it was called."""
    (cron,) = of_kind("CronJob")
    nightly = only(cron, "spec", "jobTemplate", "spec", "template")
    (tmp_path / "daskcal").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "daskcal").chmod(0o755)
    said = succeed([*nightly["command"], *nightly["args"]], PATH=f"{tmp_path}:{os.environ['PATH']}")
    command, raw, *rest = said.split()
    night = (datetime.now(UTC) - timedelta(days=1)).strftime("%Y%m%d")
    assert (command, raw) == ("reduce", f"/data/raw/{night}")
    assert rest == [
        "--output",
        f"/data/reduced/{night}",
        "--scheduler",
        "tcp://daskcal-scheduler:8786",
    ]


# --- the image ------------------------------------------------------------------------------------


def test_the_lock_has_all_that_pyproject_asks_for():
    asked = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["distributed"]]
    own = (FOLDER / "requirements.in").read_text().splitlines()
    asked += [line.split("#")[0] for line in own if not line.startswith("#")]
    locked = dict(re.findall(r"^([\w.-]+)(?:\[.+\])?==(\S+)", _lock(), flags=re.M))
    for requirement in map(Requirement, asked):
        version = locked[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement}: {version} is locked"


def test_the_lock_pins_and_hashes_everything():
    entries = re.split(r"^(?=\w)", _lock(), flags=re.M)[1:]
    assert all("==" in entry and "--hash=sha256:" in entry for entry in entries)


def _lock():
    return (FOLDER / "requirements.lock").read_text()


def test_the_image_copies_what_is_there():
    words = re.findall(r"^COPY (?!--from)(.+)$", (FOLDER / "Containerfile").read_text(), flags=re.M)
    sources = [source for line in words for source in line.split()[:-1]]
    assert {"daskcal", "pyproject.toml"} <= {*sources}
    assert all((REPOSITORY / source).exists() for source in sources)
