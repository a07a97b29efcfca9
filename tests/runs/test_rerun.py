"""rerun=DIR: the same run again, and whether its numbers are the same."""

import json
from pathlib import Path

import torch
from conftest import Command

from toyfcn.runs.resume import fingerprint, stored_config

WORDS = """
    data.train_images=6 data.val_images=2 data.test_images=2 data.size=[48,48] data.batch_size=2
    data.name=little model.width=0.25 trainer.max_steps=4 trainer.val_every=2 logger.panels=0
    trainer.threads=1 trainer.accelerator=cpu hydra.run.dir=first
    """
RUN = WORDS.split()


def test_a_run_repeats_and_a_changed_number_is_named(train: Command, tmp_path: Path) -> None:
    assert train(*RUN).code == 0
    answer = train("rerun=first", "data.workers=1")
    assert answer.code == 0, answer.err
    assert "repeats" in answer.out and "the same, bit for bit" in answer.out
    (again,) = (tmp_path / "outputs" / "train" / "little-fcn_lenet").iterdir()
    kept = stored_config(again)
    assert fingerprint(kept) == fingerprint(stored_config(Path("first")))
    assert (kept.data.workers, kept.rerun) == (1, str(tmp_path / "first"))
    # figures, weights, and what they were made on
    metrics = json.loads(Path("first/metrics.json").read_text())
    forged = metrics | {"test": metrics["test"] | {"miou": 0.5}}
    Path("first/metrics.json").write_text(json.dumps(forged))
    run = json.loads(Path("first/run.json").read_text())
    run["hardware"]["torch_threads"] = 64
    Path("first/run.json").write_text(json.dumps(run))
    answer = train("rerun=first", "hydra.run.dir=third")
    assert answer.code == 1 and "test.miou was 0.5, is" in answer.out
    log = Path("third/train.log").read_text()
    assert "the numbers may differ: hardware.torch_threads was 64, is 1" in log
    Path("first/metrics.json").write_text(json.dumps(metrics))
    content = torch.load("first/checkpoints/best.ckpt", weights_only=True)
    content["state_dict"]["net.heads.0.weight"].view(-1)[0] += 1
    torch.save(content, "first/checkpoints/best.ckpt")
    answer = train("rerun=first", "hydra.run.dir=fourth")
    assert answer.code == 1 and "the weights heads.0.weight differ by up to 1" in answer.out


def test_what_cannot_be_repeated(train: Command, tmp_path: Path) -> None:
    def refused(*words: str) -> str:
        answer = train(*words)
        assert answer.code == 2
        return answer.err

    assert "rerun=nowhere is not the folder of a run" in refused("rerun=nowhere")
    assert "seed=1 cannot be set beside rerun=nowhere" in refused("rerun=nowhere", "seed=1")
    assert refused("-m", "rerun=nowhere")
    Path("half/.hydra").mkdir(parents=True)
    Path("half/.hydra/config.yaml").write_text("data: {kind: shapes}")
    assert "half has not finished" in refused("rerun=half")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["half"]
