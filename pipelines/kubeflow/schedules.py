"""The schedules file: the recurring runs that should be, checked before anything is sent."""

import hashlib
import json
import re
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import available_timezones

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from gradsift.components.shared.documents.texts import single_line
from gradsift.components.shared.documents.yaml_document import MAX_YAML_BYTES, load_yaml
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.parameters.kubernetes import SUBDOMAIN
from gradsift.components.shared.parameters.pipeline_settings import PipelineSettings
from gradsift.components.shared.storage.bounded_reading import read_local_file
from gradsift.pipelines.kubeflow.cron import with_seconds
from gradsift.pipelines.kubeflow.objects import MAX_NAME
from gradsift.pipelines.parameters import typed_parameters

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=50)]


def _zone(name: str) -> str:
    if name != "UTC" and name not in available_timezones():
        raise ValueError(f"is {name!r}: expected an IANA name such as 'UTC' or 'Europe/Berlin'")
    return name


def _service_account(name: str) -> str:
    if len(name) > 253 or not re.fullmatch(SUBDOMAIN, name):
        raise ValueError(
            f"is {name!r}: expected lower-case letters, digits, '-' and '.', as Kubernetes takes"
        )
    return name


Zone = Annotated[str, AfterValidator(_zone)]
ServiceAccount = Annotated[str, AfterValidator(_service_account)]


class Schedule(BaseModel):
    """A recurring run as it should be."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    """Name of the recurring run, unique in the file."""
    cron: Annotated[str, AfterValidator(with_seconds)]
    """When to run: five fields, or six that begin with the second; kept with six."""
    time_zone: Zone
    """The zone that `cron` means: Kubeflow has one for all, so it must be the file's `cluster_time_zone`."""
    experiment: Annotated[str, AfterValidator(single_line)] = Field(default="gradsift", max_length=MAX_NAME)
    """Experiment of the runs."""
    parameters: dict[str, bool | int | float | str | list[Any] | dict[str, Any]] = {}
    """Pipeline parameters that differ from their defaults; kept with the types of the defaults."""
    enabled: bool = True
    """Whether runs are started."""
    max_concurrency: int = Field(default=1, ge=1, le=10)
    """Largest number of its runs at one time."""
    no_catchup: bool = True
    """Whether times that were missed, as while it was disabled, are left out instead of made up for."""
    start: AwareDatetime | None = None
    """No run before this time, which has an offset such as +01:00."""
    end: AwareDatetime | None = None
    """No run after this time."""
    service_account: ServiceAccount | None = None
    """Kubernetes service account of the runs' pods; none means Kubeflow's own."""

    def digest(self, version: str) -> str:
        """Return a hash of all that makes a recurring run another one.

        Whether it is enabled does not: that can be switched.

        Args:
            version: name of the pipeline's version.
        """
        content = {"version": version, **self.model_dump(mode="json", exclude={"enabled"})}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


class ScheduleFile(BaseModel):
    """A schedules file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    owner: Name = "gradsift"
    """Mark of the recurring runs that come from this file: a file never touches those of another owner."""
    cluster_time_zone: Zone = "UTC"
    """The zone that Kubeflow reads cron in, which its API does not tell: its `CRON_SCHEDULE_TIMEZONE`."""
    schedules: list[Schedule]
    """The schedules; those of this owner that are not here any more are deleted."""


def read_schedules(path: Path) -> ScheduleFile:
    """Read and check a schedules file, with the parameters of each schedule.

    Raises:
        InputError: the file or something in it is not as expected; the message names the schedule and the field.
        StorageError: the file cannot be read.
    """
    expected = "a mapping with 'schedules'"
    content = load_yaml(read_local_file(path, MAX_YAML_BYTES), f"The schedules file {path}", expected)
    if not isinstance(content, dict):
        raise InputError(f"The schedules file {path} holds no mapping: expected one with 'schedules'.")
    try:
        file = ScheduleFile.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{path}: {_first_fault(error, content)}.") from None
    names = [schedule.name for schedule in file.schedules]
    for schedule in file.schedules:
        where = f"{path}: schedule {schedule.name!r}"
        if names.count(schedule.name) > 1:
            raise InputError(f"{where} is there twice: expected another name for each.")
        if schedule.time_zone != file.cluster_time_zone:
            raise InputError(
                f"{where}, field 'time_zone' is {schedule.time_zone!r}, but Kubeflow reads every cron in one zone, "
                f"here {file.cluster_time_zone!r}: expected a cron in that zone, or the cluster's own zone in "
                "'cluster_time_zone'."
            )
        if schedule.start and schedule.end and schedule.end <= schedule.start:
            raise InputError(f"{where}, field 'end' is not after 'start': expected a later time.")
    return file.model_copy(
        update={"schedules": [_with_parameters(schedule, str(path)) for schedule in file.schedules]}
    )


def _with_parameters(schedule: Schedule, where: str) -> Schedule:
    try:
        parameters = typed_parameters(schedule.parameters)
        PipelineSettings.of(parameters)
    except InputError as error:
        raise InputError(f"{where}: schedule {schedule.name!r}, field 'parameters': {error}") from None
    return schedule.model_copy(update={"parameters": parameters})


def _first_fault(error: ValidationError, content: dict[str, Any]) -> str:
    fault = error.errors()[0]
    path = list(fault["loc"])
    place = ""
    if path[0] == "schedules" and len(path) > 1:
        entry = content["schedules"][path[1]]
        name = entry.get("name") if isinstance(entry, dict) else None
        place = f"schedule {name!r}, " if isinstance(name, str) else f"schedules[{path[1]}], "
        path = path[2:]
    field = ".".join(str(part) for part in path[:2])
    message = fault["msg"].removeprefix("Value error, ")
    if path[:1] == ["parameters"]:
        message = "expected a text, a number, true, false, a list or a mapping"
    joint = " " if message.startswith("is ") else ": "
    return f"{place}field {field!r}{joint}{message[0].lower()}{message[1:]}" if field else f"{place}{message}"
