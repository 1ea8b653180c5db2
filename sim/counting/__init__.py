"""A run's counts added up, by every convention: why they differ, constants, memory, decisions, what is reported."""
