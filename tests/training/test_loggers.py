"""Where runs are logged, read back with wandb's and MLflow's own readers."""

import csv
import importlib.util
import json
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Command
from killer import curves, equal, weights

from toyfcn.config.trainer import LoggerConfig
from toyfcn.training import loggers
from toyfcn.training.loggers import Csv

WORDS = """
    data.train_images=6 data.val_images=2 data.test_images=2 data.size=[48,48] data.batch_size=2
    model.width=0.25 trainer.max_steps=4 trainer.val_every=2 trainer.threads=1 logger.every=1
    trainer.accelerator=cpu logger.panels=1
    """
ALL = "logger.to=[tensorboard,csv,wandb,mlflow]"
RUN = [*WORDS.split(), "hydra.run.dir=run"]
STEPS = [1, 2, 3, 4]
installed = {name: importlib.util.find_spec(name) is not None for name in ("wandb", "mlflow")}
with_mlflow = pytest.mark.skipif(not installed["mlflow"], reason="needs toyfcn[mlflow]")
with_wandb = pytest.mark.skipif(not installed["wandb"], reason="needs toyfcn[wandb]")


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No account, no settings of this machine, and an environment that is left as it was."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "settings"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def of_csv(folder: Path) -> list[dict[str, str]]:
    """All lines of metrics.csv, without empty cells."""
    with (folder / "csv" / "metrics.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if v} for row in csv.DictReader(file)]


def records(path: Path) -> Iterator[bytes]:
    """The records of a .wandb file: LevelDB's log format, of which wandb has no reader in Python.

    Blocks of 32 KB (the file's first 7 bytes are wandb's own) hold pieces with a checksum of 4
    bytes, their length in 2 and their kind in 1: whole, first, middle, last.
    """
    data, at, record = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        piece = data[at + 7 : at + 7 + length]
        at += 7 + length
        record = record + piece if kind in (3, 4) else piece
        if kind in (1, 4):
            yield record


def of_wandb(folder: Path) -> tuple[list[str], list[dict[str, Any]], dict[str, Any]]:
    """The id of each session, the history and the config that wandb has on disk."""
    from wandb.proto.wandb_internal_pb2 import Record

    def plain(items: Any) -> dict[str, Any]:
        return {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items}

    ids, history, config = [], [], {}
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        session = ""
        for data in records(path):
            record = Record.FromString(data)
            session = record.run.run_id or session
            config |= plain(record.run.config.update) | plain(record.config.update)
            if record.history.item:
                history.append(plain(record.history.item))
        ids.append(session)
    return ids, history, config


def of_mlflow(folder: Path) -> tuple[Any, dict[str, list[tuple[int, float]]], list[str]]:
    """The one run, its curves, and the names of its files."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient((folder / "mlflow").as_uri())
    experiment = client.get_experiment_by_name("toyfcn")
    (run,) = client.search_runs([experiment.experiment_id])
    keys = run.data.metrics
    points = {
        key: sorted((p.step, p.value) for p in client.get_metric_history(run.info.run_id, key))
        for key in keys
    }
    root = Path(client.download_artifacts(run.info.run_id, ""))
    files = [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()]
    return run, points, files


@pytest.mark.slow
def test_every_logger_has_it_all_and_changes_nothing(
    train: Command, tmp_path: Path, stop_at: Callable[[int], None]
) -> None:
    """Stopped in its third step and continued; beside a run without loggers."""
    assert train(*WORDS.split(), "logger=none", "hydra.run.dir=calm").code == 0
    calm, run = tmp_path / "calm", tmp_path / "run"
    assert not (calm / "tensorboard").exists()
    kinds = [name for name, there in installed.items() if there]
    to = f"logger.to=[{','.join(['tensorboard', 'csv', *kinds])}]"
    stop_at(2)
    assert train(*RUN, to, "logger.offline=true").code == 143
    answer = train("resume=run")
    assert answer.code == 0 and answer.out.count("curves:  ") == 2 + len(kinds), answer.err
    assert equal(weights(run), weights(calm))
    metrics = json.loads((run / "metrics.json").read_text())
    assert (calm / "metrics.json").read_text() == (run / "metrics.json").read_text()
    best = metrics["test"]["miou"]

    wanted = {tag: [v for _, v in points] for tag, points in curves(run).items()}
    losses = wanted["train/loss"]
    rows = of_csv(run)
    assert [int(row["step"]) for row in rows if "train/loss" in row] == STEPS
    seen = [float(row["train/loss"]) for row in rows if "train/loss" in row]
    assert seen == pytest.approx(losses)
    assert [float(row["with_best/test_miou"]) for row in rows if "with_best/test_miou" in row] == [
        pytest.approx(best)
    ]
    assert "batch_size: 2" in (run / "csv" / "hparams.yaml").read_text()
    if installed["mlflow"]:
        check_mlflow(run, losses, best)
    if installed["wandb"]:
        check_wandb(run, losses, best)


def check_mlflow(run: Path, losses: list[float], best: float) -> None:
    found, points, files = of_mlflow(run)
    assert found.info.status == "FINISHED"
    assert [step for step, _ in points["train/loss"]] == STEPS
    assert [value for _, value in points["train/loss"]] == pytest.approx(losses)
    assert [step for step, _ in points["val_iou/background"]] == [2, 4]
    assert points["with_best/test_miou"] == [(4, pytest.approx(best))]
    assert found.data.params["data/batch_size"] == "2"
    assert {"config.yaml", "iou/val.json", "iou/test.json"} <= {*files}
    kinds = ("panels", "worst", "with_best")
    assert all(any(f.startswith(f"images/{kind}~") for f in files) for kind in kinds)


def check_wandb(run: Path, losses: list[float], best: float) -> None:
    ids, history, config = of_wandb(run)
    assert ids == [json.loads((run / "loggers.json").read_text())["wandb"]] * 2
    trained = [row for row in history if "train/loss" in row]
    assert [row["trainer/global_step"] for row in trained] == STEPS
    assert [row["train/loss"] for row in trained] == pytest.approx(losses)
    assert [r["with_best/test_miou"] for r in history if "with_best/test_miou" in r] == [best]
    (path,) = [row["iou/test/path"] for row in history if "iou/test/path" in row]
    (table,) = run.glob(f"wandb/offline-run-*/files/{path}")
    classes = [name for name, _ in json.loads(table.read_text())["data"]]
    assert classes[0] == "background" and len(classes) == 7
    pictures = [tag for row in history for tag in row if tag.endswith("/filenames")]
    for kind in ("panels/", "worst/", "with_best/confusion"):
        assert any(tag.startswith(kind) for tag in pictures)
    assert config["data"]["batch_size"] == 2


@with_mlflow
def test_a_failing_logger_ends_no_run(train: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.tracking import MlflowClient

    calls = []

    def gone(*given: Any, **named: Any) -> None:
        calls.append(given)
        raise ConnectionError("the server is gone")

    monkeypatch.setattr(MlflowClient, "log_batch", gone)
    answer = train(*RUN, "logger=mlflow")
    assert answer.code == 0 and len(calls) == 1
    assert answer.out.count("MLflow: points of the curves are lost: the server is gone") == 1


@with_mlflow
def test_a_server_that_is_not_there_is_warned_of(
    train: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    answer = train(*RUN, "logger=mlflow", "logger.uri=http://127.0.0.1:9")
    assert answer.code == 0 and "logger.to=mlflow could not be opened" in answer.out


@with_wandb
def test_wandb_without_an_account_is_told_before_training(train: Command) -> None:
    answer = train(*RUN, "logger=wandb")
    assert answer.code == 2 and "run wandb login, or set logger.offline=true" in answer.err
    assert not Path("run/checkpoints/last.ckpt").exists()


def test_a_missing_extra_is_told_in_a_line(train: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    answer = train(*RUN, "logger=wandb")
    assert answer.code == 2 and "pip install 'toyfcn[wandb]'" in answer.err
    assert answer.err.count("\n") == 1 and not Path("run").exists()
    LoggerConfig(to=["csv"]).refuse_missing_packages()


def test_a_rerun_sends_nothing_to_where_the_stored_config_says(train: Command) -> None:
    assert train(*RUN, "logger=none", "logger.uri=http://127.0.0.1:9").code == 0
    answer = train("rerun=run", "hydra.run.dir=again")
    assert answer.code == 0 and "logger.uri=http://127.0.0.1:9 is not repeated" in answer.out
    assert "uri: null" in Path("again/.hydra/config.yaml").read_text()


def test_mistakes(train: Command) -> None:
    Path("mine").touch()
    answer = train(*RUN, "logger.to=[tensorbord]")
    assert "logger.to=tensorbord is none of tensorboard, csv, wandb, mlflow" in answer.err
    answer = train(*RUN, "logger=[tensorboard,csv]")
    assert answer.code == 2 and "set logger.to=[tensorboard,csv]" in answer.err
    answer = train(*RUN, "logger=none", "logger.graph=true", "logger.offline=true")
    assert "logger.graph has no effect without logger=tensorboard" in answer.out
    assert "logger.offline has no effect without logger=wandb" in answer.out


def test_csv_of_a_killed_run_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    first = Csv(tmp_path)
    for step in range(1, 8):
        first.log_metrics({"train/loss": step / 7, "epoch": 0}, step)
    first.log_metrics({"val/miou": 0.5, "epoch": 0}, 5)
    first.save()
    again = Csv(tmp_path, 5)
    again.log_metrics({"val/miou": 0.5, "epoch": 0}, 5)  # validated once more
    for step in (6, 7):
        again.log_metrics({"train/loss": torch.tensor(step / 7), "epoch": 0}, step)
    again.finalize("success")
    rows = [(int(row["step"]), [*row]) for row in of_csv(tmp_path)]
    assert sorted(step for step, keys in rows if "train/loss" in keys) == [*range(1, 8)]
    assert [step for step, keys in rows if "val/miou" in keys] == [5]


def test_a_logger_is_named_as_its_class() -> None:
    """loggers.json has the ids by the names of logger.to."""
    names = {kind.__name__.lower() for kind in (loggers.Wandb, loggers.MLflow)}
    assert names == {"wandb", "mlflow"}
