"""Which mailboxes are taken in: everything, the members of groups, or a list."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, File, Form, Request, UploadFile
from fastapi.responses import Response

from app.console.access import CheckedForm, Configurer, Deps
from app.console.browser import safe_next
from app.console.pages import go, render
from app.console.queries.choice import listed_addresses, mailbox_choice
from app.console.text import clean_query
from app.kit.errors import Refused
from app.protection import choosing
from app.protection import onboarding as connecting
from app.protection.roster import Mode
from connectors.base.errors import ConnectorError, PermissionMissing
from connectors.base.types import DirectoryGroup

router = APIRouter(include_in_schema=False)

HERE = "/connector/choice"
MAX_LIST_BYTES = 4_000_000
_SHOWN = 2_000
"""Addresses of a list that are put into the form again; a longer one is replaced as a whole."""


@router.get("/connector/choice")
async def choice(request: Request, deps: Deps, visitor: Configurer) -> Response:
    """What is chosen, how reading the directory goes, and the form that changes it."""
    async with visitor.work() as session:
        view = await mailbox_choice(session, visitor.actor)
        listed = await listed_addresses(session, visitor.actor) if view.listed <= _SHOWN else []
    identity = deps.providers.identity(connecting.grant_of(visitor.tenant).provider)
    consent = identity.consent(visitor.tenant.external_id, "", "")
    return render(
        request,
        deps,
        "mailbox_choice.html",
        visitor=visitor,
        choice=view,
        listed=listed,
        group_scopes=consent.group_scopes,
    )


@router.post("/connector/choice", dependencies=[CheckedForm])
async def choose(
    deps: Deps,
    visitor: Configurer,
    mode: Annotated[Mode, Form()],
    groups: Annotated[str, Form(max_length=10_000)] = "",
    addresses: Annotated[str, Form(max_length=MAX_LIST_BYTES)] = "",
    file: Annotated[UploadFile | None, File()] = None,
) -> Response:
    """Change it; a job reads the directory."""
    if mode is Mode.GROUP:
        found = await _groups(deps, visitor, groups)
        async with visitor.work() as session:
            await choosing.choose_groups(session, visitor.actor, found)
    elif mode is Mode.LIST:
        text = await _uploaded(file) if file is not None and file.filename else addresses
        async with visitor.work() as session:
            await choosing.choose_list(session, visitor.actor, text)
    else:
        async with visitor.work() as session:
            await choosing.choose_all(session, visitor.actor)
    return go(HERE)


@router.post("/connector/refresh", dependencies=[CheckedForm])
async def refresh(visitor: Configurer, following: Annotated[str, Form(alias="next", max_length=500)] = "") -> Response:
    """Have the directory read now."""
    async with visitor.work() as session:
        await choosing.request_refresh(session, visitor.actor)
    return go(safe_next(following) or HERE)


async def _groups(deps: Deps, visitor: Configurer, text: str) -> list[DirectoryGroup]:
    """The groups that the lines of a field name, as the directory has them."""
    names = list(dict.fromkeys(name for line in text.splitlines() if (name := clean_query(line, 300))))
    if not 1 <= len(names) <= choosing.MAX_GROUPS:
        raise Refused(f"Choose 1 to {choosing.MAX_GROUPS} groups. Nothing was changed.", "group_count")
    connector = deps.providers.connector(connecting.grant_of(visitor.tenant))
    found: dict[str, DirectoryGroup] = {}
    for name in names:
        try:
            named = await connector.find_groups(name)
        except PermissionMissing as error:
            raise Refused(
                f"Groups cannot be read: {error.which} is not granted. Grant it and try again. Nothing was changed.",
                "groups_not_granted",
            ) from error
        except ConnectorError as error:
            raise Refused(f"The directory could not be asked: {error} Nothing was changed.", "directory") from error
        if not named:
            raise Refused(f"The directory has no group {name}. Nothing was changed.", "no_group")
        if len(named) > 1:
            raise Refused(
                f"Several groups are called {name}. Give the address or the id. Nothing was changed.", "many_groups"
            )
        found[named[0].id] = named[0]
    return list(found.values())


async def _uploaded(file: UploadFile) -> str:
    data = await file.read(MAX_LIST_BYTES + 1)
    if len(data) > MAX_LIST_BYTES:
        raise Refused("This file is larger than 4 MB. Nothing was changed.", "large_file")
    try:
        return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise Refused(
            "This file is not a text file. Save the list as CSV or text (UTF-8). Nothing was changed.", "not_text"
        ) from error
