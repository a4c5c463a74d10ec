"""The server's description as OpenAPI 3.1, generated from the bundle's input contract."""

from __future__ import annotations

from typing import Any

from penstock.serve.contract import MAX_TEXT, Column
from penstock.serve.door import MAX_RECORDS
from penstock.serve.model import Model

_PROBLEMS = {
    400: "Not strict JSON",
    408: "The request was not whole within the deadline",
    413: "Too many bytes or records",
    415: "Not application/json, or compressed",
    422: "Records that do not hold against the contract; up to 20 faults with row and field",
    503: "No model yet, too many requests at once, or no answer within the deadline",
}


def describe(model: Model | None, *, token: bool = False) -> dict[str, Any]:
    """An OpenAPI 3.1 document as plain data.

    Parameters
    ----------
    model : Model or None
        Without a model the record's shape is left open.
    token : bool, default=False
        Whether the server asks for a secret.
    """
    name = model.workflow if model else "penstock"
    schemas = {
        "Record": _record(model),
        "Request": _object(
            {
                "records": {
                    "type": "array",
                    "items": {"$ref": "#/components/schemas/Record"},
                    "minItems": 1,
                    "maxItems": MAX_RECORDS,
                }
            },
            closed=True,
        ),
        "Prediction": _prediction(model),
        "Answer": _object(
            {
                "model": {"type": "string", "description": "WORKFLOW@VERSION"},
                "predictions": {"type": "array", "items": {"$ref": "#/components/schemas/Prediction"}},
            }
        ),
        "Problem": _problem(),
    }
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": f"{name}: predictions", "version": str(model.version) if model else "0"},
        "paths": _paths(),
        "components": {"schemas": schemas},
    }
    if token:
        document["components"]["securitySchemes"] = {"secret": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"secret": []}]
    return document


def _paths() -> dict[str, Any]:
    answer = _content("Answer") | {"headers": {"x-penstock-model": {"schema": {"type": "string"}}}}
    predict = {
        "operationId": "predict",
        "summary": "Answer records",
        "requestBody": {"required": True, **_content("Request")},
        "responses": {"200": {"description": "One answer a record, in order", **answer}} | _problems(*_PROBLEMS),
    }
    open_to_all: dict[str, Any] = {"security": []}
    return {
        "/predict": {"post": predict},
        "/healthz": {"get": _state("healthz", "Whether the process lives", 200) | open_to_all},
        "/readyz": {"get": _state("readyz", "Whether a model answers", 200, 503) | open_to_all},
        "/model": {"get": _state("model", "The model, what it follows and what it counted", 200)},
        "/openapi.json": {"get": _state("openapi", "This description", 200)},
    }


def _state(name: str, summary: str, *statuses: int) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status in statuses:
        responses |= (
            {"200": {"description": summary, "content": {"application/json": {"schema": {"type": "object"}}}}}
            if status == 200
            else _problems(status)
        )
    return {"operationId": name, "summary": summary, "responses": responses}


def _problems(*statuses: int) -> dict[str, Any]:
    return {str(status): {"description": _PROBLEMS[status], **_content("Problem")} for status in statuses}


def _content(schema: str) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}}


def _object(properties: dict[str, Any], *, closed: bool = False, optional: tuple[str, ...] = ()) -> dict[str, Any]:
    made: dict[str, Any] = {"type": "object", "properties": properties}
    made["required"] = [name for name in properties if name not in optional]
    if closed:
        made["additionalProperties"] = False
    return made


def _record(model: Model | None) -> dict[str, Any]:
    if model is None:
        return {"type": "object"}
    record = _object({column.name: _column(column) for column in model.contract.columns})
    return record | {"additionalProperties": {"type": ["string", "number", "boolean", "null"]}}


def _column(column: Column) -> dict[str, Any]:
    nullable = column.missing == "allow"
    kinds = _kinds(column) + (["null"] if nullable else [])
    made: dict[str, Any] = {"type": kinds if len(kinds) > 1 else kinds[0]}
    if column.kind == "text":
        made["maxLength"] = MAX_TEXT
    if column.kind == "datetime":
        made["format"] = "date-time"
    if column.bounds is not None:
        made["minimum"], made["maximum"] = column.bounds
    if column.categories is not None:
        if column.unseen == "refuse":
            made["enum"] = [*column.categories, *([None] if nullable else [])]
        else:
            made["examples"] = list(column.categories[:5])
    return made


def _kinds(column: Column) -> list[str]:
    """JSON Schema's words for what a column takes; a column of objects may take several."""
    if column.kind == "text":
        words = {str: "string", bool: "boolean", int: "integer", float: "number"}
        return ["string"] if column.kinds <= {str} else sorted({words[kind] for kind in column.kinds})
    return [{"number": "number", "integer": "integer", "boolean": "boolean"}.get(column.kind, "string")]


def _prediction(model: Model | None) -> dict[str, Any]:
    task = model.contract.raw["task"] if model else ""
    label: dict[str, Any] = {"description": "The predicted class"}
    if model and model.contract.raw.get("classes"):
        label["enum"] = list(model.contract.raw["classes"])
    unseen = {"type": "array", "items": {"type": "string"}, "description": "Fields with a level new to the model"}
    fields: dict[str, Any] = {"id": {"type": "string", "description": "Names this prediction in the log"}}
    if task == "regression":
        fields["value"] = {"type": "number"}
    elif task == "multiclass":
        fields |= {"label": label, "scores": {"type": "object", "additionalProperties": {"type": "number"}}}
    elif task == "binary":
        fields |= {"label": label, "score": {"type": "number", "description": "Of the positive class"}}
        if model and model.contract.raw.get("threshold") is not None:
            said = f"{model.contract.raw['positive']!r} from this score on"
            fields["threshold"] = {"type": "number", "description": said, "const": model.contract.raw["threshold"]}
    return _object(fields | {"unseen": unseen}, optional=("unseen", "scores"))


def _problem() -> dict[str, Any]:
    fault = _object({name: {"type": "string"} for name in ("field", "fault")} | {"row": {"type": "integer"}})
    return _object(
        {
            "error": {"type": "string"},
            "id": {"type": "string"},
            "faults": {"type": "array", "maxItems": 20, "items": fault},
        },
        optional=("faults",),
    )
