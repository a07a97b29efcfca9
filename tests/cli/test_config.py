"""The schema and conf/: everything composes, and what a user gets wrong is told in one line."""

import dataclasses
import subprocess
import sys

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from toyfcn.cli import CONF, config_store, resolvers
from toyfcn.cli.errors import explain
from toyfcn.cli.launch import only_given
from toyfcn.config.commands import TrainConfig
from toyfcn.config.data import KINDS
from toyfcn.config.inference import EvalConfig, PredictConfig
from toyfcn.config.option import Checked

GROUPS = ("data", "model", "recipe", "trainer", "experiment", "debug", "sweep", "launcher")
CHOICES = [
    f"{group}={path.relative_to(CONF / group).with_suffix('')}"
    for group in GROUPS
    for path in sorted((CONF / group).rglob("*.yaml"))
]


def kinds_of(schema):
    for kind in schema.__subclasses__():
        yield from (kind, *kinds_of(kind))


SCHEMAS = [kind for kind in kinds_of(Checked) if kind.__module__.startswith("toyfcn.config")]
MISTAKES = (HydraException, OmegaConfBaseException, ValueError)


@pytest.fixture(autouse=True)
def _hydra(monkeypatch):
    monkeypatch.delenv("TOYFCN_VOC", raising=False)
    config_store.register()
    resolvers.register()
    with initialize_config_dir(str(CONF.resolve()), version_base="1.3"):
        yield


def made(*overrides, name="train"):
    return OmegaConf.to_object(only_given(compose(name, list(overrides))))


def complaint(*overrides, name="train"):
    """What the command line would say about these overrides."""
    with pytest.raises(MISTAKES) as caught:
        made(*overrides, name=name)
    text = explain(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_composes(choice):
    target = ["model.target=mynets:Small"] if choice == "model=custom" else []
    config = made(choice, *target)
    assert isinstance(config, TrainConfig)
    assert type(config.data) in KINDS.values()
    group, name = choice.split("=")
    if group in ("data", "model", "recipe"):
        assert getattr(config, group).name == name


def test_train_is_shapes_lenet_modern_by_default():
    config = made()
    names = (config.data.name, config.model.name, config.recipe.name, config.seed)
    assert names == ("shapes", "fcn_lenet", "modern", 0)


@pytest.mark.parametrize(("name", "kind"), [("eval", EvalConfig), ("predict", PredictConfig)])
def test_the_other_commands_compose(name, kind):
    assert isinstance(made("ckpt=best.ckpt", name=name), kind)


def test_eval_takes_the_data_as_trained():
    assert made(name="eval").data == {}
    given = made("data.batch_size=8", "data.limit=null", name="eval").data
    assert given == {"batch_size": 8, "limit": None}  # null is a value: no limit


def test_eval_takes_another_data_set():
    data = made("data=voc2012", "data.root=/photos", name="eval").data
    assert (data.kind, data.year, data.root) == ("voc", 2012, "/photos")


def test_the_papers_recipe_is_one_unit():
    config = made("recipe=paper")
    recipe = config.recipe
    assert (recipe.reduction, recipe.optimizer, recipe.lr) == ("sum", "sgd", 1e-10)
    for rung, lr in (
        ("stride=32", 1e-10),
        ("stride=16", 1e-12),
        ("stride=8", 1e-14),
        ("stride=8 model.at_once=true", 1e-10),
    ):
        options = f"recipe=paper model=fcn_vgg16 model.{rung}".split()
        assert made(*options).recipe.lr == lr
    assert made("recipe=paper", "recipe.lr=1e-8").recipe.lr == 1e-8
    assert made("recipe=paper", "model=fcn_timm", "model.stride=4").recipe.lr == 1e-14  # as 8s
    assert (recipe.momentum, recipe.weight_decay, recipe.bias_lr_factor) == (0.99, 5e-4, 2)
    assert (recipe.schedule, config.data.batch_size) == ("constant", 1)


@pytest.mark.parametrize(
    ("name", "stride", "lr"),
    [
        ("voc2012_fcn32s", 32, 1e-10),
        ("voc2012_fcn16s", 16, 1e-12),
        ("voc2012_fcn8s", 8, 1e-14),
        ("voc2012_fcn8s model.at_once=true model.weights=imagenet", 8, 1e-10),
    ],
)
def test_the_rungs_of_voc2012_are_the_papers(name, stride, lr):
    config = made(*f"experiment={name}".split())
    model, recipe, data = config.model, config.recipe, config.data
    assert (model.name, model.stride, model.geometry) == ("fcn_vgg16", stride, "paper")
    assert (model.width, model.dropout, model.last_learned) == (1, 0.5, False)
    from_imagenet = stride == 32 or model.at_once
    assert model.weights == ("imagenet" if from_imagenet else None)
    assert (recipe.lr, recipe.reduction, recipe.momentum) == (lr, "sum", 0.99)
    assert (data.batch_size, data.augment, data.crop, model.short_side) == (1, False, None, None)
    assert (data.train_split, data.val_split, data.test_split) == ("trainaug", "seg11valid", None)
    assert config.trainer.max_steps == 100_000


def test_a_search_has_crops_that_fit_the_short_side():
    for side, crop in ((48, [48, 60]), (64, [64, 80]), (96, [96, 120])):
        config = made("experiment=voc2007_search", f"model.short_side={side}")
        assert (config.data.crop, config.data.test_split) == (crop, None)
    assert made("experiment=voc2007_search", "model.short_side=null").data.crop is None
    assert made("experiment=voc2007_search", "data.crop=[40,40]").data.crop == [40, 40]


def test_voc_lies_where_the_environment_says(monkeypatch):
    assert made("data=voc2007").data.root == "data"
    monkeypatch.setenv("TOYFCN_VOC", "/photos")
    assert made("data=voc2007").data.root == "/photos"
    assert made("data=shapes").data.root == "data/shapes"


@pytest.mark.parametrize("kind", SCHEMAS)
def test_every_option_tells_its_meaning(kind):
    kind()  # the defaults keep their own bounds
    for item in dataclasses.fields(kind):
        group = dataclasses.is_dataclass(item.type) or item.name in (*GROUPS, "logger", "claim")
        assert group or item.metadata["meaning"], item.name


@pytest.mark.parametrize(
    ("override", "close"),
    [
        ("recipe.lrr=0.1", "recipe.lr?"),
        ("data.batchsize=4", "data.batch_size"),
        ("model.with=2", "model.width"),
        ("trainer.maxsteps=5", "trainer.max_steps"),
        ("lr=0.1", "recipe.lr?"),
        ("n_trials=3", "sweep.n_trials?"),
        ("sed=3", "seed"),
    ],
)
def test_a_misspelt_key_is_told_the_closest(override, close):
    key, _, _ = override.partition("=")
    text = complaint(override)
    assert key in text
    assert close in text.partition("did you mean")[2]


def test_an_unknown_key_is_told_the_known_ones():
    text = complaint("model.xyzzy=1")
    assert "model.xyzzy" in text
    assert "upsample_learned" in text


def test_an_unknown_choice_is_told_the_known_ones():
    text = complaint("data=voc2070")
    assert "voc2070" in text
    assert "voc2007" in text


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("recipe.lr", "fast"),
        ("data.batch_size", "1.5"),
        ("data.batch_size", "many"),
        ("data.batch_size", "null"),
        ("data.crop", "64"),
        ("data.crop", "[a,b]"),
        ("model.upsample_learned", "perhaps"),
        ("seed", "x"),
    ],
)
def test_a_wrong_type_is_an_error_that_names_the_key(key, value):
    assert key in complaint(f"{key}={value}")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data.batch_size", "0"),
        ("data.workers", "-1"),
        ("data.flip", "1.5"),
        ("data.sampling", "never"),
        ("data.scale", "[2,1]"),
        ("data.scale", "[0,1]"),
        ("data.crop", "[64]"),
        ("data.crop", "[4,64]"),
        ("data.max_share", "0.5"),
        ("data.size", "[8,8]"),
        ("data.size", "[96]"),
        ("model.stride", "3"),
        ("model.width", "0"),
        ("model.name", "resnet"),
        ("recipe.lr", "-1"),
        ("recipe.lr", "nan"),
        ("recipe.lr", "inf"),
        ("recipe.clip", "0"),
        ("recipe.class_weights", "[0,0]"),
        ("recipe.class_weights", "[1,nan]"),
        ("recipe.momentum", "1"),
        ("recipe.reduction", "median"),
        ("trainer.accelerator", "tpu"),
        ("trainer.devices", "0"),
        ("trainer.max_steps", "-1"),
        ("trainer.max_epochs", "0"),
        ("data.scale", "[1,inf]"),
        ("trainer.patience", "0"),
        ("logger.panels", "65"),
        ("seed", "-1"),
    ],
)
def test_out_of_bounds_is_an_error_that_names_the_key(key, value):
    """The key as the user types it: data.flip and not shapes.flip, seed and not train.seed."""
    text = complaint(f"{key}={value}")
    assert text.startswith(key) or f" {key}" in text


def test_bounds_hold_for_other_data_and_commands():
    assert complaint("data.batch_size=0", "data=voc2007").startswith("data.batch_size=0")
    assert complaint("data.year=7", "data=voc2007").startswith("data.year=7")
    assert complaint("device=tpu", name="predict").startswith("device=tpu")


@pytest.mark.parametrize("override", ["recipe.lr=0", "data.flip=1", "seed=0", "data.crop=[8,8]"])
def test_bounds_belong_to_the_range(override):
    made(override)


def test_mistakes_are_told_in_a_moment():
    heavy = "{'torch', 'pytorch_lightning', 'torchvision', 'torchmetrics'}"
    code = (
        "import sys, toyfcn.cli.config_store as c; c.register(); "
        f"print(sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_debug_overfits_on_what_it_scores():
    config = made("debug=overfit", "experiment=voc2007_lenet")
    assert (config.data.val_split, config.data.test_split) == (config.data.train_split, None)
    assert (config.data.limit, config.data.crop, config.data.flip) == (8, None, 0)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ("model.weights=imagenet", "not an option of model=fcn_lenet"),
        ("model=fcn_vgg16 model.activation=tanh", "not an option of model=fcn_vgg16"),
        ("model=fcn_timm model.backbone=null", "needs model.backbone=NAME"),
        ("model=fcn_timm model.width=0.5", "not an option of model=fcn_timm"),
        ("model=fcn_vgg16 model.weights=imagenet ckpt=a.ckpt", "ckpt= brings weights, and so does"),
        ("model=fcn_vgg16 recipe.pretrain_steps=5", "needs model=fcn_lenet"),
        ("model=unet model.upsample=dense", "not an option of model=unet"),
        ("model=unet recipe.pretrain_steps=5", "needs model=fcn_lenet"),
        ("recipe.freeze_steps=5", "needs recipe.freeze=backbone"),
        ("optimized_metric=val.loss sweep.direction=maximize", "contradicts optimized_metric"),
        ("sweep.name=/runs/a", "hydra.sweep.dir= places a sweep elsewhere"),
        ("sweep.name=../a", "names no folder below outputs/sweeps"),
        ("sweep.name=", "names no folder below outputs/sweeps"),
        ("data.val_split=null", "set it, or optimized_metric=test.miou"),
        ("data.val_split=null data.test_split=null", "nothing to score: data.val_split=train"),
    ],
)
def test_options_that_contradict_each_other(overrides, words):
    assert words in complaint(*overrides.split())


def test_jobs_that_slurm_requeues_go_on():
    assert made("launcher=submitit_slurm").resume == "auto"
    assert made("launcher=submitit_local").resume is None
