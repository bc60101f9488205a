"""What the double of the Kubeflow Pipelines API reads in a request: uploads, parameters, filters, page tokens."""

import base64
import binascii
import email.parser
import email.policy
import json
from typing import Any
from urllib.parse import unquote_plus

import yaml

Thing = dict[str, Any]
FILTER_KEYS = {
    "pipelines": {"pipeline_id", "name", "display_name", "created_at", "description", "namespace"},
    "pipeline_versions": {
        "pipeline_version_id",
        "name",
        "display_name",
        "created_at",
        "description",
        "pipeline_id",
    },
    "experiments": {
        "experiment_id",
        "display_name",
        "created_at",
        "description",
        "namespace",
        "storage_state",
    },
    "runs": {
        "run_id",
        "display_name",
        "created_at",
        "namespace",
        "experiment_id",
        "state",
        "recurring_run_id",
    },
    "recurringRuns": {
        "recurring_run_id",
        "display_name",
        "created_at",
        "namespace",
        "experiment_id",
        "status",
    },
}
PARAMETER_TYPES: dict[str, tuple[type, ...]] = {
    "NUMBER_INTEGER": (int, float),
    "NUMBER_DOUBLE": (int, float),
    "STRING": (str,),
    "BOOLEAN": (bool,),
    "LIST": (list,),
    "STRUCT": (dict,),
}


INVALID = "Failed to create a pipeline version: the pipeline spec is invalid"


class RefusalError(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def uploaded_pipeline(headers: dict[str, str], body: bytes, literals: bool) -> Thing:
    """Return the pipeline of a multipart body: its specification, with that of its platform if there is one.

    Where the format has no `literals`, a pipeline that has them is as invalid as one with any unknown field.
    """
    head = f"Content-Type: {headers['content-type']}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
    (part,) = message.iter_parts()
    if part.get_param("name", header="content-disposition") != "uploadfile":
        raise RefusalError(400, "Failed to read pipeline from file")
    try:
        documents = list(yaml.load_all(part.get_payload(decode=True), Loader=yaml.CSafeLoader))
    except yaml.YAMLError:
        documents = []
    if not documents or not isinstance(documents[0], dict) or "pipelineInfo" not in documents[0]:
        raise RefusalError(400, INVALID)
    inputs = documents[0].get("root", {}).get("inputDefinitions", {}).get("parameters", {})
    if not literals and any("literals" in each for each in inputs.values()):
        raise RefusalError(400, INVALID)
    if len(documents) == 1:
        return dict(documents[0])
    return dict(zip(("pipeline_spec", "platform_spec"), documents, strict=True))


def check_parameters(version: Thing, parameters: Thing) -> None:
    specification = version["pipeline_spec"]
    root = specification.get("pipeline_spec", specification)["root"]
    inputs = root.get("inputDefinitions", {}).get("parameters", {})
    for name, value in parameters.items():
        if name not in inputs:
            raise RefusalError(400, f"parameter(s) provided are not required by pipeline: {name}")
        kind, literals = inputs[name]["parameterType"], inputs[name].get("literals", [])
        number = not isinstance(value, bool) or kind == "BOOLEAN"
        if not isinstance(value, PARAMETER_TYPES[kind]) or not number:
            raise RefusalError(
                400, f"input parameter {name} requires type {kind}, but the value is of another type"
            )
        if literals and value not in literals:
            raise RefusalError(
                400,
                f'input parameter "{name}" value does not match any of the allowed literal values: {literals}',
            )


def page_of(field: str, things: list[Thing], query: dict[str, str], largest: int) -> Thing:
    """Return a page; its token holds where the next one begins, and for which filter."""
    wanted = json.loads(unquote_plus(query.get("filter", ""))) if query.get("filter") else {}
    token = {"offset": 0, "filter": wanted}
    for predicate in wanted.get("predicates", []):
        if predicate["key"] not in FILTER_KEYS[field]:
            raise RefusalError(400, f'no support for filtering on unrecognized field "{predicate["key"]}"')
    if query.get("page_token"):
        try:
            token = json.loads(base64.b64decode(query["page_token"], validate=True))
        except (binascii.Error, ValueError):
            raise RefusalError(400, "Invalid package token") from None
        if wanted and token["filter"] != wanted:
            raise RefusalError(
                400, "page token does not match the supplied sort by and/or filtering criteria"
            )
    found = [thing for thing in things if _matches(thing, token["filter"])]
    size = min(int(query.get("page_size") or 20), largest)
    end = token["offset"] + size
    following = base64.b64encode(json.dumps({**token, "offset": end}).encode()).decode()
    page = {field: found[token["offset"] : end], "total_size": len(found)}
    return {**page, "next_page_token": following if end < len(found) else ""}


def _matches(thing: Thing, wanted: Thing) -> bool:
    for predicate in wanted.get("predicates", []):
        value = thing.get(predicate["key"]) or ""
        if predicate["operation"] in {"EQUALS", 1}:
            if not same_name(value, predicate["stringValue"]):
                return False
        elif predicate["operation"] in {"IN", 8}:
            if value not in predicate["stringValues"]["values"]:
                return False
        else:
            raise RefusalError(
                400, f"failed to parse valid filter: unknown operation {predicate['operation']}"
            )
    return True


def same_name(one: str, other: str) -> bool:
    return one.casefold() == other.casefold()
