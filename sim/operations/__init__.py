"""What a Program is made of, a class for each operation: what it computes, what it counts, and facts about it.

`spikescr.sim.program` has all of it, and the Program.
"""
