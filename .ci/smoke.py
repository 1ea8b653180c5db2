"""A session from the wheel alone: `python .ci/smoke.py FOLDER`, which holds one wheel.

The wheel is installed into an environment that has nothing else, a NIR graph is written there with `nir`, and the
commands that a light installation has are run on it, in a folder outside the repository. Prints MB and seconds.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = {"spikescr": "spikescr", "export": "spikescr/export", "sim": "spikescr/sim"}
BUT = {"ruff.toml"}
"""Names in the source folders that are no part of the package."""
ABSENT = ("torch", "spikingjelly", "librosa", "lava", "scipy", "matplotlib", "joblib", "requests")
NETWORK = """
import nir
import numpy as np

rng, one = np.random.default_rng(0), np.ones(50)
lif = lambda: nir.LIF(tau=4e-3 * one, r=4 * one, v_leak=0 * one, v_threshold=one)
graph = nir.NIRGraph.from_list(
    nir.Affine(rng.normal(size=(50, 20)), 0.1 * one), lif(), nir.Linear(rng.normal(size=(50, 50)) / 4), lif(),
    nir.Linear(rng.normal(size=(3, 50))),
)
nir.write("network.nir", graph)
np.save("x.npy", (rng.random((40, 8, 20)) < 0.2).astype(float))
"""
RUN = ("simulate", "network.nir", "--input", "x.npy", "--dt", "1e-3", "--input-signal", "spikes")
SESSION = (
    ("--version",),
    ("inspect", "network.nir", "--svg", "network.svg"),
    RUN,
    RUN,
    ("energy", "network-simulation"),
    ("report", "network-simulation"),
    ("fit", "network.nir"),
    ("train", "--list"),
)
REFUSED = {
    ("train", "--data", "folder:nowhere"): "pip install 'spikescr[train]'",
    (*RUN, "--backend", "lava"): "pip install --no-deps --ignore-requires-python lava-nc==0.10.0",
    ("lava",): "Lava does not run here: lava-nc",
}
"""Commands that need more, and what they say."""
FILES = ("network.svg", *(f"network-simulation/{name}" for name in ("audit.npz", "summary.json", "report.html")))


def require_complete(wheel: Path) -> None:
    """Every file of the source folders is in the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    tracked = subprocess.run(
        ["git", "ls-files", *SOURCES], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    ).stdout.split()
    for name in tracked:
        folder, _, rest = name.partition("/")
        if Path(name).name not in BUT and f"{SOURCES[folder]}/{rest}" not in packed:
            sys.exit(f"{wheel.name} lacks {name}")
    print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.2f} MB, {len(packed)} files, complete")


def megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def session(wheel: Path, folder: Path) -> None:
    """Installs and runs everything; ends the process where something is not as it must be."""
    home = folder / "environment"
    venv.create(home, with_pip=True)
    bare, begin = megabytes(home), time.perf_counter()
    pip = [home / "bin/python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*pip, "--constraint", ROOT / "constraints.txt", wheel], check=True, timeout=900)
    print(f"installed: {megabytes(home) - bare:.0f} MB in {time.perf_counter() - begin:.0f} s")
    here = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}

    def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=folder, env=here, capture_output=True, text=True, check=False, timeout=300)

    probe = f"import importlib.util as u; print([n for n in {ABSENT} if u.find_spec(n)])"
    if (found := run(home / "bin/python", "-c", probe)).stdout != "[]\n":
        sys.exit(f"not a bare environment, or no light installation: {found.stdout}{found.stderr}")
    if (found := run(home / "bin/python", "-c", NETWORK)).returncode:
        sys.exit(found.stderr)
    spikescr = home / "bin/spikescr"
    for command in SESSION:
        begin = time.perf_counter()
        found = run(spikescr, *command)
        print(f"{time.perf_counter() - begin:6.2f} s  spikescr {' '.join(command)}")
        if found.returncode or found.stderr.startswith(("error", "warning")):
            sys.exit(f"exit status {found.returncode}\n{found.stdout}{found.stderr}")
    for command, told in REFUSED.items():
        found = run(spikescr, *command)
        if found.returncode not in (1, 2) or found.stderr.count("\n") != 1 or told not in found.stderr:
            sys.exit(f"spikescr {' '.join(command)}: exit status {found.returncode}\n{found.stdout}{found.stderr}")
        print(f"refused:  {found.stderr.strip()}")
    for name in FILES:
        if not (folder / name).stat().st_size:
            sys.exit(f"{name} is empty")


def main() -> None:
    (wheel,) = Path(sys.argv[1]).resolve().glob("*.whl")
    require_complete(wheel)
    with tempfile.TemporaryDirectory() as folder:
        session(wheel, Path(folder))


if __name__ == "__main__":
    main()
