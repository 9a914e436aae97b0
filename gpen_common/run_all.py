"""Run coroutines together."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


async def run_all(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run all `work` at once; return the results in its order. The first failure cancels the rest."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except BaseExceptionGroup as failures:
        failure = failures.exceptions[0]
        del tasks
    else:
        return [task.result() for task in tasks]
    # Outside the except block: the failure keeps its cause, and does not get the group as its context.
    try:
        raise failure
    finally:
        # Its traceback holds this frame.
        del failure, group
