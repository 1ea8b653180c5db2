"""Recipes: configurations as TOML files, with changes from the command line. Imports no torch.

A recipe's keys are those of the configuration, and three of its own. about: one line for people. kinds: of data sets
that it is for. base: another recipe of `spikescr/recipes/train` that it changes. `spikescr/recipes/train` holds those
of `spikescr train`, `spikescr/recipes/distill` those of `spikescr distill`; a recipe can also be a file of one's own.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from spikescr.errors import UsageError
from spikescr.schemas import PARSED, field_of
from spikescr.sizes import require_memory
from spikescr.strangers import open_regular
from spikescr.training.config import CurriculumConfig, TrainConfig

FOLDER = Path(__file__).parents[1] / "recipes"
OWN_KEYS = ("about", "base", "kinds")
# Keys that the command line does not take, and what to do instead.
ELSEWHERE = {
    "data": "give it as data (--data)",
    "seed": "give it as seed (--seed)",
    "curriculum": "give it as curriculum (--curriculum)",
    "model.classes": "it follows from the data",
}
TEACHER = "a teacher is what spikescr distill gives"
DEFAULT_RECIPE = "digits"
CHANGE = re.compile(r"([A-Za-z_][\w.-]*)=(.*)", re.DOTALL)
"""KEY=VALUE on the command line."""

Command = Literal["train", "distill"]
Config = TypeVar("Config", TrainConfig, CurriculumConfig)


@dataclass(frozen=True)
class Recipe:
    """A recipe as read.

    name: as one asks for it. about: one line. kinds: of data sets. content: keys of the configuration, nested. origin:
    file in which each was set, by dotted key.
    """

    name: str
    about: str
    kinds: tuple[str, ...]
    content: dict[str, Any] = field(repr=False)
    origin: dict[str, str] = field(repr=False)


def recipe_names(command: Command) -> list[str]:
    """Names of the recipes of a command: by data set and size, then by steps."""

    def order(name: str) -> tuple[str, str, int]:
        words = name.split("-")
        steps = [word for word in words[1:] if word.isdigit()]
        return words[0], "-".join(word for word in words[1:] if not word.isdigit()), int(steps[0]) if steps else 0

    return sorted((path.stem for path in (FOLDER / command).glob("*.toml")), key=order)


def read_recipe(command: Command, name: str) -> Recipe:
    """Reads a recipe, with its bases.

    Args:
        command: whose recipe.
        name: one of `recipe_names`, or the path of a `.toml` file.

    Raises:
        UsageError: there is none of that name, or it is no recipe; the message names the file.
    """
    return replace(_read(_find(command, name), ()), name=name)


def default_training(data: str) -> TrainConfig:
    """What the first recipe gives that is named after that kind of data set, else the first that is for it.

    Raises:
        UsageError: there is none.
    """
    kind = data.partition(":")[0]
    names = sorted(recipe_names("train"), key=lambda name: (name.partition("-")[0] != kind, name != DEFAULT_RECIPE))
    recipes = [read_recipe("train", name) for name in names]
    for recipe in recipes:
        if kind in recipe.kinds:
            return resolve(recipe, TrainConfig, [], options={}, data=data)
    raise UsageError(f"no recipe is for {data}; spikescr train --list shows all")


def recipe_of(config: TrainConfig | CurriculumConfig, name: str) -> Recipe:
    """A configuration as a recipe of that name."""
    content = config.model_dump()
    if content["distillation"] is None:
        content.pop("distillation")
    return Recipe(name, "", (config.data.partition(":")[0],), content, {key: name for key, _ in _leaves(content)})


def _find(command: Command, name: str) -> Path:
    if name.endswith(".toml"):
        path = Path(name)
        if not path.exists():
            raise UsageError(f"{path}: there is no such recipe file")
        return path
    names = recipe_names(command)
    if name not in names:
        other: Command = "distill" if command == "train" else "train"
        if name in recipe_names(other):
            raise UsageError(f"'{name}' is a recipe of spikescr {other}; try: spikescr {other} {name}")
        close = _suggestion(name, names)
        raise UsageError(f"unknown recipe '{name}'{close}; spikescr {command} --list shows all")
    return FOLDER / command / f"{name}.toml"


def _read(path: Path, seen: tuple[Path, ...]) -> Recipe:
    if path.resolve() in seen:
        raise UsageError(f"{path}: is its own base")
    shown = path.name if path.is_relative_to(FOLDER) else str(path)
    try:
        with open_regular(path, UsageError) as file:
            require_memory(PARSED * path.stat().st_size, shown, "give a recipe of a few lines")
            content = tomllib.load(file)
    except OSError as error:
        raise UsageError(f"{shown}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{shown}: is no TOML: {error}") from error
    own = {key: content.pop(key) for key in OWN_KEYS if key in content}
    about, base, kinds = own.get("about"), own.get("base"), own.get("kinds")
    if not all(part is None or isinstance(part, str) for part in (about, base)):
        raise UsageError(f"{shown}: about and base must be text")
    if kinds is not None and not (isinstance(kinds, list) and kinds and all(isinstance(kind, str) for kind in kinds)):
        raise UsageError(f"{shown}: kinds must be a list of kinds of data sets")
    origin = {key: shown for key, _ in _leaves(content)}
    if base is not None:
        below = _read(_find("train", base), (*seen, path.resolve()))
        return Recipe(
            name=path.stem,
            about=about or below.about,
            kinds=tuple(kinds or below.kinds),
            content=_merged(below.content, content),
            origin=below.origin | origin,
        )
    if kinds is None:
        raise UsageError(f"{shown}: must say for which kinds of data sets it is (kinds), or have a base that does")
    return Recipe(path.stem, about or "", tuple(kinds), content, origin)


def resolve(
    recipe: Recipe,
    kind: type[Config],
    changes: Sequence[str],
    *,
    options: Mapping[str, Any],
    data: str | None,
    need_data: bool = True,
) -> Config:
    """The configuration that a recipe gives with changes.

    Args:
        recipe: the recipe; of one with `curriculum`, `steps` of its base count for nothing.
        kind: of configuration.
        changes: KEY=VALUE each, dotted keys; values as in JSON, text without quotes, `none` for nothing.
        options: further values by dotted key, from options of the command line.
        data: data set, as `open_data` takes it; None: the recipe's.
        need_data: False: without `data` the configuration names the kind of data set alone.

    Raises:
        UsageError: keys that are unknown, values that cannot be; the message has all of them, and where each stands.
    """
    keys = _keys(kind)
    faults: list[str] = []
    content = _merged({}, recipe.content)
    if kind is CurriculumConfig:
        content.pop("steps", None)
    given = dict(_parsed(changes, keys, faults))
    family = given.get("model.family")
    if family is not None and isinstance(content.get("model"), dict) and content["model"].get("family") != family:
        # Sizes of one family mean nothing to another, which begins with its own defaults.
        content["model"] = {key: value for key, value in content["model"].items() if key in ("inputs", "classes")}
    for key, value in given.items():
        _set(content, key, value)
    for key, value in options.items():
        _set(content, key, value)
    source = data if data is not None else content.get("data", "digits" if "digits" in recipe.kinds else None)
    if source is None and need_data:
        faults.append(f"{recipe.name} needs a data set: give data (--data) {' or '.join(_specs(recipe.kinds))}")
    elif source is not None and str(source).partition(":")[0] not in recipe.kinds and (others := _others(kind, source)):
        faults.append(f"data (--data) {source}: {recipe.name} is for {' or '.join(_specs(recipe.kinds))}; {others}")
    if kind is TrainConfig and content.pop("distillation", None) is not None:
        faults.append(f"distillation: {TEACHER}")
    content["data"] = source if source is not None else recipe.kinds[0]
    config: Config | None = None
    try:
        config = kind.model_validate(content, strict=True)
    except ValidationError as error:
        faults += [_told(fault, recipe, given, options, keys) for fault in error.errors()]
    if config is None or faults:
        raise UsageError("; ".join(faults))
    return config


def shown(config: BaseModel) -> list[tuple[str, str]]:
    """All keys and values of a configuration, as the command line takes them."""
    content = config.model_dump(mode="json")
    if content.get("distillation") is None:
        content.pop("distillation", None)  # no key of a training without a teacher
    return [(key, _text(value)) for key, value in _leaves(content)]


def _text(value: Any) -> str:
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value).replace(" ", "")


def _keys(kind: type[BaseModel]) -> dict[str, Any]:
    """Dotted key -> annotation, for all that a configuration can hold, sections included."""
    keys: dict[str, Any] = {}
    for name, info in kind.model_fields.items():
        keys[name] = info.annotation
        for model in _models(info.annotation):
            keys |= {f"{name}.{key}": annotation for key, annotation in _keys(model).items()}
    return keys


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The sections among an annotation's alternatives."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


def _parsed(changes: Sequence[str], keys: Mapping[str, Any], faults: list[str]) -> Iterator[tuple[str, Any]]:
    """Key and value of each change; faults are added to the list."""
    seen: dict[str, str] = {}
    for change in changes:
        match = CHANGE.fullmatch(change)
        assert match is not None, "the command line takes for a change what looks like one"
        key, text = match.groups()
        instead = ELSEWHERE.get(key)
        within = [other for other in seen if key.startswith(f"{other}.") or other.startswith(f"{key}.")]
        if key in seen:
            faults.append(f"{change}: {key} is given twice")
        elif instead is not None and key in keys:
            faults.append(f"{change}: {instead}")
        elif within:
            faults.append(f"{change}: contradicts {seen[within[0]]}")
        else:
            seen[key] = change
            yield key, _value(text, keys.get(key))


def _value(text: str, annotation: Any) -> Any:
    """What a text means for a field of that type; whether it fits is checked later."""
    if text == "none" and type(None) in get_args(annotation):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _told(
    fault: Any, recipe: Recipe, given: Mapping[str, Any], options: Mapping[str, Any], keys: Mapping[str, Any]
) -> str:
    """One fault of a configuration: where, what, and what may have been meant."""
    key = ".".join(field_of(fault["loc"]))

    def concerns(other: str) -> bool:
        return other == key or other.startswith(f"{key}.") or key.startswith(f"{other}.")

    changed = [other for other in given if concerns(other)]
    named = [f"--{other}" for other in options if concerns(other)]
    files = sorted({file for other, file in recipe.origin.items() if concerns(other)})
    if fault["type"] == "extra_forbidden":
        what = f"unknown key{_suggestion(changed[0] if changed else key, keys)}"
    else:
        what = str(fault["msg"]).removeprefix("Value error, ")
        if not isinstance(fault["input"], dict):
            what += f" (got {_text(fault['input'])})"
    where = "" if changed or named else f"{', '.join(files)}: "
    shown_as = [f"{other}={_text(given[other])}" for other in changed] or named or [key]
    return f"{where}{', '.join(shown_as)}: {what}"


def _suggestion(name: str, names: Sequence[str] | Mapping[str, Any]) -> str:
    """`; did you mean …?` for the name that is closest; of dotted names also for their last part alone."""
    last = {known.rpartition(".")[2]: known for known in reversed(list(names)) if "." in known}
    exact = last.get(name.rpartition(".")[2])
    close = [exact] if exact else difflib.get_close_matches(name, names, n=1)
    if not close:
        close = [last[match] for match in difflib.get_close_matches(name.rpartition(".")[2], last, n=1)]
    return f"; did you mean '{close[0]}'?" if close else ""


def _specs(kinds: Sequence[str]) -> list[str]:
    return [kind if kind == "digits" else f"{kind}:PATH" for kind in kinds]


def _others(kind: type[BaseModel], source: Any) -> str:
    """Which recipes are for that kind of data set; empty where there is no such kind, which opening it tells better."""
    command: Command = "train" if kind is TrainConfig else "distill"
    wanted = str(source).partition(":")[0]
    names = [name for name in recipe_names(command) if wanted in read_recipe(command, name).kinds]
    return f"for {wanted} there is {', '.join(names)}" if names else ""


def _leaves(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in content.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `below` with what `above` says instead."""
    merged = {key: _merged(value, {}) if isinstance(value, dict) else value for key, value in below.items()}
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merged(old if isinstance(old, dict) else {}, value) if isinstance(value, dict) else value
    return merged


def _set(content: dict[str, Any], key: str, value: Any) -> None:
    *sections, name = key.split(".")
    for section in sections:
        if not isinstance(content.get(section), dict):
            content[section] = {}
        content = content[section]
    content[name] = value
