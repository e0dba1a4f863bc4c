"""A study as a batch script for Slurm: starts Ray in the allocation, runs, and goes on after preemption and requeue.

The script is the whole of it: no daemon, no port that another job could be given, no file of others. Its lines may be
edited. Nothing here talks to Slurm.
"""

from __future__ import annotations

import math
import re
import shlex
import sys
from pathlib import Path

from engram import program
from engram.sweeps.study.configuration import Study

GRACE_S = 180  # before the end of the time limit: what runs is saved, and the job is put back into the queue
MOST_RESTARTS = 100  # a Ray that ends each time does not go round for ever

SCRIPT = """\
#!/bin/bash
# {name}: sbatch this file. What is finished is kept; a job that is preempted, requeued or out of time goes on where it was.
# Partition, account, time and nodes are yours to fill in.
#SBATCH --job-name=engram-{job}
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task={cpus}
{gpus}#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output={log}
# The script, not Ray, hears of the end: {grace} s before the time limit.
#SBATCH --signal=B:TERM@{grace}
set -u
cd {here} || exit
export ENGRAM_HOME={home}
ray={ray}
umask 077
mkdir -p "$ENGRAM_HOME"
study= stopped=
trap 'stopped=1; [ -z "$study" ] || kill -TERM "$study" 2> /dev/null' TERM INT

# Ray of this job alone: a port by the job's number, and a token that its nodes share by the file system.
nodes=($(scontrol show hostnames "$SLURM_JOB_NODELIST"))
head=$(getent ahostsv4 "${{nodes[0]}}" | awk 'NR == 1 {{print $1}}')
port=$((20000 + SLURM_JOB_ID % 20000))
files="$ENGRAM_HOME/.slurm-$SLURM_JOB_ID" temporary="/tmp/ray-$SLURM_JOB_ID"
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$files.token"
test -s "$files.token" || head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \\n' > "$files.token"
start() {{  # start NODE OPTIONS...: Ray on a node, with what Slurm gave this job there
  node=$1; shift
  srun --overlap --nodes=1 --ntasks=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" --nodelist="$node" \\
    "$ray" start --block --disable-usage-stats --temp-dir="$temporary" \\
    --num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus="${{SLURM_GPUS_ON_NODE:-0}}" "$@" >> "$files.ray" 2>&1 &
}}
end() {{ kill $(jobs -p) 2> /dev/null; wait; rm -rf "$files.token" "$files.ray" "$temporary"; }}
trap end EXIT
start "${{nodes[0]}}" --head --node-ip-address="$head" --port="$port" --include-dashboard=false
answers() {{ "$ray" health-check --address "$head:$port" > /dev/null 2>&1; }}
up=
for _ in $(seq 120); do [ -z "$stopped" ] || break; if answers; then up=1; break; fi; sleep 1; done
for node in "${{nodes[@]:1}}"; do start "$node" --address="$head:$port"; done

code={interrupted}
if [ -z "$stopped" ]; then
  {run} --address "$head:$port" &
  study=$!
  wait $study; code=$?
  # The first wait ends with the signal, before the study has saved what runs.
  while kill -0 $study 2> /dev/null; do wait $study; code=$?; done
fi
# A preemption may end Ray before the script hears of it.
[ $code -eq 0 ] || [ -z "$up" ] || answers || {{ stopped=1; code={interrupted}; }}
state=$(squeue --noheader --job="$SLURM_JOB_ID" --format=%T)  # one that was cancelled stays so
if [ -n "$stopped" ] && [ $code -eq {interrupted} ] && [ "$state" = RUNNING ] \\
  && [ "${{SLURM_RESTART_COUNT:-0}}" -lt {most} ]; then
  echo "out of time or preempted: back into the queue"
  scontrol requeue "$SLURM_JOB_ID"
fi
exit $code
"""


def script(study: Study, words: list[str], home: Path) -> str:
    """The batch script. words: of `run`, as they were typed; home: the state folder, on a file system of all nodes."""
    gpu = study.resources.gpu
    wanted = 1 if gpu == "auto" and study.resources.device == "cuda" else 0
    count = wanted if gpu == "auto" else math.ceil(gpu)
    ray = Path(sys.executable).parent / "ray"
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", study.name)
    return SCRIPT.format(
        name=study.name,
        job=name[:60],
        cpus=max(1, math.ceil(study.resources.cpu)) * _at_once(study),
        gpus=f"#SBATCH --gpus-per-node={count}\n" if count else "",
        log=str(home / f"slurm-{name[:60]}-%j.log").replace(" ", "\\ "),
        grace=GRACE_S,
        here=shlex.quote(str(Path.cwd())),
        home=shlex.quote(str(home)),
        ray=shlex.quote(str(ray)),
        run=shlex.join([*program.words(), "run", *words]),
        interrupted=program.INTERRUPTED,
        most=MOST_RESTARTS,
    )


def _at_once(study: Study) -> int:
    """Trials to ask room for: as many as the study says, or a few."""
    if study.resources.concurrent != "auto":
        return int(study.resources.concurrent)
    planned = study.planned_trials()
    return min(8, planned) if planned else 8
