"""Directory: "List users" (https://learn.microsoft.com/graph/api/user-list), "Get user" (.../user-get), "Get
organization" (.../organization-get), "List groups" (.../group-list), "List group members" (.../group-list-members),
"List group transitive members" (.../group-list-transitivemembers).
"""

from __future__ import annotations

import base64

from starlette.responses import Response

from connectors.emulators.microsoft import odata, render
from connectors.emulators.microsoft.graph import READ_GROUPS, READ_PEOPLE, Call, Graph
from connectors.emulators.microsoft.graph_errors import GraphError
from connectors.emulators.microsoft.model import Group, Person


def add_routes(graph: Graph) -> None:
    """All directory routes."""
    graph.route("GET", "/users", list_users)
    graph.route("GET", "/users/{user}", get_user)
    graph.route("GET", "/organization", get_organization)
    graph.route("GET", "/groups", list_groups)
    graph.route("GET", "/groups/{group}", get_group)
    graph.route("GET", "/groups/{group}/members", list_members)
    graph.route("GET", "/groups/{group}/members/microsoft.graph.user", list_user_members)
    graph.route("GET", "/groups/{group}/transitiveMembers", list_members)
    graph.route("GET", "/groups/{group}/transitiveMembers/microsoft.graph.user", list_user_members)


def _require(call: Call, roles: tuple[str, ...]) -> None:
    if not call.roles.intersection(roles):
        raise GraphError(403, "Authorization_RequestDenied", "Insufficient privileges to complete the operation.")


def _page(call: Call, values: list[render.Json], context: str) -> Response:
    """100 to a page, at most 999; pages follow by ``$skiptoken``, as directory objects' do."""
    top = odata.parse_count(call.query("top"), 100, 999, "$top") or 100
    start = 0
    token = call.query("skiptoken")
    if token is not None:
        try:
            start = int(base64.urlsafe_b64decode(token).decode())
        except ValueError:
            raise GraphError(400, "Directory_ExpiredPageToken", "The specified page token has expired.") from None
    next_link = None
    if start + top < len(values):
        options = {f"${name}": value for name in ("select", "filter") if (value := call.query(name)) is not None}
        following = base64.urlsafe_b64encode(str(start + top).encode()).decode()
        next_link = call.link(**options, **{"$top": str(top), "$skiptoken": following})
    return call.answer(render.collection(call.context(context), values[start : start + top], next_link))


_FILTERS = ("accountEnabled", "userPrincipalName", "mail", "displayName", "id", "userType")


async def list_users(call: Call) -> Response:
    """People of the caller's tenant."""
    _require(call, READ_PEOPLE)
    people = call.state.people_of(call.tenant_id)
    filter_text = call.query("filter")
    if filter_text:
        chosen = odata.parse_filter(filter_text, dict.fromkeys(_FILTERS))
        people = [person for person in people if chosen.matches(_getter(person))]
    select = call.query("select")
    return _page(call, [render.render_person(person, select) for person in people], "users")


def _getter(person: Person) -> odata.Getter:
    value = render.render_person(person, ",".join(_FILTERS))
    return lambda name: value.get(name)


async def get_user(call: Call) -> Response:
    """One person by id or userPrincipalName."""
    _require(call, READ_PEOPLE)
    value = render.render_person(call.person(), call.query("select"))
    return call.answer({"@odata.context": call.context("users/$entity"), **value})


async def get_organization(call: Call) -> Response:
    """The tenant itself; some application permission for the directory is needed."""
    _require(call, (*READ_PEOPLE, *READ_GROUPS))
    value = render.render_organization(call.state.tenants[call.tenant_id])
    return _page(call, [value], "organization")


async def list_groups(call: Call) -> Response:
    """Groups of the caller's tenant."""
    _require(call, READ_GROUPS)
    groups = [group for group in call.state.groups.values() if group.tenant_id == call.tenant_id]
    filter_text = call.query("filter")
    if filter_text:
        chosen = odata.parse_filter(filter_text, dict.fromkeys(("displayName", "mail", "id")))
        groups = [group for group in groups if chosen.matches(render.render_group(group).get)]
    return _page(
        call, [render.select_from(render.render_group(group), call.query("select")) for group in groups], "groups"
    )


def _group_of(call: Call) -> Group:
    group = call.state.groups.get(call.part("group"))
    if group is None or group.tenant_id != call.tenant_id:
        raise GraphError(404, "Request_ResourceNotFound", f"Resource '{call.part('group')}' does not exist.")
    return group


async def get_group(call: Call) -> Response:
    """One group by id."""
    _require(call, READ_GROUPS)
    value = render.select_from(render.render_group(_group_of(call)), call.query("select"))
    return call.answer({"@odata.context": call.context("groups/$entity"), **value})


async def list_members(call: Call) -> Response:
    """Members of a group, users and groups; of the transitive ones, those of nested groups too."""
    _require(call, READ_GROUPS)
    select = call.query("select")
    users, groups = _members(call)
    values = [
        {"@odata.type": "#microsoft.graph.group", **render.select_from(render.render_group(group), select)}
        for group in groups
    ] + [{"@odata.type": "#microsoft.graph.user", **render.render_person(person, select)} for person in users]
    return _page(call, values, "directoryObjects")


async def list_user_members(call: Call) -> Response:
    """The same, cast to users: an advanced query, which needs ``$count=true`` and ``ConsistencyLevel: eventual``.

    https://learn.microsoft.com/graph/aad-advanced-queries
    """
    _require(call, READ_GROUPS)
    counted = str(call.query("count") or "").lower() == "true" or call.query("skiptoken") is not None
    if not counted or call.request.headers.get("consistencylevel", "").lower() != "eventual":
        raise GraphError(
            400,
            "Request_UnsupportedQuery",
            "The specified cast requires the 'ConsistencyLevel' header set to eventual and '$count' set to true.",
        )
    users, _ = _members(call)
    return _page(call, [render.render_person(person, call.query("select")) for person in users], "users")


def _members(call: Call) -> tuple[list[Person], list[Group]]:
    """Who is in the group of the path; of nested groups too where the path says ``transitiveMembers``."""
    return call.state.members_of(_group_of(call), deep="/transitiveMembers" in call.request.scope["path"])
