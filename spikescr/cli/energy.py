"""`spikescr energy`: what a simulation cost by every convention of counting, and why conventions differ."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from rich.box import SIMPLE_HEAD
from rich.table import Table

from spikescr.cli.before import sentence
from spikescr.cli.text import percent, si, wide_console
from spikescr.errors import UsageError
from spikescr.runs import DEFAULT_RUN, LOIHI2

if TYPE_CHECKING:
    from rich.console import Console

    from spikescr.sim.counting.saved import Audit

DEFAULT_COST = "horowitz2014-45nm-fp32"  # sim.counting.energy has it too
INTEGER_COSTS = ("horowitz2014-45nm-int8", "horowitz2014-45nm-int32")

EPILOG = """\b
Example: one run by all conventions; why SpikingJelly's figure is another; two runs compared.
  spikescr energy
  spikescr energy runs/demo --from executed --to spikingjelly --layers
  spikescr energy --compare runs/steps100 runs/steps40
  spikescr energy network-simulation          # of any graph
Reads simulation/audit.npz of each run, or audit.npz of each folder that `spikescr simulate GRAPH` wrote; nothing is
simulated again.
"""

OF_ONE_RUN = {"start", "layers", "per_step"}  # options, by the name of their parameter, that --compare has no use for


@click.command(epilog=EPILOG)
@click.argument("runs", nargs=-1, type=click.Path(path_type=Path), metavar="[RUN]...")
@click.option("--from", "start", default="paper", show_default=True, help="Convention to start the explanation from.")
@click.option("--to", "end", default="executed", show_default=True, help="Convention to end it with.")
@click.option("--cost", default=DEFAULT_COST, show_default=True, help="Constants of the energy figures.")
@click.option("--constants", type=click.Path(path_type=Path), help="TOML file with more constants.")
@click.option("--layers", is_flag=True, help="Also the energy of each layer by each convention.")
@click.option("--per-step", is_flag=True, help="Also the executed energy of each layer at each executed step.")
@click.option("--compare", is_flag=True, help="The change of energy by --to from the first run to each of the others.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write everything to this file.")
@click.pass_context
def command(
    ctx: click.Context,
    runs: tuple[Path, ...],
    start: str,
    end: str,
    cost: str,
    constants: Path | None,
    layers: bool,
    per_step: bool,
    compare: bool,
    file: Path | None,
) -> None:
    """Print what a simulation cost, by every convention of counting, and why they differ."""
    from spikescr.files import write_text
    from spikescr.sim.counting.conventions import CONVENTIONS
    from spikescr.workflows.energy import compare as compared
    from spikescr.workflows.energy import everything, known_constants, open_audit

    known = known_constants(constants, cost)
    for option, name in (("--from", start), ("--to", end)):
        if name not in CONVENTIONS:
            raise UsageError(f"{option} {name}: no such convention; known: {', '.join(CONVENTIONS)}")
    if compare and len(runs) < 2:
        raise UsageError("--compare needs two runs or more")
    if compare:
        for each in ctx.command.params:
            if each.name in OF_ONE_RUN and ctx.get_parameter_source(each.name) is ParameterSource.COMMANDLINE:
                raise UsageError(f"{each.opts[0]}: is told of one run, not with --compare")
    if not compare and len(runs) > 1:
        raise UsageError("one run at a time; several are compared with --compare")
    audits = [(str(path), open_audit(path)) for path in runs or (DEFAULT_RUN,)]
    console = wide_console()
    if compare:
        rows = compared(audits, known.costs[cost], end)
        content = {"cost": known.costs[cost].model_dump(), "convention": end, "runs": dict(rows)}
        _show_comparison(console, rows, audits, f"Energy per {audits[0][1].noun[:-1]} by `{end}`, {cost}")
    else:
        audit = audits[0][1]
        for option, name in (("start", start), ("end", end)):
            if ctx.get_parameter_source(option) is ParameterSource.COMMANDLINE:
                audit.charged(name)  # or says why it cannot be
        content = everything(audit, known, cost, start, end)
        _show(console, audit, content, layers=layers, per_step=per_step)
    if file is not None:
        write_text(file, json.dumps(content, indent=1) + "\n")
        console.print(f"wrote {file}")


def _print(console: Console, title: str, table: Table) -> None:
    console.print(f"\n{title}")
    console.print(table)


def _table(*columns: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    return table


def _show(console: Console, audit: Audit, content: dict[str, Any], *, layers: bool, per_step: bool) -> None:
    cost = content["cost"]
    title = f"Mean of {audit.samples} {audit.noun} by convention of counting, {cost['name']}"
    _print(console, title, _convention_table(content, audit.noun))
    before = content["before_network"]
    if before is not None:
        console.print(sentence(before, audit.noun[:-1]), soft_wrap=True)
        if before["stages"]:
            _print(console, f"Before the network: {before['title']}, mean per {audit.noun[:-1]}", _stage_table(before))
    for name, why in content["not_evaluated"].items():
        console.print(f"{name} cannot be evaluated on this run: {why}", soft_wrap=True)
    way = content["reconciliation"]
    if way is not None:
        _print(console, f"From {way['from']} to {way['to']}", _reconciliation_table(content))
    if cost["mac_pj"] is None and any(row["mac"] for row in content["conventions"].values()):
        console.print(f"{cost['name']} has no energy of a MAC: these energies are of AC alone")
    if layers:
        _print(console, "Energy of each layer", _layer_table(content))
    if per_step:
        title = f"Each layer at each executed step: executed energy, mean ± spread over {audit.noun}; memory traffic"
        _print(console, title, _step_table(content))
    _print(console, "The executed operations by other constants", _constant_table(content))
    updates = [row["name"] for row in content["constants"].values() if row["neuron_pj"]]
    if updates:
        console.print(f"{', '.join(updates)}: membrane updates included here, in no other table")
    if content["about"].get("precision") == LOIHI2:
        eight, wide = (si(content["constants"][name]["executed_j"], "J") for name in INTEGER_COSTS)
        floating = si(content["constants"][DEFAULT_COST]["executed_j"], "J")
        console.print(
            f"computed in fixed point: {eight} by {INTEGER_COSTS[0]}, beside {floating} by {DEFAULT_COST}; the sums "
            f"have 24 bits, whose additions lie between these 8 bits and 32 ({wide})",
            soft_wrap=True,
        )
    memory = content["memory"]
    moved = ", ".join(f"{part} {si(count, 'B')}" for part, count in memory["bytes"].items())
    prices = ", ".join(f"{si(j, 'J')} ({name})" for name, j in memory["joules"].items())
    console.print(f"memory traffic, apart ({cost['bits']}-bit words): {moved}; {prices}")
    decision = content["decision"]
    if decision is not None:
        console.print(
            f"predictions were final at step {decision['step']:.1f} ± {decision['step_spread']:.1f} "
            f"({percent(decision['share'])} of a {audit.noun[:-1]}), {si(decision['joules'], 'J')} executed until then"
        )
    console.print(f"operations that no cause explains: {content['unexplained_operations']:g}")


def _convention_table(content: dict[str, Any], noun: str) -> Table:
    before = content["before_network"]
    more = () if before is None else ("before the network",)
    table = _table(
        "convention", "AC", "MAC", "energy" if before is None else "network", f"± {noun}", "of executed", *more
    )
    executed = content["conventions"]["executed"]["joules"]
    for name, row in content["conventions"].items():
        ratio = f"{row['joules'] / executed:.2f}" if executed else ""
        figures = (si(row["ac"]), si(row["mac"]), si(row["joules"], "J"), _spread(row["spread_j"]), ratio)
        table.add_row(name, *figures, *(_before(before, row) for _ in more))
    return table


def _before(before: dict[str, Any], convention: dict[str, Any]) -> str:
    """What stands beside the figure of a convention that claims to be end to end."""
    if not convention["end_to_end"]:
        return ""
    if not before["stages"]:
        return "not counted"
    return "no price" if before["joules"] is None else si(before["joules"], "J")


def _stage_table(before: dict[str, Any]) -> Table:
    table = _table("stage", "additions", "multiplications", "energy")
    for row in (*before["stages"], {**before, "stage": "total"}):
        if row["stage"] == "total":
            table.add_section()
        energy = "" if row["joules"] is None else si(row["joules"], "J")
        table.add_row(row["stage"], si(row["additions"]), si(row["multiplications"]), energy)
    return table


def _reconciliation_table(content: dict[str, Any]) -> Table:
    way = content["reconciliation"]
    table = _table("", "AC", "MAC", "energy", f"of {way['from']}")
    start, end = (content["conventions"][way[key]] for key in ("from", "to"))
    rows = [(way["from"], start), *((c.replace("_", " "), row) for c, row in way["causes"].items()), (way["to"], end)]
    for number, (name, row) in enumerate(rows):
        if number == len(rows) - 1:
            table.add_section()
        share = percent(row["joules"] / start["joules"]) if start["joules"] else ""
        table.add_row(name, si(row["ac"]), si(row["mac"]), si(row["joules"], "J"), share)
    return table


def _layer_table(content: dict[str, Any]) -> Table:
    table = _table("layer", "rate", *content["conventions"])
    for row in content["layers"]:
        energies = (si(joules, "J") if joules else "" for joules in row["joules"].values())
        table.add_row(row["layer"], percent(row["firing_rate"]), *energies)
    return table


def _step_table(content: dict[str, Any]) -> Table:
    steps = content["per_step"]
    active = [row for row, means in enumerate(steps["mean_j"]) if any(means)]
    table = _table("layer", "step", "energy", "±", "traffic")
    for row in active:
        figures = zip(*(steps[key][row] for key in ("mean_j", "spread_j", "mean_bytes")), strict=True)
        for step, (mean, spread, moved) in enumerate(figures):
            if mean or spread or moved:
                table.add_row(steps["layers"][row], str(step), si(mean, "J"), si(spread, "J"), si(moved, "B"))
    return table


def _constant_table(content: dict[str, Any]) -> Table:
    columns = ("constants", "AC", "MAC", "neuron", "energy", "what they are")
    table = _table(*columns)
    mac = content["conventions"]["executed"]["mac"]
    for name, row in content["constants"].items():
        figures = [
            si(row[key] * 1e-12, "J") if row[key] is not None else "" for key in ("ac_pj", "mac_pj", "neuron_pj")
        ]
        free = f" and {si(mac)} MAC" if row["mac_pj"] is None and mac else ""
        table.add_row(name, *figures, si(row["executed_j"], "J") + free, f"{row['title']}, {row['year']}")
    return table


def _show_comparison(
    console: Console, rows: list[tuple[str, dict[str, Any]]], audits: list[tuple[str, Audit]], title: str
) -> None:
    first, noun = audits[0], audits[0][1].noun
    headings = ("run", "steps/s", noun, "accuracy", "energy", f"± {noun}", "change", "95 % interval")
    table = _table(*headings)
    for path, row in rows:
        change = interval = ""
        if "change" in row:
            change = f"{100 * row['change']['change']:+.1f} %"
            interval = f"{100 * row['change']['low']:+.1f} to {100 * row['change']['high']:+.1f} %"
        table.add_row(
            path, str(row["steps_per_second"]), str(row["samples"]), percent(row["accuracy"], 2),
            si(row["joules"], "J"), _spread(row["spread_j"]), change, interval,
        )  # fmt: skip
    _print(console, title, table)
    for path, row in rows[1:]:
        if not row["change"]["paired"]:
            console.print(f"{path}: other {noun} than of {first[0]}; their intervals are drawn apart")


def _spread(joules: float | None) -> str:
    return "" if joules is None else si(joules, "J")
