"""Lava's message infrastructure, fitted for many small processes that must never outlive their parent.

Lava starts two threads for every channel, one at each end, which costs two thread switches for every message. Here a
port waits on the channel's semaphore itself. Only the channels between the host and the runtime service keep Lava's
own ports: both their ends wait on several things at once.
"""

from __future__ import annotations

import ctypes
import gc
import mmap
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import Semaphore
from typing import Any

import numpy as np
from lava.magma.compiler.channels.interfaces import Channel, ChannelType
from lava.magma.compiler.channels.pypychannel import CspRecvPort, CspSendPort, Proto
from lava.magma.compiler.channels.watchdog import NoOPWatchdog
from lava.magma.runtime.message_infrastructure.multiprocessing import MultiProcessing, SystemProcess

from spikescr.sim.program import FloatArray

_PR_SET_PDEATHSIG = 1


def bind_to_parent(parent: int) -> None:
    """Make this child end with its parent (Linux) and leave Ctrl-C to the parent; BLAS threads are set by the fork."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the call above
            os._exit(1)


class StepSendPort(CspSendPort):
    """The sending end of a channel, without a thread."""

    _idx: int

    def start(self) -> None:
        """Map the ring of messages."""
        self._array = _ring(self)
        self._free = self._size

    def send(self, data: FloatArray) -> None:
        """Copy `data` into the ring; blocks while the ring is full."""
        if data.shape != self._shape:
            raise ValueError(f"port {self._name} sends shape {self._shape}, got {data.shape}")
        if self._free:
            self._free -= 1
        else:
            self._ack.acquire()
        self._array[self._idx][...] = data
        self._idx = (self._idx + 1) % self._size
        self._req.release()


class StepRecvPort(CspRecvPort):
    """The receiving end of a channel, without a thread."""

    _idx: int

    def start(self) -> None:
        """Map the ring of messages."""
        self._array = _ring(self)

    def recv(self) -> FloatArray:
        """A copy of the next message; blocks until there is one."""
        self._req.acquire()
        data: FloatArray = self._array[self._idx].copy()
        self._idx = (self._idx + 1) % self._size
        self._ack.release()
        return data


def _ring(port: CspSendPort | CspRecvPort) -> list[FloatArray]:
    return list(np.ndarray((port._size, *port._shape), port._dtype, port._shm.buf))


class StepChannel(Channel):
    """A ring of `size` messages in shared memory and its two ends; the watchdogs of Lava are not used."""

    def __init__(
        self,
        infrastructure: Infrastructure,
        src_name: str,
        dst_name: str,
        shape: tuple[int, ...],
        dtype: type,
        size: int,
        *_watchdogs: object,
    ) -> None:
        nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        memory = infrastructure.smm.create_shared_memory(nbytes * size)
        common = (memory, Proto(shape, dtype, nbytes), size, Semaphore(0), Semaphore(0), *[NoOPWatchdog(None)] * 2)
        with_host = src_name.startswith(("runtime_to_service", "service_to_runtime"))
        self._src_port = (CspSendPort if with_host else StepSendPort)(src_name, *common)
        self._dst_port = (CspRecvPort if with_host else StepRecvPort)(dst_name, *common)

    @property
    def src_port(self) -> CspSendPort:
        """The sending end."""
        return self._src_port

    @property
    def dst_port(self) -> CspRecvPort:
        """The receiving end."""
        return self._dst_port


@dataclass(frozen=True)
class Memory:
    """A piece of shared memory, as Lava's ports want it: the bytes are `buf`."""

    buf: memoryview


class AnonymousMemory:
    """Gives shared memory that forked children inherit, in place of Lava's manager process with named blocks.

    Nothing has to be removed, however the processes end, and the size of /dev/shm (64 MB in containers) is no limit.
    """

    def create_shared_memory(self, size: int) -> Memory:
        """`size` bytes of zeros."""
        return Memory(memoryview(mmap.mmap(-1, size)))


class Infrastructure(MultiProcessing):
    """Step channels, and actors that are bound to their parent."""

    def start(self) -> None:
        """Make ready to build channels; no process is needed for it."""
        self._smm = AnonymousMemory()

    def build_actor(self, target_fn: Callable[..., None], builder: Any, exception_q: Any = None) -> SystemProcess:
        """Start a process that runs `target_fn(builder=..., exception_q=...)`."""
        # A daemon: multiprocessing ends it at exit should an interrupt come before the backend can be closed.
        actor = SystemProcess(target=_run_actor, args=(os.getpid(), target_fn, builder, exception_q), daemon=True)
        actor.start()
        self._actors.append(actor)
        return actor

    def channel_class(self, channel_type: ChannelType) -> type[Channel]:
        """Step channels; no other type occurs."""
        if channel_type != ChannelType.PyPy:
            raise ValueError(f"only channels between Python processes are built here, not {channel_type.name}")
        return StepChannel

    def kill(self) -> None:
        """End all processes at once; a second call does nothing."""
        for actor in self._actors:
            if not actor._is_done:
                actor.kill()
        for actor in self._actors:
            actor.join()


def _run_actor(parent: int, target_fn: Callable[..., None], builder: Any, exception_q: Any) -> None:
    bind_to_parent(parent)
    gc.freeze()  # a collection of garbage would copy every page of what the parent has imported
    target_fn(builder=builder, exception_q=exception_q)
