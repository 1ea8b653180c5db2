"""Energy of counted operations, in joules."""

from __future__ import annotations

from dataclasses import dataclass

PICO = 1e-12


@dataclass(frozen=True)
class EnergyCost:
    """Energy of one operation in picojoules, with where the figures come from."""

    name: str
    ac_pj: float
    mac_pj: float
    source: str

    def joules(self, ac: int, mac: int) -> float:
        """Energy of accumulations and multiply-accumulates, J."""
        return (ac * self.ac_pj + mac * self.mac_pj) * PICO


HOROWITZ_45NM = EnergyCost(
    name="horowitz2014-45nm-fp32",
    ac_pj=0.9,
    mac_pj=4.6,
    source="M. Horowitz, Computing's energy problem, ISSCC 2014: 32-bit floating-point add 0.9 pJ, multiply 3.7 pJ",
)
