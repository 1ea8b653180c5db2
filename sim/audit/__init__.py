"""The energy audit: one run's counts by every convention, why conventions differ, constants, memory, decisions."""
