"""The best model of a study in MLflow: saved with signature and example, logged, registered if asked.

Saved as an exported program (`pt2`), which holds no code and no pickle, so that
`mlflow.pytorch.load_model` needs neither Engram nor trust; a network that cannot be exported is
pickled together with Engram's `models`, and its tags say so, as is every network by MLflow 2.
"""

from __future__ import annotations

import inspect
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from engram.sweeps.tracking.refusals import hopeless

TAG = "engram.model"  # on the parent run: which trial and replica, and the model's id
ALIAS = "best"
log = logging.getLogger(__name__)


def load_what_saving_takes() -> None:
    """Import it now: most of the seconds that a first `save` takes."""
    import mlflow.pytorch  # noqa: F401
    import torch.export._trace  # noqa: F401


def save(folder: Path, module: Any, example: np.ndarray) -> str:
    """Write a torch module as an MLflow model; returns the serialization, "pt2" or "pickle".

    example: [B, ...] inputs, B at least 2, so that the exported program takes any batch.
    """
    import mlflow.pytorch
    import torch
    from mlflow.models import infer_signature

    inputs = example if example.dtype.kind in "iu" else example.astype(np.float32)
    with torch.no_grad():
        outputs = module.eval()(torch.from_numpy(inputs)).numpy()
    options = {
        "signature": infer_signature(inputs, outputs),
        "input_example": inputs,
        "pip_requirements": [
            f"torch=={torch.__version__.partition('+')[0]}",
            f"numpy=={np.__version__}",
        ],
    }
    pickled: dict[str, Any] = {"code_paths": [str(_models())]}
    ways: dict[str, dict[str, Any]] = {
        "pt2": {"serialization_format": "pt2"},
        "pickle": {"serialization_format": "pickle", **pickled},
    }
    if "serialization_format" not in inspect.signature(mlflow.pytorch.save_model).parameters:
        ways = {"pickle": pickled}  # MLflow 2 knows nothing else
    for serialization, extra in ways.items():
        shutil.rmtree(folder, ignore_errors=True)
        try:
            mlflow.pytorch.save_model(module, str(folder), **options, **extra)
            return serialization
        except Exception as error:
            log.warning(
                "the model cannot be saved as %s: %s", serialization, str(error).splitlines()[:1]
            )
    raise ValueError("the model can be neither exported nor pickled; details in the log")


def _models() -> Path:
    return Path(__file__).resolve().parent.parent.parent / "models"


def send(client: Any, experiment_id: str, run_id: str, message: dict[str, Any]) -> None:
    """Log a saved model under the parent run. Sent twice it is logged once: the run's tag remembers it."""
    run = client.get_run(run_id)
    known = run.data.tags.get(TAG, "")
    if known.startswith(f"{message['tag']}:"):
        return
    if not hasattr(client, "create_logged_model"):
        _send_as_files(client, run, message)
        return
    try:
        model = client.create_logged_model(
            experiment_id,
            name=message["name"],
            source_run_id=run_id,
            tags=message["tags"],
            params=message["params"],
            model_type="pytorch",
        )
    except Exception as error:
        if not hopeless(error):
            raise
        _send_as_files(client, run, message)
        return
    from mlflow.entities import LoggedModelOutput

    client.log_model_artifacts(model.model_id, message["path"])
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    if message.get("register"):
        about = {"run_id": run_id, "model_id": model.model_id}
        _register(client, model.artifact_location, message["register"], about)
    client.set_tag(run_id, TAG, f"{message['tag']}:{model.model_id}")


def _send_as_files(client: Any, run: Any, message: dict[str, Any]) -> None:
    """To MLflow older than 3 (this side or the server), which knows models only as files of a run."""
    run_id, name = run.info.run_id, message["name"]
    client.log_artifacts(run_id, message["path"], name)
    if message.get("register"):
        source = f"{run.info.artifact_uri}/{name}"
        _register(client, source, message["register"], {"run_id": run_id})
    tags = {f"{TAG}.{key.removeprefix('engram.')}": value for key, value in message["tags"].items()}
    for key, value in {**tags, TAG: f"{message['tag']}:"}.items():
        client.set_tag(run_id, key, value)


def reserve(client: Any, wanted: str) -> None:
    """Make the registered model NAME (of NAME or NAME@ALIAS) where it is not there yet: it may be refused."""
    from mlflow.exceptions import MlflowException

    name = wanted.partition("@")[0]
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _register(client: Any, source: str, wanted: str, about: dict[str, str]) -> None:
    """NAME or NAME@ALIAS: a new version of the registered model, under the alias."""
    name, _, alias = wanted.partition("@")
    reserve(client, wanted)
    version = client.create_model_version(name, source, **about)
    client.set_registered_model_alias(name, alias or ALIAS, version.version)
