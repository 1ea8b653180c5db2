from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from spikescr.errors import UsageError
from spikescr.model.config import CommanderConfig, DelaysConfig, ModelConfig
from spikescr.training import Augmentation, TrainConfig
from spikescr.training.config import CurriculumConfig, Distillation, Student
from spikescr.training.recipes import (
    FOLDER,
    Command,
    default_training,
    read_recipe,
    recipe_names,
    recipe_of,
    resolve,
    shown,
)

DATA = {"digits": "digits", "shd": "shd:x", "ssc": "ssc:x", "gsc": "gsc:x"}


def configured(name: str, *changes: str, data: str | None = None, **options: Any) -> TrainConfig:
    data = data or DATA.get(name.partition("-")[0])
    return resolve(read_recipe("train", name), TrainConfig, changes, options=options, data=data)


def curriculum(name: str, *changes: str, data: str | None = None, **options: Any) -> CurriculumConfig:
    data = data or DATA.get(name.partition("-")[0])
    return resolve(read_recipe("distill", name), CurriculumConfig, changes, options=options, data=data)


def test_the_papers_recipes_are_there() -> None:
    steps = {"shd": (40, 100), "ssc": (40, 100, 200, 500), "gsc": (40, 100, 200, 400)}
    names = [
        f"{kind}-{n}{size}"
        for kind in steps
        for size in ("", "-2l")
        for n in steps[kind]
        if (kind, size) != ("shd", "-2l")
    ]
    commander = [f"{base}-spikcommander" for base in ("commands", "shd-100", "ssc-100", "gsc-100")]
    assert sorted(recipe_names("train")) == sorted(
        [*names, *commander, "commands", "commands-speech", "commands-spikes", "digits"]
    )
    assert recipe_names("distill") == ["digits", "gsc", "gsc-2l", "shd", "ssc", "ssc-2l"]


def test_events_take_several_channels_of_each_band() -> None:
    levels, events = (configured(name, data="folder:x") for name in ("commands", "commands-spikes"))
    assert (levels.bands, events.bands) == (40, 40)
    assert (levels.spiking, events.spiking) == (False, True)
    with pytest.raises(UsageError, match=r"inputs 84 must be a multiple of frames_per_step 2 times 5 channels"):
        configured("commands", "front_end=spikes", "model.inputs=84", data="folder:x")


# The table of the paper's section on data and training (arXiv 2412.12858); GSC's probability is a reading.
PAPER = {
    "shd": ((1e-2, 1e-2), ModelConfig(), Augmentation(kind="drop", bands=20, time_share=0.2, shift=0)),
    "ssc": (
        (5e-3, 1e-2),
        ModelConfig(classes=35, heads=16, width=256, mlp_ratio=4),
        Augmentation(kind="drop", bands=10, time_share=0.1, shift=0),
    ),
    "gsc": (
        (2e-3, 5e-3),
        ModelConfig(classes=35, heads=16, width=256, mlp_ratio=4),
        Augmentation(kind="mask", probability=1.0, bands=10, time_share=0.25, shift=0),
    ),
}


@pytest.mark.parametrize("name", [name for name in recipe_names("train") if name.partition("-")[0] in PAPER])
def test_a_papers_recipe_is_as_published(name: str) -> None:
    kind, steps, *size = name.split("-")
    (lr, weight_decay), model, augmentation = PAPER[kind]
    assert configured(name) == TrainConfig(
        data=f"{kind}:x",
        steps=int(steps),
        window_s=1.4 if kind == "shd" else 1.0,
        epochs=300,
        batch_size=256,
        lr=lr,
        warmup_epochs=0,
        cosine_epochs=40,
        final_lr=0,
        weight_decay=weight_decay,
        augmentation=augmentation,
        model=commander(kind) if size == ["spikcommander"] else model.model_copy(update={"layers": 2 if size else 1}),
    )


def commander(kind: str) -> CommanderConfig:
    """The network of arXiv 2511.07883, 1L; T_max is the window in steps."""
    if kind == "shd":
        return CommanderConfig(classes=20, heads=8, width=128, mlp_ratio=1, window=140, spiking_input=True)
    return CommanderConfig(classes=35, heads=16, width=256, mlp_ratio=4, window=100, across=3 if kind == "gsc" else 1)


@pytest.mark.parametrize(
    ("name", "stages", "epochs"),
    [
        ("shd", (100, 40), 300),
        ("ssc", (500, 200, 100, 40), 400),
        ("ssc-2l", (500, 200, 100, 40), 400),
        ("gsc", (400, 200, 100, 40), 400),
        ("gsc-2l", (400, 200, 100, 40), 400),
    ],
)
def test_a_papers_curriculum_is_as_published(name: str, stages: tuple[int, ...], epochs: int) -> None:
    config = curriculum(name)
    kind, *size = name.split("-")
    direct = configured("-".join([kind, str(stages[0]), *size]))
    assert config.curriculum == stages
    assert config.direct() == direct
    assert config.distillation == Distillation(cross_entropy=1, divergence=0.5, temperature=1)
    taught = config.taught(1, "abc")
    assert (taught.steps, taught.epochs, taught.warmup_epochs) == (stages[1], epochs, 10)
    assert taught.warmup_share * taught.epochs >= 10
    assert taught.distillation is not None
    assert (taught.distillation.teacher_steps, taught.distillation.teacher) == (stages[0], "abc")
    same = {"steps", "epochs", "warmup_epochs", "warmup_share", "distillation"}
    assert taught.model_dump(exclude=same) == direct.model_dump(exclude=same)


@pytest.mark.parametrize("command", ["train", "distill"])
def test_every_recipe_opens_with_the_command_that_runs_it(command: Command) -> None:
    for name in recipe_names(command):
        recipe = read_recipe(command, name)
        data = "" if "digits" in recipe.kinds else f" --data {recipe.kinds[0]}:PATH"
        first = (FOLDER / command / f"{name}.toml").read_text().splitlines()[0]
        assert first == f"# spikescr {command} {name}{data}"


def test_the_default_recipe_is_the_default_configuration() -> None:
    assert configured("digits") == TrainConfig()
    assert curriculum("digits") == CurriculumConfig(student=Student(epochs=40))


def test_changes_are_read_by_the_type_of_their_key() -> None:
    config = configured(
        "digits", "lr=1e-3", "cosine_epochs=7", "model.position=none", "model.gating_unit=false", "augmentation=none"
    )
    assert config == TrainConfig(
        lr=1e-3, cosine_epochs=7, augmentation=None, model=ModelConfig(position="none", gating_unit=False)
    )
    assert configured("digits", "cosine_epochs=none").cosine_epochs is None


def test_another_family_begins_with_its_own_defaults() -> None:
    config = configured("ssc-100", "model.family=dcls", "model.taps=7")
    assert config.model == DelaysConfig(classes=35, taps=7)
    assert config.steps == 100
    with pytest.raises(UsageError, match=r"^model.heads=4: unknown key"):
        configured("digits", "model.family=dcls", "model.heads=4")


def test_what_was_switched_off_can_be_switched_on_with_its_defaults() -> None:
    off = recipe_of(TrainConfig(augmentation=None), "off")
    config = resolve(off, TrainConfig, ["augmentation.bands=3"], options={}, data=None)
    assert config.augmentation == Augmentation(bands=3)


def test_all_faults_are_told_at_once_each_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('base = "digits"\nlerning_rate = 1\nbatch_size = "8"\n[model]\nwidht = 3\n')
    with pytest.raises(UsageError) as caught:
        configured(str(path), "heads=4", "epochs=many", "lr=0.1", "lr=0.2", "seed=3", data="shd:x")
    assert str(caught.value).split("; ") == [
        "lr=0.2: lr is given twice",
        "seed=3: give it as seed (--seed)",
        f"data (--data) shd:x: {path} is for digits or folder:PATH",
        "for shd there is shd-40, shd-100, shd-100-spikcommander",
        "epochs=many: Input should be a valid integer (got many)",
        f"{path}: batch_size: Input should be a valid integer (got 8)",
        f"{path}: model.widht: unknown key",
        "did you mean 'model.width'?",
        f"{path}: lerning_rate: unknown key",
        "heads=4: unknown key",
        "did you mean 'model.heads'?",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("data=shd:x", "data=shd:x: give it as data (--data)"),
        ("model.classes=3", "model.classes=3: it follows from the data"),
        ("model.width=6x", "model.width=6x: Input should be a valid integer (got 6x)"),
        ("model.width=64.0", "model.width=64.0: Input should be a valid integer (got 64.0)"),
        ("model.gating_unit=maybe", "model.gating_unit=maybe: Input should be a valid boolean (got maybe)"),
        ("model.family=cnn", "model.family=cnn: family must be one of spikescr, dcls, recurrent"),
        ("model=3", "model=3: "),
        ("lr=none", "lr=none: Input should be a valid number (got none)"),
        ("modle.width=3", "modle.width=3: unknown key; did you mean 'model.width'?"),
        ("distillation.divergence=1", "distillation: a teacher is what spikescr distill gives"),
        ("model.width=100", "model.width=100: width 100 must be an even number of channels for each of 8 heads"),
        ("epochs=" + "[" * 100_000, "epochs"),
    ],
)
def test_a_change_that_cannot_be_meant(change: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        configured("digits", change)
    assert str(caught.value).startswith(message)


def test_contradictions_are_refused() -> None:
    with pytest.raises(UsageError, match=r"^augmentation.shift=4: contradicts augmentation=none$"):
        configured("digits", "augmentation=none", "augmentation.shift=4")


@pytest.mark.parametrize(
    ("stages", "message"), [((100,), "needs two or more"), ((40, 40), "names each"), ((40, 0), "needs two or more")]
)
def test_a_curriculum_that_is_none(stages: tuple[int, ...], message: str) -> None:
    with pytest.raises(UsageError, match=f"^--curriculum: a curriculum {message}"):
        curriculum("digits", curriculum=stages)


def test_recipes_that_are_no_files_or_too_large_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.toml")
    with pytest.raises(UsageError, match=r"fifo.toml: is a FIFO; expected a regular file"):
        read_recipe("train", str(tmp_path / "fifo.toml"))
    path = tmp_path / "deep.toml"
    path.write_text("a = " + "[" * 100_000)
    with pytest.raises(UsageError, match=r"deep.toml: is no TOML: "):
        read_recipe("train", str(path))
    with path.open("ab") as file:
        file.truncate(2**40)
    with pytest.raises(UsageError, match=r"deep.toml takes .*TB of memory, allowed are"):
        read_recipe("train", str(path))


def test_recipes_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    for content, message in (
        ("steps = ", "is no TOML"),
        ("steps = " + "2" * 5000, "is no TOML"),  # more digits than Python reads
        ("steps = 3", "must say for which kinds of data sets it is"),
        ('kinds = "shd"', "kinds must be a list"),
        ("base = 3", "about and base must be text"),
        (f'base = "{path}"', "is its own base"),
    ):
        path.write_text(content)
        with pytest.raises(UsageError, match=rf"^{path}: {message}"):
            read_recipe("train", str(path))
    with pytest.raises(UsageError, match=r"nowhere.toml: there is no such recipe file$"):
        read_recipe("train", "nowhere.toml")
    with pytest.raises(UsageError, match=r"^'ssc' is a recipe of spikescr distill; try: spikescr distill ssc$"):
        read_recipe("train", "ssc")
    with pytest.raises(UsageError, match=r"^ssc-40 needs a data set: give data \(--data\) ssc:PATH$"):
        resolve(read_recipe("train", "ssc-40"), TrainConfig, [], options={}, data=None)


@pytest.mark.parametrize("name", ["digits", "ssc-40-2l"])
def test_what_is_shown_can_be_given_again(name: str) -> None:
    config = configured(name, "augmentation=none", "lr=0.125")
    given = [f"{key}={value}" for key, value in shown(config) if key not in ("data", "seed", "model.classes")]
    assert configured(name, *given) == config


def test_recipes_need_no_torch() -> None:
    code = (
        "import sys; from spikescr.training.recipes import read_recipe; read_recipe('train', 'ssc-40'); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=300).returncode == 0


def test_commands_is_for_words_of_any_level_and_place() -> None:
    config = configured("commands", "augmentation.noise=folder:hum", "augmentation.noise_snr=[5,10]", data="folder:x")
    assert (config.steps, config.model.name, config.normalise) == (40, "1L-8-128", "recording")
    assert config.bands * config.frames_per_step == config.model.inputs
    assert config.augmentation is not None
    assert (config.augmentation.noise, config.augmentation.noise_snr) == ("folder:hum", (5.0, 10.0))
    assert dict(shown(config))["augmentation.noise_snr"] == "[5.0,10.0]"
    assert not any(
        configured(name).augmentation.of_sound  # type: ignore[union-attr]
        for name in recipe_names("train")
        if not name.startswith("commands")
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("augmentation.noise=loud", r"^augmentation.noise=loud: noise is made, folder:PATH or none \(got loud\)$"),
        ("augmentation.noise_snr=[5,1]", "noise_snr is two numbers of dB, the lower one first"),
        ("frames_per_step=3", "model: inputs 80 must be a multiple of frames_per_step 3, bands each"),
        ("model.inputs=81", "^model.inputs=81: inputs 81 must be a multiple of frames_per_step 2, bands each"),
    ],
)
def test_absurd_settings_of_sound_are_refused(change: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        configured("commands", change, data="folder:x")


def test_a_pictures_recipe_is_the_kinds_own() -> None:
    for data, name in {"gsc:x": "gsc-40", "folder:x": "digits", "shd:x": "shd-40"}.items():
        assert default_training(data) == configured(name, data=data)
