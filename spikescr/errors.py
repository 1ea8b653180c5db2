"""Errors that a user can cause or meet; the command line prints them as one line."""

from __future__ import annotations


class SpikescrError(Exception):
    """What is wrong, where (file, node, field) and what to do, in one line; exit status 1."""

    exit_status = 1


class UsageError(SpikescrError):
    """The command or its arguments cannot be meant; exit status 2."""

    exit_status = 2


class DataError(SpikescrError):
    """A recording, folder or data set that cannot be used; the message names the path."""


class CheckpointError(SpikescrError):
    """A weights file that cannot be read or does not fit; the message names the file."""


class ExportError(SpikescrError):
    """A model that cannot be folded or expressed in the dialect; the message names the module."""


class GraphError(SpikescrError):
    """A NIR graph that the simulator cannot run; the message names node and field."""


class BackendError(SpikescrError):
    """A simulation that failed while it ran; the message names the operation and the step."""
