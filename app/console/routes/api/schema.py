"""What every part of the JSON API shares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from app.console.queries.paging import Page

Row = TypeVar("Row")
Item = TypeVar("Item", bound=BaseModel)


class Problem(BaseModel):
    """A refusal (RFC 9457)."""

    type: str
    status: int
    title: str
    detail: str
    code: str = Field(description="Stable name of the reason.")


PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "Not accepted; nothing was changed"},
    401: {"model": Problem, "description": "Signed out"},
    403: {"model": Problem, "description": "The role does not allow it"},
    404: {"model": Problem, "description": "Absent, or not yours"},
    409: {"model": Problem, "description": "The state moved on; nothing was changed"},
    422: {"model": Problem, "description": "Not accepted; nothing was changed"},
}


def api_router() -> APIRouter:
    """A part of the API."""
    return APIRouter(prefix="/api/v1", tags=["console"], responses=PROBLEMS)


class FromRow(BaseModel):
    """Read from an object's attributes."""

    model_config = ConfigDict(from_attributes=True)


class Listed(BaseModel, Generic[Item]):
    """A page of a list."""

    items: Sequence[Item]
    page: int
    more: bool


def listed(found: Page[Row], item: Callable[[Row], Item]) -> Listed[Item]:
    """A page of rows as the API gives it."""
    return Listed(items=[item(row) for row in found.rows], page=found.number, more=found.more)
