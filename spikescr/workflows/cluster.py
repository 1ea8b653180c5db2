"""Workers of a Dask cluster that work through tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from spikescr.errors import UsageError
from spikescr.extras import naming_extras

_ANSWER_SECONDS = 10.0
"""Within which a scheduler must say who it is."""


def on_cluster(function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], scheduler: str) -> Iterator[Any]:
    """Calls a function with the arguments of each task on Dask's workers; yields what it returns as it comes.

    A worker that dies loses its task to another, as Dask has it.

    Args:
        function: of a module; arguments and results are pickled.
        tasks: arguments of each call.
        scheduler: address.

    Raises:
        UsageError: it is no Dask scheduler with workers.
        Exception: what the function raised.
    """
    with naming_extras("a scheduler (--scheduler)"):
        import joblib
        from distributed import Client

    require_scheduler(scheduler)
    with Client(scheduler, timeout=_ANSWER_SECONDS), joblib.parallel_config(backend="dask"):
        parallel = joblib.Parallel(n_jobs=-1, return_as="generator_unordered")
        yield from parallel(joblib.delayed(function)(*task) for task in tasks)


def require_scheduler(address: str) -> None:
    """Asks who listens at an address; a client would wait without end for what is no scheduler or has no workers.

    Raises:
        UsageError: it is no Dask scheduler with workers; the message says what it is.
    """
    from distributed import rpc

    async def ask() -> dict[str, Any]:
        async with asyncio.timeout(_ANSWER_SECONDS), rpc(address, timeout=_ANSWER_SECONDS / 2) as who:
            answer: dict[str, Any] = await who.identity()
            return answer

    told = "scheduler (--scheduler):"
    try:
        with ThreadPoolExecutor(1) as apart:  # a notebook's own thread has a loop already
            identity = apart.submit(asyncio.run, ask()).result()
    except TimeoutError as error:
        raise UsageError(
            f"{told} {address} accepts connections and never answers: no Dask scheduler, or one that hangs"
        ) from error
    except OSError as error:
        raise UsageError(f"{told} no Dask scheduler answers at {address} ({error})") from error
    except TypeError as error:
        raise UsageError(
            f"{told} {address} needs certificates; name them in Dask's configuration, distributed.comm.tls"
        ) from error
    except ValueError as error:
        raise UsageError(f"{told} {address} is no address like tcp://HOST:8786 ({error})") from error
    except Exception as error:
        raise UsageError(
            f"{told} what answers at {address} is no Dask scheduler ({type(error).__name__}); is it a web page, the "
            "dashboard say?"
        ) from error
    if identity.get("type") != "Scheduler":
        raise UsageError(f"{told} at {address} is a Dask {identity.get('type')}, no scheduler")
    if not identity["workers"]:
        raise UsageError(f"{told} the one at {address} has no workers; start some: dask worker {address}")
