"""Divides an extraction among processes, one a GPU; the shards of each are its own, so no file has two writers."""

import os
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from multiprocessing.queues import SimpleQueue
from typing import Any

from gradsift.components.gradient_extraction.shards.parts import ShardPlan
from gradsift.components.gradient_extraction.shards.shard_writing import ExtractionJob, write_share
from gradsift.components.shared.errors import ExtractionError
from gradsift.components.shared.gradient_store.gradient_format import ShardRecord, StoreHeader
from gradsift.components.shared.process.lifeline import hold_lifeline, lifeline
from gradsift.components.shared.process.protection import protect_process

POLL_SECONDS = 0.2

_progress: "SimpleQueue[int]"


def write_shards(
    job: ExtractionJob, report: Callable[[int], None]
) -> tuple[StoreHeader, dict[ShardPlan, ShardRecord]]:
    """Write all shards of a part of an extraction, in this process or in several.

    Args:
        job: the extraction.
        report: called with the number of rows as they are done.

    Returns:
        The store's header and the records of the part's shards.

    Raises:
        ExtractionError: a process ended without a result.
    """
    if job.processes == 1:
        return write_share(job, 0, report)
    context = get_context("spawn")
    queue: SimpleQueue[int] = context.SimpleQueue()
    with ProcessPoolExecutor(
        job.processes, context, initializer=_start_process, initargs=(queue, lifeline())
    ) as pool:
        shares = [pool.submit(_write_share, job, process) for process in range(job.processes)]
        _follow(shares, queue, report)
        try:
            results = [share.result() for share in shares]
        except BrokenProcessPool as error:
            raise ExtractionError(
                f"One of the {job.processes} extraction processes was ended from outside, for want of memory "
                "perhaps; started again, the extraction continues with the shards that are missing."
            ) from error
    return results[0][0], {plan: record for _, records in results for plan, record in records.items()}


def _follow(shares: list[Future[Any]], queue: "SimpleQueue[int]", report: Callable[[int], None]) -> None:
    """Pass on the progress until every process is done or one has failed."""
    unfinished = {*shares}
    while unfinished:
        done, unfinished = wait(unfinished, POLL_SECONDS)
        while not queue.empty():
            report(queue.get())
        if any(share.exception() for share in done):
            return


def _start_process(queue: "SimpleQueue[int]", environment: dict[str, str]) -> None:
    global _progress
    _progress = queue
    os.environ.update(environment)
    protect_process()
    hold_lifeline()


def _write_share(job: ExtractionJob, process: int) -> tuple[StoreHeader, dict[ShardPlan, ShardRecord]]:
    return write_share(job, process, _progress.put)
