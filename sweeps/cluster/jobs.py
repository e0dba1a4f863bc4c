"""Ray's Jobs API: a head that is asked first whether it is there, and jobs that are started, followed and stopped.

ClusterError     one sentence about what is wrong with a cluster, and what to do
  UnknownJob     the cluster knows no job of this name

Knows nothing of studies.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ANSWER_S = 10.0  # for the first question to a head
AWAY_S = 180.0  # without an answer before a follower leaves
POLL_S = 1.0
SHOWN_OF_ANSWER = 200
OVERRIDES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
ENDED = ("SUCCEEDED", "FAILED", "STOPPED")


class ClusterError(RuntimeError):
    """One sentence about what is wrong with a cluster, and what to do."""


class UnknownJob(ClusterError):
    """The cluster knows no job of this name."""


class Cluster:
    """The jobs of a cluster, through its head's dashboard address. ClusterError where it cannot be used.

    address: as in http://127.0.0.1:8265. The token is the one that Ray itself would take
    (RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH, ~/.ray/auth_token), and is sent only where it is asked for.
    """

    def __init__(self, address: str):
        self.address = address.rstrip("/")
        mode = str(_asked(self.address, "/api/authentication_mode").get("authentication_mode"))
        self.headers = _authorization(self.address) if mode == "token" else {}
        version = _asked(self.address, "/api/version", self.headers)
        ours = _our_version()
        theirs = version.get("ray_version")
        if theirs is None:
            raise ClusterError(
                f"{self.address} answers, but not as the head of a Ray cluster: give the address of its dashboard"
            )
        if theirs != ours:
            raise ClusterError(
                f"{self.address} runs Ray {theirs}, and here is Ray {ours}: install the same lock file on both sides"
            )
        self._client = self._connected()

    def _connected(self) -> Any:
        from ray.job_submission import JobSubmissionClient

        for name in ("dashboard.modules.dashboard_sdk", "_private.runtime_env.packaging"):
            logging.getLogger(f"ray.{name}").setLevel(logging.ERROR)  # told by the caller
        # Ray prefers these to the address that it is given.
        hidden = {name: os.environ.pop(name) for name in OVERRIDES if name in os.environ}
        try:
            return JobSubmissionClient(self.address, headers=self.headers or None)
        except (RuntimeError, ConnectionError, ValueError) as error:
            raise ClusterError(_first_line(error, self.address)) from None
        finally:
            os.environ |= hidden

    def start(
        self,
        job: str,
        command: str,
        folder: Path,
        environment: dict[str, str],
        about: dict[str, str],
    ) -> None:
        """Start a command on the head, in a copy of a folder. ClusterError where a job of this name exists."""
        with self._plainly():
            if any(known.submission_id == job for known in self._client.list_jobs()):
                raise ClusterError(f"{job} is on the cluster already; choose another --job-id")
            self._client.submit_job(
                entrypoint=command,
                submission_id=job,
                runtime_env={"working_dir": str(folder), "env_vars": environment},
                metadata=about,
            )

    def running(self, key: str, value: str) -> str | None:
        """A job that has not ended and says this about itself; None where there is none."""
        with self._plainly():
            for job in self._client.list_jobs():
                if str(job.status) not in ENDED and (job.metadata or {}).get(key) == value:
                    return str(job.submission_id)
        return None

    def list(self) -> list[Any]:
        """What Ray knows of every job, the newest first; see `info`."""
        with self._plainly():
            return sorted(self._client.list_jobs(), key=lambda j: -(j.start_time or 0))

    def forget(self, job: str) -> None:
        """Take a job that has ended off the cluster's list."""
        with self._plainly(job):
            self._client.delete_job(job)

    def info(self, job: str) -> Any:
        """What Ray knows of a job: status, message, entrypoint, metadata, times in ms, driver_exit_code."""
        with self._plainly(job):
            return self._client.get_job_info(job)

    def logs(self, job: str) -> str:
        """All that a job has said so far."""
        with self._plainly(job):
            return str(self._client.get_job_logs(job))

    def stop(self, job: str) -> bool:
        """Ask a job to stop; False where it had ended."""
        with self._plainly(job):
            return bool(self._client.stop_job(job))

    def follow(self, job: str, write: Callable[[str], None]) -> Any:
        """Hand on what a job says until it ends; returns its info. ClusterError where the head stays away."""
        shown, heard = 0, time.monotonic()
        while True:
            asked = time.monotonic()
            try:
                info = self.info(job)  # before the logs: what is said last is still read
                text = self.logs(job)
                heard = time.monotonic()
            except UnknownJob:
                raise
            except ClusterError as error:
                if time.monotonic() - heard > AWAY_S:
                    raise ClusterError(f"{error}; {job} may go on") from None
                time.sleep(POLL_S)
                continue
            if len(text) > shown:
                write(text[shown:])
                shown = len(text)
            if str(info.status) in ENDED:
                return info
            # A long log is asked for less often: it comes whole each time.
            time.sleep(POLL_S + 5 * (heard - asked))

    @contextlib.contextmanager
    def _plainly(self, job: str | None = None) -> Iterator[None]:
        """Errors of the network and of Ray as one sentence."""
        try:
            yield
        except ClusterError:
            raise
        except (OSError, RuntimeError, ValueError) as error:  # requests' own are OSErrors
            text = str(error)
            if job is not None and ("status code 404" in text or "does not exist" in text):
                raise UnknownJob(f"{self.address} knows no job {job}") from None
            raise ClusterError(_first_line(error, self.address)) from None


def _asked(address: str, path: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
    """What a head answers to a plain question. ClusterError where it does not, or refuses."""
    import http.client  # half of what --help would cost
    import urllib.error
    import urllib.request

    request = urllib.request.Request(address + path, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:
            said = json.loads(answer.read())
            return said if isinstance(said, dict) else {}
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            what = "takes another token" if headers else "asks for a token"
            raise ClusterError(
                f"{address} {what}: put the cluster's token into ~/.ray/auth_token, RAY_AUTH_TOKEN_PATH or RAY_AUTH_TOKEN"
            ) from None
        if error.code == 404:  # an older head has no such question
            return {}
        raise ClusterError(f"{address} answers {error.code} {error.reason}") from None
    except (TimeoutError, socket.gaierror, OSError) as error:
        reason = getattr(error, "reason", None) or error
        raise ClusterError(
            f"nothing answers at {address} ({_words(reason)}): check the address, the tunnel to it, and "
            "`ray status` on the head"
        ) from None
    except (ValueError, http.client.HTTPException):
        raise ClusterError(
            f"{address} answers, but not as the head of a Ray cluster: give the address of its dashboard"
        ) from None


def token_file() -> Path:
    """Where Ray looks for the cluster's token."""
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token").expanduser()


def read_by_others(path: Path) -> str | None:
    """What is wrong with a token's file that others of this machine may read, as Ray leaves it; None where nothing is."""
    with contextlib.suppress(OSError):
        mode = path.stat().st_mode & 0o777
        if mode & 0o077:
            return f"{path} is open to others (mode {mode:04o}), and its token runs code on the cluster"
    return None


def _authorization(address: str) -> dict[str, str]:
    path = token_file()
    token = os.environ.get("RAY_AUTH_TOKEN", "").strip()
    if not token:
        if wrong := read_by_others(path):
            raise ClusterError(f"{wrong}: chmod 600 {path}")
        with contextlib.suppress(OSError):
            token = path.read_text().strip()
    if not token:
        raise ClusterError(
            f"{address} asks for a token, and there is none here: copy the cluster's to {path}, or set RAY_AUTH_TOKEN"
        )
    return {"Authorization": f"Bearer {token}"}


def _our_version() -> str:
    from importlib import metadata

    return metadata.version("ray")


def _words(reason: object) -> str:
    if isinstance(reason, TimeoutError):
        return f"no answer within {ANSWER_S:.0f} s"
    return getattr(reason, "strerror", None) or str(reason)


def _first_line(error: BaseException, address: str) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    if isinstance(error, OSError):
        return f"{address} does not answer any more ({type(error).__name__})"
    return f"{address}: {lines[0][:SHOWN_OF_ANSWER]}"


def problem_with(address: str) -> tuple[str, str] | None:
    """(rule, fix) where an address is not one of a head's dashboard."""
    fix = "give the head's dashboard, as in http://127.0.0.1:8265"
    try:
        parsed = urlsplit(address)
        port = parsed.port
    except ValueError:
        return "is no address", fix
    if parsed.scheme == "ray":
        return "is the address of a Ray client; jobs go to the dashboard", fix
    if parsed.scheme not in ("http", "https") or not parsed.hostname:
        return "is no address of the form http://HOST:PORT", fix
    if port is None and parsed.scheme == "http":
        return "has no port", fix
    return None
