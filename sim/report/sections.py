"""The sections of a report: figures and tables from the audit of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from spikescr.quantities import percent, si
from spikescr.sim.counting import summary
from spikescr.sim.counting.conventions import CAUSES
from spikescr.sim.counting.energy import Constants, EnergyCost
from spikescr.sim.counting.saved import Audit
from spikescr.sim.program import operation_types
from spikescr.sim.report import charts
from spikescr.sim.report.document import (
    Cell,
    Figure,
    Section,
    Table,
    by_step,
    count,
    number,
    plain,
    share,
    words,
)
from spikescr.sim.report.raster import group_size, raster
from spikescr.sim.report.subject import END, START, Example, Provenance, Run


def layers(audit: Audit, cost: EnergyCost) -> Section:
    """Every layer: firing rate, executed operations, energy by each convention."""
    rows = []
    charge = audit.charge(END)
    total = float(summary.joules(cost, charge.sum(axis=0))) / audit.samples
    for row in summary.layers(audit, cost):
        ac, mac = (charge[audit.rows(row["layer"])].sum(axis=0) / audit.samples).tolist()
        energies = (_blank(value, "J") for value in row["joules"].values())
        part = row["joules"][END] / total if total else None
        rate = row["firing_rate"]
        rows.append((words(row["layer"]), share(rate), _blank(ac), _blank(mac), share(part), *energies))
    ac, mac = (charge.sum(axis=0) / audit.samples).tolist()
    sums = (summary.joules(cost, audit.charge(name).sum(axis=0)) / audit.samples for name in audit.conventions)
    last = (words("total"), Cell(""), number(ac), number(mac), share(1.0 if total else None))
    table = Table(
        f"Mean of {audit.samples:,} {audit.noun}; energy by each convention of counting",
        ("layer", "firing rate", "AC", "MAC", "of executed", *audit.conventions),
        tuple(rows),
        (*last, *(number(float(value), "J") for value in sums)),
    )
    text = (
        "AC: accumulations, MAC: multiply-accumulates, as executed. Firing rate: spikes per neuron and step. "
        "Bias additions and membrane updates are in the figures only where a convention charges them.",
    )
    return Section("layers", "Layers", text, tables=(table,))


def _spread(value: float | None) -> Cell:
    return Cell("") if value is None else number(value, "J")


def _blank(value: float, unit: str = "") -> Cell:
    return number(value, unit) if value else Cell("", 0)


def steps(audit: Audit, cost: EnergyCost) -> Section:
    """Energy of each layer at each executed step."""
    per_step = summary.per_step(audit, cost)
    means = np.array(per_step["mean_j"])
    active = [row for row in range(len(means)) if means[row].any()]
    names = [per_step["layers"][row] for row in active]
    energy = means[active]
    late = sorted({latency for latency in audit.latencies if latency is not None})
    wait = f", since attention answers when a whole window of {audit.steps} steps has passed" if _waits(audit) else ""
    text = (
        f"A {audit.noun[:-1]}'s step t reaches a layer of latency d at executed step t + d; latencies here are up to "
        f"{late[-1] if late else 0} steps{wait}.",
    )
    if not active:
        return Section("steps", "Layers over time", (*text, "Nothing was executed at any step."))
    first = [("step", [count(step) for step in range(audit.period)])]
    figure = Figure(
        "heat-map",
        f"Executed energy of each layer at each executed step, mean of the {audit.noun}.",
        charts.heat_map(names, energy, audit.dt, audit.noun[:-1]),
        by_step("Executed energy of each layer at each step", first, names, energy.tolist(), "J"),
    )
    return Section("steps", "Layers over time", text, (figure,))


def _waits(audit: Audit) -> bool:
    known = operation_types()
    return any(known[kind].waits_for_window for kind in audit.types)


def named(cause: str) -> str:
    """A cause as people read it."""
    return cause.replace("_", " ")


def conventions(
    audit: Audit, cost: EnergyCost, conventions: dict[str, Any], way: dict[str, Any], before: dict[str, Any] | None
) -> Section:
    """All conventions side by side, and the waterfall between two of them; those that cannot be evaluated, and why.

    before: what comes before the network, beside the figures of conventions that claim to be end to end.
    """
    start = way["from"]
    executed = conventions[END]["joules"]
    table = Table(
        f"One run by {len(conventions)} conventions of counting, mean of {audit.samples:,} {audit.noun}, {cost.title}",
        (
            "convention", "AC", "MAC", "energy" if before is None else "network", f"± {audit.noun}", "of executed",
            *(() if before is None else ("before the network",)), "what it is", "source",
        ),
        tuple(
            (
                words(name), number(row["ac"]), number(row["mac"]), number(row["joules"], "J"),
                _spread(row["spread_j"]),
                plain(row["joules"] / executed, 2) if executed else Cell(""),
                *(() if before is None else (_before(before, row),)),
                words(row["title"]), words(row["source"]),
            )
            for name, row in conventions.items()
        ),
    )  # fmt: skip
    changes = {named(cause): row for cause, row in way["causes"].items()}
    first = conventions[start]["joules"]
    rows = [(start, conventions[start]), *changes.items(), (END, conventions[END])]
    causes = Table(
        f"From {start} to {END}, mean per {audit.noun[:-1]}",
        ("cause", "AC", "MAC", "energy", "of the first"),
        tuple(
            (
                words(name), number(row["ac"]), number(row["mac"]), number(row["joules"], "J"),
                share(row["joules"] / first if first else None),
            )
            for name, row in rows
        ),
    )  # fmt: skip
    figure = Figure(
        "waterfall",
        f"Why two conventions differ, cause by cause, beginning with {start} and {END}.",
        charts.waterfall(
            (start, first),
            {name: row["joules"] for name, row in changes.items()},
            (END, conventions[END]["joules"]),
            audit.noun[:-1],
        ),
        (causes,),
    )
    text = (
        "All conventions are evaluated on the same executed run. The causes add up to the difference, operation by "
        f"operation; {audit.unexplained():g} operations are unexplained.",
    )
    refused = tuple(f"{name} cannot be evaluated on this run: {why}." for name, why in audit.refused.items())
    return Section("conventions", "Conventions of counting, and why they differ", text + refused, (figure,), (table,))


def _before(before: dict[str, Any], convention: dict[str, Any]) -> Cell:
    if not convention["end_to_end"]:
        return Cell("")
    if not before["stages"]:
        return words("not counted")
    return words("no price") if before["joules"] is None else number(before["joules"], "J")


def before_network(audit: Audit, cost: EnergyCost, before: dict[str, Any] | None) -> Section | None:
    """What the front end does before the network gets anything; None where nothing tells it."""
    if before is None:
        return None
    noun = audit.noun[:-1]
    text = (
        f"What comes before the network, {before['title']}, is in none of the network's figures.",
        *((f"Not counted: {before['not_counted']}.",) if before["not_counted"] else ()),
    )
    if not before["stages"]:
        return Section("before", "Before the network", text)
    rows = tuple(
        (
            words(row["stage"]), number(row["additions"]), number(row["multiplications"]),
            Cell("") if row["joules"] is None else number(row["joules"], "J"), words(row["rule"]),
        )
        for row in (*before["stages"], {**before, "stage": "total", "rule": ""})
    )  # fmt: skip
    table = Table(
        f"Stages of the front end, mean per {noun}; an addition as an AC, both together as a MAC, {cost.name}",
        (
            "stage",
            "additions",
            "multiplications",
            "energy",
            f"rule, for each of {before['frames_per_step']} frame(s) of a step",
        ),
        rows[:-1],
        rows[-1],
    )
    return Section("before", "Before the network", text, tables=(table,))


def script_data(audit: Audit, cost: EnergyCost, conventions: dict[str, Any]) -> dict[str, Any]:
    """Every convention with its causes, convention minus executed; all zeros included."""
    data = {}
    for name, row in conventions.items():
        difference = audit.difference(END, name).sum(axis=0) / audit.samples
        causes = {
            cause: {"ac": float(ac), "mac": float(mac), "joules": cost.joules(float(ac), float(mac))}
            for cause, (ac, mac) in zip(CAUSES, difference, strict=True)
        }
        data[name] = {**{key: row[key] for key in ("ac", "mac", "joules")}, "causes": causes}
    return data


def formula(audit: Audit, cost: EnergyCost) -> Section | None:
    """Each layer as the formula predicts it against what it executed; None where it cannot or nothing costs."""
    if START in audit.refused:
        return None
    rows = [row for row in summary.layers(audit, cost) if row["joules"][START] or row["joules"][END]]
    if not rows:
        return None
    layers = [row["layer"] for row in rows]
    predicted, executed = ([row["joules"][name] for row in rows] for name in (START, END))
    table = Table(
        "Energy of each layer, predicted by the paper's formula and executed",
        ("layer", "predicted", "executed", "executed / predicted"),
        tuple(
            (words(layer), number(p, "J"), number(e, "J"), plain(e / p, 3) if p else Cell(""))
            for layer, p, e in zip(layers, predicted, executed, strict=True)
        ),
    )
    figure = Figure(
        "scatter",
        "Each layer's energy as the formula predicts it and as it was executed. On the dashed line the two are equal; "
        "the lanes marked 0 hold layers that one of the two leaves out.",
        charts.scatter(layers, predicted, executed),
        (table,),
    )
    return Section("formula", "The formula against what was executed", (), (figure,))


def decisions(audit: Audit, cost: EnergyCost) -> Section | None:
    """When answers were final; None where no class was chosen."""
    mean, noun = summary.decisions(audit, cost), audit.noun[:-1]
    if mean is None:
        return None
    decisions = audit.decisions
    final = decisions[:, 0]
    until = summary.joules(cost, decisions[:, 1:].astype(float))
    new = np.bincount(final, minlength=audit.steps)
    rows = tuple(
        (
            count(step), plain(1000 * (step + 1) * audit.dt, 1), count(int(new[step])),
            share(float(new[: step + 1].sum() / len(final))),
            number(float(until[final == step].mean()), "J") if new[step] else Cell(""),
        )
        for step in range(int(final.max()) + 1)
    )  # fmt: skip
    table = Table(
        "When answers became final",
        ("step", "ends at, ms", audit.noun, "of all, up to here", "executed until then"), rows,
    )  # fmt: skip
    text = (
        "An answer is final from the first step after which the running readout names no other class. On average that "
        f"was step {mean['step']:.1f} ± {mean['step_spread']:.1f}, {percent(mean['share'])} of a {noun}; until "
        f"its output {si(mean['joules'], 'J', zeros=True)} ± {si(mean['spread_j'], 'J', zeros=True)} were executed"
        f"{', all that comes before the attention of the whole recording included' if _waits(audit) else ''}.",
    )
    figure = Figure(
        "decisions",
        f"Share of the {audit.noun} whose answer was final, by time.",
        charts.decided(final, audit.steps, audit.dt),
        (table,),
    )
    return Section("decision", "When the answer was final", text, (figure,))


def comparison(runs: Sequence[Run], cost: EnergyCost) -> Section | None:
    """Energy of several runs, and accuracy against it where they have classes; None of one."""
    if len(runs) < 2:
        return None
    first, points, rows = runs[0].audit, [], []
    names = [name for name in (END, START) if not any(name in run.audit.refused for run in runs)]
    for index, run in enumerate(runs):
        audit = run.audit
        conventions = summary.conventions(audit, cost)
        if audit.accuracy is not None and START in names:
            executed, paper = conventions[END], conventions[START]
            points.append(
                charts.Point(run.name, audit.accuracy, executed["joules"], executed["spread_j"] or 0.0, paper["joules"])
            )
        row = [
            words(f"{index + 1}: {run.name}"), plain(1 / audit.dt, 0), count(audit.samples), share(audit.accuracy, 2),
        ]  # fmt: skip
        for name in names:
            row.append(number(conventions[name]["joules"], "J"))
            row += [_spread(conventions[name]["spread_j"])] if name == END else []
            row += _change(first, audit, cost, name) if index else [Cell("")] * 2
        rows.append(tuple(row))
    executed_columns = ("executed", "±", "change", "95 % interval")
    paper_columns = ("paper", "change by paper", "95 % interval of it")
    table = Table(
        f"Runs; changes are against the first, with 95 % intervals (bootstrap over {first.noun}, 10,000 draws)",
        ("run", "steps/s", first.noun, "accuracy", *executed_columns, *(paper_columns if START in names else ())),
        tuple(rows),
    )
    if len(points) < len(runs):
        return Section("runs", "Runs", tables=(table,))
    caption = "Accuracy against energy per recording: " + ", ".join(f"{k} {run.name}" for k, run in enumerate(runs, 1))
    figure = Figure("trade-off", f"{caption}.", charts.trade_off(points), (table,))
    return Section("runs", "Accuracy against energy", (), (figure,))


def _change(first: Audit, audit: Audit, cost: EnergyCost, convention: str) -> list[Cell]:
    change = summary.comparison(first, audit, cost, convention)
    low, high = (f"{100 * change[key]:+.1f}" for key in ("low", "high"))
    return [Cell(f"{100 * change['change']:+.1f} %", change["change"]), words(f"{low} to {high} %")]


def recording(example: Example | None, audit: Audit) -> Section | None:
    """One recording or sample: its input and its spikes."""
    if example is None:
        return None
    steps = len(example.picture.levels)
    ms = 1000 * audit.dt
    names = list(example.spikes)
    level = example.picture.levels.mean(axis=1)
    first = [
        ("ms", [plain(step * ms, 1) for step in range(steps)]),
        (f"mean, {example.picture.unit}", [plain(float(level[step]), 2) for step in range(steps)]),
    ]
    numbers = by_step("Spikes of each layer", first, names, [s.sum(axis=1).tolist() for s in example.spikes.values()])
    rates = Table(
        f"Firing in this {audit.noun[:-1]}",
        ("layer", "neurons", "spikes", "firing rate", "silent neurons"),
        tuple(
            (
                words(name), count(fired.shape[1]), count(int(fired.sum())), share(float(fired.mean())),
                count(int((~fired.any(axis=0)).sum())),
            )
            for name, fired in example.spikes.items()
        ),
    )  # fmt: skip
    sizes = sorted({group_size(fired.shape[1], len(names)) for fired in example.spikes.values()})
    group = f"{' or '.join(map(str, sizes))} neighbouring neurons" if sizes != [1] else "one neuron"
    answer = f"{example.name}: {steps} steps. "
    if example.final is not None:
        said = "" if example.label is None else f", but it is {example.label}"
        if example.predicted == example.label:
            said = ", which is right"
        answer = (
            f"{example.name}: the network says {example.predicted}{said}. The answer was final after step "
            f"{example.final} ({(example.final + 1) * ms:.0f} ms of {steps * ms:.0f} ms). "
        )
    text = (
        f"{answer}Spikes are drawn at the {audit.noun[:-1]}'s own steps of {ms:g} ms, without the layers' latencies.",
    )
    figure = Figure(
        "raster",
        f"{example.picture.title}, and below it the spikes of every layer; a row of the raster is {group}, darker "
        "where more of them fire.",
        raster(example.picture, names, list(example.spikes.values()), audit.dt, example.final),
        (rates, *numbers),
    )
    return Section("recording", f"One {audit.noun[:-1]}", text, (figure,))


def constants(audit: Audit, cost: EnergyCost, known: Constants) -> Section:
    """The executed operations by other constants, and memory traffic apart."""
    ac, mac = (audit.charge(END).sum(axis=0) / audit.samples).tolist()
    updates = float(audit.counts["neuron"].sum() / audit.samples)
    rows = []
    for each in known.costs.values():
        figures = (each.ac_pj, each.mac_pj, each.neuron_pj)
        uncharged = mac and each.mac_pj is None
        energy = number(each.joules(ac, mac, updates), "J")
        if uncharged:
            energy = Cell(f"{energy.text} and {si(mac)} MAC", energy.value)
        rows.append(
            (
                words(each.name), *(number(value * 1e-12, "J") if value is not None else Cell("") for value in figures),
                energy, words(each.title), words(f"{each.source} ({each.year})"),
            )
        )  # fmt: skip
    costs = Table(
        f"The executed operations of a {audit.noun[:-1]} by other constants",
        ("constants", "AC", "MAC", "membrane update", "energy", "what they are", "source"),
        tuple(rows),
    )
    traffic = summary.memory(audit, cost, dict(known.memories))
    parts = traffic["bytes"]
    moved = sum(parts.values())
    memory = Table(
        f"Memory traffic of a {audit.noun[:-1]}, apart from the figures above",
        ("price", "pJ per byte", "energy", "what it is", "source"),
        tuple(
            (
                words(name), plain(price.pj_per_byte, 2), number(traffic["joules"][name], "J"), words(price.title),
                words(f"{price.source} ({price.year})"),
            )
            for name, price in known.memories.items()
        ),
    )  # fmt: skip
    listed = ", ".join(f"{part} {si(size, 'B', zeros=True)}" for part, size in parts.items())
    text = (
        f"All other energy figures of this report use {cost.name} ({cost.title}; {cost.source}).",
        f"Memory: {si(moved, 'B', zeros=True)} in words of {cost.bits} bits ({listed}). It is never part of a compute "
        "figure.",
    )
    return Section("constants", "Constants and memory", text, tables=(costs, memory))


def provenance(provenance: Provenance) -> Section:
    """Commands that make the run again, configuration, versions, hashes."""
    table = Table(
        "Where this comes from", ("what", "value"), tuple((words(key), words(value)) for key, value in provenance.facts)
    )
    text = ("These commands make the run and this report again:",) if provenance.commands else ()
    return Section("provenance", "Provenance", text, tables=(table,), code=provenance.commands)
