"""What has to change so that Kubeflow's recurring runs are as a schedules file says, and the changing.

Kubeflow cannot change a recurring run and does not keep names unique. So a recurring run is replaced by a new one
and is known by a mark in its description. Its own runs are orphaned when it is deleted: they go on, whereas without
that Kubeflow removes their workflows and shows them as running for ever.

A Kubeflow API server that restarts may lose what it has just answered to. So what was changed is read back, and
changed again where it did not last.
"""

import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from kfp_server_api import (
    V2beta1CronSchedule,
    V2beta1PipelineVersionReference,
    V2beta1RecurringRun,
    V2beta1RuntimeConfig,
    V2beta1Trigger,
)

from gradsift.components.shared.errors import InputError
from gradsift.components.shared.parameters.pipeline_settings import defaults, form_of, parameters_of
from gradsift.pipelines.kubeflow.client import Kubeflow, KubeflowNotFoundError
from gradsift.pipelines.kubeflow.objects import CompiledPipeline, ensure_experiment, ensure_version
from gradsift.pipelines.kubeflow.schedules import Schedule, ScheduleFile

MAX_ROUNDS = 4
"""Number of times that changes are made until they have lasted."""
SETTLING_SECONDS = 3.0
"""Seconds between changes and reading them back."""
MARK = "gradsift-schedule owner={owner} name={name} pipeline={version} content={digest}"
MARK_PATTERN = re.compile(r"gradsift-schedule owner=(\S+) name=(\S+) pipeline=(\S+) content=(\S+)$")


@dataclass(frozen=True)
class OwnedRun:
    """A recurring run that came from a schedules file."""

    run: V2beta1RecurringRun
    owner: str
    name: str
    version: str
    digest: str

    @property
    def id(self) -> str:
        """The recurring run's id."""
        return str(self.run.recurring_run_id)

    @property
    def enabled(self) -> bool:
        """Whether it starts runs."""
        return bool(self.run.status == "ENABLED")


@dataclass(frozen=True)
class Change:
    """What has to be done about the recurring runs of one name.

    Attributes:
        name: the schedule's name.
        wanted: the schedule; None where it is not in the file any more.
        kept: the recurring run that stays as it is, except for being enabled or not; None where one has to be made.
        surplus: the recurring runs that have to go: of other content, or duplicates of the one that is kept.
    """

    name: str
    wanted: Schedule | None
    kept: OwnedRun | None
    surplus: tuple[OwnedRun, ...]

    @property
    def action(self) -> str:
        """One word for it; `keep` where there is nothing to do."""
        if self.wanted is None:
            return "delete"
        if self.kept is None:
            return "replace" if self.surplus else "create"
        if self.kept.enabled != self.wanted.enabled:
            return "enable" if self.wanted.enabled else "disable"
        return "clean" if self.surplus else "keep"


def all_recurring_runs(kubeflow: Kubeflow) -> list[V2beta1RecurringRun]:
    """Return the recurring runs of the namespace, whoever made them."""
    listing = kubeflow.client.recurring_runs.recurring_run_service_list_recurring_runs
    return list(kubeflow.items(listing, "recurring_runs", namespace=kubeflow.namespace or None))


def owned(run: V2beta1RecurringRun) -> OwnedRun | None:
    """Return a recurring run with what its mark says, or None if it did not come from a schedules file.

    A copy that somebody made by hand has another name than its mark says, and is not ours.
    """
    match = MARK_PATTERN.search(run.description or "")
    return OwnedRun(run, *match.groups()) if match and match[2] == run.display_name else None


def runs_of(kubeflow: Kubeflow, owner: str) -> list[OwnedRun]:
    """Return an owner's recurring runs, those with the smallest ids first."""
    found = (owned(run) for run in all_recurring_runs(kubeflow))
    return sorted((run for run in found if run and run.owner == owner), key=lambda run: run.id)


def plan(file: ScheduleFile, version: str, existing: list[OwnedRun]) -> list[Change]:
    """Compare the file with what exists; of equal ones the first is kept.

    Args:
        file: the schedules.
        version: name of the pipeline's version that they are to run.
        existing: the owner's recurring runs, sorted by id, so that all who apply the file keep the same one.
    """
    wanted = {schedule.name: schedule for schedule in file.schedules}
    changes = []
    for name in dict.fromkeys([*wanted, *sorted(run.name for run in existing)]):
        runs = [run for run in existing if run.name == name]
        schedule = wanted.get(name)
        digest = schedule and schedule.digest(version)
        kept = next((run for run in runs if run.digest == digest), None)
        changes.append(Change(name, schedule, kept, tuple(run for run in runs if run is not kept)))
    return changes


def apply(kubeflow: Kubeflow, file: ScheduleFile, pipeline: CompiledPipeline) -> Iterator[Change]:
    """Make the recurring runs as the file says, and yield each change once made.

    What was changed is read back after a few seconds. A change that did not last is made, and yielded, again.

    Raises:
        InputError: Kubeflow cannot be reached, refused something, or lost the changes several times; to apply the
            file again continues.
    """
    version = ensure_version(kubeflow, pipeline)
    changes = plan(file, pipeline.version, runs_of(kubeflow, file.owner))
    for _ in range(MAX_ROUNDS):
        for change in changes:
            _make(kubeflow, change, file.owner, version, pipeline.version)
            yield change
        if not any(_changes_something(change) for change in changes):
            return
        time.sleep(SETTLING_SECONDS)
        changes = plan(file, pipeline.version, runs_of(kubeflow, file.owner))
        changes = [change for change in changes if _changes_something(change)]
    if changes:
        raise InputError(
            f"Kubeflow Pipelines at {kubeflow.host} does not keep the recurring runs of "
            f"{', '.join(change.name for change in changes)} as they were set ({MAX_ROUNDS} tries): expected an "
            "API server that is not restarting; apply the file again then."
        )


def delete(kubeflow: Kubeflow, run: OwnedRun) -> None:
    """Delete a recurring run, if nobody has yet; its runs that have started go on."""
    request = kubeflow.client.recurring_runs.recurring_run_service_delete_recurring_run
    with suppress(KubeflowNotFoundError):
        kubeflow.call(request, run.id, propagation_policy="ORPHAN")


def _changes_something(change: Change) -> bool:
    return change.action != "keep"


def _make(
    kubeflow: Kubeflow, change: Change, owner: str, reference: V2beta1PipelineVersionReference, version: str
) -> None:
    kept, surplus = change.kept, list(change.surplus)
    if change.wanted and not kept:
        _create(kubeflow, change.wanted, owner, reference, version)
        # Somebody may have made the same one meanwhile: all keep the first, the last to look deletes the rest.
        digest = change.wanted.digest(version)
        same = [run for run in runs_of(kubeflow, owner) if run.digest == digest]
        kept = same[0] if same else None
        surplus += same[1:]
    for run in surplus:
        delete(kubeflow, run)
    if change.wanted and kept and kept.enabled != change.wanted.enabled:
        _switch(kubeflow, kept, change.wanted.enabled)


def _switch(kubeflow: Kubeflow, run: OwnedRun, enabled: bool) -> None:
    """Enable or disable a recurring run, if nobody has deleted it."""
    requests = kubeflow.client.recurring_runs
    request = (
        requests.recurring_run_service_enable_recurring_run
        if enabled
        else requests.recurring_run_service_disable_recurring_run
    )
    with suppress(KubeflowNotFoundError):
        kubeflow.call(request, run.id)


def differences(kubeflow: Kubeflow, schedule: Schedule, version: str, old: OwnedRun) -> list[str]:
    """Return in words how a schedule differs from the recurring run that it replaces.

    Args:
        kubeflow: the API.
        schedule: what should be.
        version: name of the pipeline's version that it is to run.
        old: what is.
    """
    after, before = _facts_of_schedule(schedule, version), _facts_of_run(kubeflow, old)
    if not schedule.service_account:
        del before["service account"]  # Kubeflow fills in its own
    return [
        f"{fact}: {_text(before.get(fact))} -> {_text(after.get(fact))}"
        for fact in dict.fromkeys([*before, *after])
        if before.get(fact) != after.get(fact)
    ]


def _create(
    kubeflow: Kubeflow,
    schedule: Schedule,
    owner: str,
    reference: V2beta1PipelineVersionReference,
    version: str,
) -> None:
    """Make a recurring run, disabled: it must not start runs while the one that it replaces does."""
    mark = MARK.format(owner=owner, name=schedule.name, version=version, digest=schedule.digest(version))
    form = form_of(schedule.parameters)
    purpose = f"Fine-tunes for {form['target'][:60]} at {schedule.cron} ({schedule.time_zone})"
    body = V2beta1RecurringRun(
        display_name=schedule.name,
        description=f"{purpose}. Kept by `gradsift schedule apply` for {owner}: {mark}",
        experiment_id=ensure_experiment(kubeflow, schedule.experiment),
        pipeline_version_reference=reference,
        runtime_config=V2beta1RuntimeConfig(parameters=form),
        trigger=V2beta1Trigger(
            cron_schedule=V2beta1CronSchedule(
                cron=schedule.cron, start_time=schedule.start, end_time=schedule.end
            )
        ),
        max_concurrency=str(schedule.max_concurrency),
        no_catchup=schedule.no_catchup,
        mode="DISABLE",
        service_account=schedule.service_account,
    )
    kubeflow.call(kubeflow.client.recurring_runs.recurring_run_service_create_recurring_run, body)


def _facts_of_schedule(schedule: Schedule, version: str) -> dict[str, Any]:
    return {
        "cron": schedule.cron,
        "start": schedule.start,
        "end": schedule.end,
        "max_concurrency": schedule.max_concurrency,
        "no_catchup": schedule.no_catchup,
        "experiment": schedule.experiment,
        "service account": schedule.service_account,
        "pipeline version": version,
        **{**defaults(), **schedule.parameters},
    }


def _facts_of_run(kubeflow: Kubeflow, old: OwnedRun) -> dict[str, Any]:
    run = old.run
    timing = run.trigger.cron_schedule
    get_experiment = kubeflow.client.experiments.experiment_service_get_experiment
    return {
        "cron": timing.cron,
        "start": timing.start_time,
        "end": timing.end_time,
        "max_concurrency": int(run.max_concurrency),
        "no_catchup": bool(run.no_catchup),
        "experiment": kubeflow.call(get_experiment, run.experiment_id).display_name,
        "service account": run.service_account or None,
        "pipeline version": old.version,
        **{**defaults(), **parameters_of((run.runtime_config and run.runtime_config.parameters) or {})},
    }


def _text(value: Any) -> str:
    return "nothing" if value is None else str(value)
