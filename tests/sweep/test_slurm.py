"""A SLURM of one node, started here: jobs that are warned, preempted, cancelled and out of time.

Needs root, and slurmctld and slurmd (Debian: slurm-wlm).
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from killer import same_end

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("slurmctld") is None or os.geteuid() != 0,
        reason="a SLURM of one node needs root, slurmctld and slurmd (Debian: slurm-wlm)",
    ),
]
BIN = Path(sys.executable).parent
CONFIG = """
ClusterName=toyfcn
SlurmctldHost={name}(127.0.0.1)
SlurmUser=root
AuthType=auth/none
CredType=cred/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={home}/state
SlurmdSpoolDir={home}/spool
SlurmctldPidFile={home}/slurmctld.pid
SlurmdPidFile={home}/slurmd.pid
SlurmctldLogFile={home}/slurmctld.log
SlurmdLogFile={home}/slurmd.log
ReturnToService=2
KillWait=30
OverTimeLimit=0
NodeName={name} NodeAddr=127.0.0.1 CPUs=2 RealMemory=3000
PartitionName=main Nodes={name} Default=YES MaxTime=INFINITE
"""
WORDS = """
    data.train_images=14 data.val_images=3 data.test_images=2 data.size=[48,48] data.batch_size=4
    model.width=0.3 trainer.val_every=100 trainer.threads=1 trainer.accelerator=cpu
    trainer.max_steps=600 logger.panels=0
    """
RUN = WORDS.split()
SUBMITIT = """
    launcher=submitit_slurm hydra.launcher.gpus_per_node=0 hydra.launcher.cpus_per_task=1
    hydra.launcher.mem_gb=1 hydra.sweep.dir=sweep
    """
SWEEP = ["-m", *RUN, *SUBMITIT.split()]


def free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return int(place.getsockname()[1])


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Starts the two daemons, and lets commands find them."""
    home = tmp_path_factory.mktemp("slurm")
    name = socket.gethostname().partition(".")[0]
    (home / "state").mkdir()
    (home / "spool").mkdir()
    ports = (free_port(), free_port())
    (home / "slurm.conf").write_text(CONFIG.format(name=name, home=home, ports=ports))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(home / "slurm.conf"))
        patch.setenv("OMP_NUM_THREADS", "1")
        words = (["slurmctld", "-D"], ["slurmd", "-D", "-N", name])
        daemons = [
            subprocess.Popen(w, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for w in words
        ]
        try:
            wait_until(lambda: "idle" in ask("sinfo", "-h", "-o", "%T"), 60)
            yield
        finally:
            ask("scancel", "--user=root")
            for daemon in reversed(daemons):
                daemon.terminate()
                daemon.wait(30)


def ask(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


def wait_until(condition: Callable[[], object], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, ask("squeue")
        time.sleep(0.2)


def start(home: Path, *words: str) -> "subprocess.Popen[str]":
    with (home / "log").open("a") as log:
        return subprocess.Popen(words, cwd=home, text=True, stdout=log, stderr=log)


def status(run: Path) -> str:
    try:
        return str(json.loads((run / "run.json").read_text())["status"])
    except (OSError, ValueError):
        return "none"


def begin_now() -> None:
    """SLURM lets a requeued job wait for two minutes."""
    for job in ask("squeue", "-h", "-t", "PENDING", "-o", "%i").splitlines():
        ask("scontrol", "update", f"jobid={job}", "starttime=now")


def undisturbed(home: Path, *words: str) -> Path:
    done = start(home, str(BIN / "toyfcn-train"), *RUN, *words, "hydra.run.dir=calm")
    assert done.wait(300) == 0, (home / "log").read_text()
    return home / "calm"


@pytest.mark.parametrize("how", ["warned", "preempted"])
def test_a_job_of_a_sweep_is_requeued_and_ends_alike(slurm: None, tmp_path: Path, how: str) -> None:
    """Warned: submitit's SIGUSR2. Preempted: SLURM's SIGTERM, as of an administrator's requeue."""
    sweep = start(tmp_path, str(BIN / "toyfcn-train"), *SWEEP, "recipe.lr=0.01,0.02")
    run = tmp_path / "sweep" / "0"
    last = run / "checkpoints" / "last.ckpt"
    wait_until(last.exists, 120)
    job = ask("squeue", "-h", "-t", "RUNNING", "-o", "%i").splitlines()[0]
    assert job.endswith("_0")
    ask(*(["scancel", "--signal=USR2", job] if how == "warned" else ["scontrol", "requeue", job]))
    wait_until(lambda: status(run) == "interrupted", 60)
    step = torch.load(last, weights_only=True)["global_step"]
    assert 100 <= step < 600
    wait_until(lambda: "PENDING" in ask("squeue", "-h", "-o", "%T"), 60)
    begin_now()
    assert sweep.wait(300) == 0, (tmp_path / "log").read_text()
    record = json.loads((run / "run.json").read_text())
    assert record["status"] == "finished" and len(record["resumed"]) == 1
    same_end(run, undisturbed(tmp_path, "recipe.lr=0.01"))


def test_a_job_out_of_time_goes_on_in_the_next(slurm: None, tmp_path: Path) -> None:
    longer = ["trainer.max_steps=9000", "trainer.val_every=3000", "hydra.launcher.timeout_min=1"]
    words = [*SWEEP, *longer, "recipe.lr=0.01", "hydra.launcher.signal_delay_s=45"]
    sweep, run = start(tmp_path, str(BIN / "toyfcn-train"), *words), tmp_path / "sweep" / "0"
    wait_until(lambda: status(run) == "interrupted", 180)
    step = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    assert 0 < step < 9000
    wait_until(lambda: "PENDING" in ask("squeue", "-h", "-o", "%T"), 60)
    begin_now()
    wait_until(lambda: f"resuming at step {step}" in (run / "train.log").read_text(), 120)
    time.sleep(3)  # for a step or more
    ask("scancel", "--user=root")
    sweep.kill()  # without an accounting of jobs it would wait for them on and on
    wait_until(lambda: status(run) == "interrupted", 60)
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] > step


def test_cancelled_it_has_saved(slurm: None, tmp_path: Path) -> None:
    words = [*RUN, "trainer.max_steps=9000", "hydra.run.dir=run"]
    command = f"exec srun {BIN}/toyfcn-train {' '.join(words)}"
    (tmp_path / "job.sh").write_text(f"#!/bin/sh\n{command}\n")
    job = subprocess.run(
        ["sbatch", "--parsable", "job.sh"], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout.strip()
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    wait_until(last.exists, 120)
    ask("scancel", job)
    wait_until(lambda: status(tmp_path / "run") == "interrupted", 60)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["error"] == f"stopped by {signal.SIGTERM.name}"
    assert torch.load(last, weights_only=True)["global_step"] % 100


def test_srun_starts_two_processes_that_train_together(slurm: None, tmp_path: Path) -> None:
    words = [
        *RUN,
        "trainer=ddp",
        "trainer.accelerator=cpu",
        "trainer.max_steps=20",
        "trainer.val_every=10",
    ]
    command = [str(BIN / "toyfcn-train"), *words, "model.norm=none"]
    refused = start(tmp_path, "srun", "--ntasks=2", *command, "hydra.run.dir=none")
    assert refused.wait(120) == 2
    assert "--ntasks-per-node=2 and --nodes=1, not --ntasks" in (tmp_path / "log").read_text()
    both = start(tmp_path, "srun", "--ntasks-per-node=2", *command, "hydra.run.dir=srun")
    assert both.wait(300) == 0, (tmp_path / "log").read_text()
    two = start(tmp_path, *command, "hydra.run.dir=two")
    assert two.wait(300) == 0, (tmp_path / "log").read_text()
    same_end(tmp_path / "srun", tmp_path / "two")
