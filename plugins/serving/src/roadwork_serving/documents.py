"""The JSON documents that clients send and get, as the OpenAPI page shows them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .refusals import Refusal


class Decision(BaseModel):
    """What the bundle says of one picture; with `error` there is no decision."""

    path: str | None = Field(description="the picture's name, if the request gave one")
    label: str | None = Field(None, description="the class, or null for an abstention")
    abstain: bool | None = None
    score: float | None = Field(None, ge=0, le=1, description="P(positive class) as the policy sees it")
    set: list[str] | None = Field(None, description="the prediction set")
    policy: str | None = Field(None, description="who decided")
    reason: str | None = None
    error: str | None = None
    key: str | None = Field(None, description="the name by which /feedback labels it; null where it is not kept")


class Predictions(BaseModel):
    """The answer to /predict: one decision per picture, in order."""

    bundle: str
    bundle_id: str
    predictions: list[Decision]


class ErrorDocument(BaseModel):
    """The body of every refusal."""

    error: str
    code: str


class PredictRequest(BaseModel):
    """Pictures as base64 of the bytes of their files: `image`, or `images` for several."""

    model_config = ConfigDict(extra="forbid", strict=True)

    image: str | None = None
    images: list[str] | None = None
    mode: str | None = None
    policy: str | None = None
    must_answer: bool | None = None


class LabelRequest(BaseModel):
    """What was true of the prediction whose answer had this key."""

    model_config = ConfigDict(extra="forbid", strict=True)

    key: str = Field(min_length=1, max_length=64)
    label: str = Field(max_length=256)
    source: str = Field("http", max_length=256, description="who labelled")
    replace: bool = Field(False, description="take the place of another label")


class LabelDocument(BaseModel):
    """A label that is on the disk."""

    key: str
    label: str


class ImageSynapse(BaseModel):
    """The miner's request: a JPEG as base64. Further keys are not looked at."""

    image: str
    prediction: float = Field(-1.0, description="filled in by the answer")
    testnet_label: int = -1


class SynapseAnswer(BaseModel):
    """P(roadwork), cut at 0.5: above it where the bundle says roadwork, below it where not."""

    prediction: float = Field(ge=0, le=1)


class InputTensor(BaseModel):
    """A tensor of the Open Inference Protocol."""

    name: str
    shape: list[int] = Field(max_length=8)
    datatype: str
    parameters: dict[str, Any] = {}
    data: list[Any] | None = None


class RequestedOutput(BaseModel):
    """An output that a client asks for by name."""

    name: str
    parameters: dict[str, Any] = {}


class InferRequest(BaseModel):
    """An inference request; `parameters` may hold `mode`, `policy` and `must_answer`."""

    id: str | None = Field(None, max_length=256)
    parameters: dict[str, Any] = {}
    inputs: list[InputTensor]
    outputs: list[RequestedOutput] | None = None


class OutputTensor(BaseModel):
    """A tensor of the answer."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, Any] = {}
    data: list[Any] | None = None


class InferAnswer(BaseModel):
    """The answer to an inference request."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[OutputTensor]


def problem_of(error: ValidationError) -> Refusal:
    """What is wrong with a document, without what was sent."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return Refusal(400, "bad_request", f"{where}: {first['msg']}" if where else first["msg"])
