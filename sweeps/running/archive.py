"""An execution as one file, to be kept, or taken to another machine and gone on with there.

Holds the execution's folder and, where it is recorded in the embedded store, a store of its own with its runs. What
is taken out of an archive is checked first: nothing in it is unpickled, run, or written outside of the state folder.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

from engram import files
from engram.problems import Place, Problem, StudyError
from engram.sweeps.running import housekeeping
from engram.sweeps.search import rewriting
from engram.sweeps.search.committed import read_records
from engram.sweeps.state import lock, names, owner, paths
from engram.sweeps.tracking import store, transfer

FORMAT = 1
MANIFEST, STATE, STORE = "engram-archive.json", "state", "store"
SUFFIX = ".engram.tar.gz"
LEFT_OUT = ("lock", "lock.held", "tune", "summary.json")
LARGEST_MANIFEST = 2**20


def pack(name: str, target: Path) -> int:
    """Write the archive of an execution; returns its bytes. lock.Busy while somebody works on it."""
    folder = housekeeping.known("archive", name)
    with lock.held(folder, f"archive {name}"), _beside() as beside:
        place = housekeeping.recorded(name)
        runs = {} if place.artifacts is None else _copy_of_store(name, beside / STORE, place)
        manifest = {
            "format": FORMAT,
            "name": name,
            "trials": len(read_records(folder / "search.journal", name)),
            "made": time.time(),
            "owner": owner.owner(),
            "host": owner.host(),
            "runs": runs,  # {run here: its copy in the archive's store}
            "experiment": place.experiment,
            "uri": None if place.artifacts else store.without_password(place.uri),
        }
        (beside / MANIFEST).write_text(json.dumps(manifest, indent=1))

        def write(out: IO[bytes]) -> None:
            # Without a time of its own: the same execution makes the same file.
            with (
                gzip.GzipFile(
                    filename="", mode="wb", fileobj=out, mtime=0, compresslevel=6
                ) as packed,
                tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as tar,
            ):
                tar.add(beside / MANIFEST, MANIFEST)
                tar.add(folder, STATE, filter=_wanted)
                if runs:
                    tar.add(beside / STORE, STORE)

        return files.write(target, write).stat().st_size


def manifest_of(path: Path) -> dict[str, Any]:
    """What an archive says of itself, without unpacking it; StudyError where it is none."""
    said: Any = None
    try:
        with tarfile.open(path, "r|gz") as tar:
            first = tar.next()
            if first is not None and first.name == MANIFEST and first.size < LARGEST_MANIFEST:
                file = tar.extractfile(first)
                said = json.loads(file.read()) if file else None
    except FileNotFoundError:
        raise _refused(path, "is not there", "give the file that `archive` wrote") from None
    except (OSError, EOFError, tarfile.TarError, ValueError):
        said = None
    if isinstance(said, dict) and said.get("format") == FORMAT:
        return said
    if isinstance(said, dict) and "format" in said:
        rule = f"has format {said['format']}, and this version reads {FORMAT}"
        raise _refused(path, rule, "use the version that wrote it")
    raise _refused(
        path, "is no archive of an execution", f"give a file that `archive` wrote, NAME{SUFFIX}"
    )


def restore(path: Path, name: str | None = None) -> str:
    """Put an archived execution into the state folder, under its own name or another; returns its name.

    Its runs go into the embedded store. StudyError where the file is damaged, or the name is taken.
    """
    manifest = manifest_of(path)
    old = str(manifest["name"])
    new = name or old
    for each in (old, new):
        if wrong := names.study_name(each):
            raise StudyError([Problem(Place("restore"), *wrong, "name", each)])
    target = housekeeping.free("restore", new)
    with _beside() as beside:
        _unpack(path, beside)
        state = beside / STATE
        if len(read_records(state / "search.journal", old)) != manifest.get("trials"):
            raise _refused(
                path, "is cut short or damaged: its ledger lacks trials", "copy it again"
            )
        copies = manifest.get("runs") or {}
        brought = _bring_store(beside / STORE, manifest, new) if copies else {}
        runs = {run: brought[copy] for run, copy in copies.items() if copy in brought}
        rewriting.rewrite(state / "search.journal", old, new, runs)
        for file in ("trials.json", "parent.json"):
            if (state / file).exists():
                text = (state / file).read_text()
                for before, now in runs.items():
                    text = text.replace(before, now)
                files.write(state / file, text)
        info = files.read_json(state / "execution.json")
        if isinstance(info, dict):
            files.write(state / "execution.json", json.dumps({**info, "name": new}))
        target.parent.mkdir(parents=True, exist_ok=True)
        os.rename(state, target)  # last: until then there is no such execution
    return new


def _copy_of_store(name: str, folder: Path, place: housekeeping.Recorded) -> dict[str, str]:
    """The execution's runs copied into a store of their own: {run: its copy}; {} where there are none."""
    found = store.find_study(place.uri, name)
    if found is None:
        return {}
    folder.mkdir()
    artifacts = (folder / "artifacts" / place.experiment).as_uri()
    runs = transfer.copy(*found, name, paths.sqlite_uri(folder / "mlflow.db"), artifacts)
    for rest in folder.glob("mlflow.db-*"):
        rest.unlink()
    (folder / "mlflow.lock").unlink(missing_ok=True)
    return runs


def _bring_store(folder: Path, manifest: dict[str, Any], name: str) -> dict[str, str]:
    """The archive's runs copied into the embedded store: {run there: run here}."""
    found = store.find_study(paths.sqlite_uri(folder / "mlflow.db"), str(manifest["name"]))
    if found is None:
        return {}
    client, parent = found
    if name != manifest["name"]:
        for run in [*transfer.children(client, parent), parent]:
            client.set_tag(run.info.run_id, "engram.name", name)
        client.update_run(parent.info.run_id, name=name)
        parent = client.get_run(parent.info.run_id)
    artifacts = (paths.artifacts_dir() / str(manifest["experiment"])).as_uri()
    try:
        return transfer.copy(client, parent, name, paths.mlflow_uri(), artifacts)
    except transfer.Taken as error:
        fix = "restore it under another name with --name"
        raise StudyError([Problem(Place("restore"), str(error), fix, "name", name)]) from None


def _unpack(path: Path, folder: Path) -> None:
    """The members of an archive below a folder; StudyError for anything but plain files and folders in it."""
    try:
        with tarfile.open(path, "r|gz") as tar:
            for member in tar:
                if not (member.isfile() or member.isdir()):
                    raise _refused(
                        path, f"holds {member.name!r}, which is no plain file", "do not use it"
                    )
                parts = PurePosixPath(member.name).parts
                if ".." in parts or parts[:1] not in ((MANIFEST,), (STATE,), (STORE,)):
                    raise _refused(
                        path, f"holds {member.name!r}, which leads elsewhere", "do not use it"
                    )
                tar.extract(member, folder, filter="data")
    except tarfile.FilterError as error:
        raise _refused(
            path, f"would write outside of its folder: {error}", "do not use it"
        ) from None
    except (OSError, EOFError, tarfile.TarError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of this machine's disk
        raise _refused(path, f"is cut short or damaged ({error})", "copy it again") from None


def _wanted(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    within = Path(member.name).parts[1:]
    if within and (within[0] in LEFT_OUT or within[-1].endswith(".new")):
        return None
    return member if member.isfile() or member.isdir() else None


@contextmanager
def _beside() -> Iterator[Path]:
    """A folder on the disk of the state folder, gone afterwards."""
    paths.home().mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".archive-", dir=paths.home()))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _refused(path: Path, rule: str, fix: str) -> StudyError:
    return StudyError([Problem(Place("restore"), rule, fix, "file", str(path))])
