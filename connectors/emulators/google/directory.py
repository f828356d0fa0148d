"""Admin SDK Directory API: users, groups, members, domains and the customer.

https://developers.google.com/workspace/admin/directory/reference/rest. The subject has to be an
administrator, who sees the own customer only.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from connectors.emulators.google.accounts import Customer, Group, User
from connectors.emulators.google.api import Call, Method, Param, scopes
from connectors.emulators.google.errors import ApiError, forbidden, invalid

_PAGE = {"maxResults": Param("integer"), "pageToken": Param()}
_ORDER = {"orderBy": Param(), "sortOrder": Param(choices=("ASCENDING", "DESCENDING"))}
_T = TypeVar("_T")
_NEVER = "1970-01-01T00:00:00.000Z"


def gate(call: Call, method: Method) -> None:
    """Only an administrator reads the directory.

    Raises:
        ApiError: 403 for anybody else.
    """
    user = call.state.accounts.user(call.grant.subject or "")
    if user is None or not user.customer or user.suspended or not (user.admin or user.delegated_admin):
        raise _not_authorized()


def _not_authorized() -> ApiError:
    return forbidden("Not Authorized to access this resource/api")


def _missing(what: str) -> ApiError:
    return ApiError(404, f"Resource Not Found: {what}", "notFound")


def _own(call: Call) -> Customer:
    user = call.state.accounts.user(call.grant.subject or "")
    if user is None:
        raise _not_authorized()
    return call.state.accounts.customers[user.customer]


def _scope_of(call: Call) -> tuple[Customer, str]:
    """The customer, and the one domain asked for or an empty string."""
    own = _own(call)
    customer, domain = call.query.get("customer"), str(call.query.get("domain") or "").lower()
    if domain:
        if domain not in own.domains:
            raise ApiError(404, "Domain not found.", "notFound")
        return own, domain
    if customer is None:
        raise ApiError(400, "Bad Request", "badRequest")
    if customer not in ("my_customer", own.id):
        raise _not_authorized()
    return own, ""


def _etag(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return '"' + hashlib.sha256(text.encode()).hexdigest()[:32] + '"'


def _with_etag(kind: str, value: dict[str, Any]) -> dict[str, Any]:
    return {"kind": f"admin#directory#{kind}", "etag": _etag(value), **value}


def _page(call: Call, items: Sequence[_T], key: Callable[[_T], str], default: int) -> tuple[list[_T], dict[str, Any]]:
    """One page; the token names the last entry of the page before."""
    keys = [key(item) for item in items]
    start = 0
    token = call.query.get("pageToken")
    if token:
        if token not in keys:
            raise invalid("Invalid Input: pageToken", "invalid")
        start = keys.index(token) + 1
    size = call.page_size(default=default, most=500 if default == 100 else 200)
    shown = list(items[start : start + size])
    return shown, {"nextPageToken": key(shown[-1])} if len(items) > start + size else {}


# Users: https://developers.google.com/workspace/admin/directory/reference/rest/v1/users


def user_resource(user: User) -> dict[str, Any]:
    """The fields of a user that matter to a mail product."""
    created = datetime.fromtimestamp(user.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    value: dict[str, Any] = {
        "id": user.id,
        "primaryEmail": user.email,
        "name": {"givenName": user.given_name, "familyName": user.family_name, "fullName": user.name},
        "isAdmin": user.admin,
        "isDelegatedAdmin": user.delegated_admin,
        "lastLoginTime": _NEVER,
        "creationTime": created,
        "agreedToTerms": True,
        "suspended": user.suspended,
        "archived": False,
        "changePasswordAtNextLogin": False,
        "emails": [{"address": user.email, "primary": True}, *({"address": a} for a in user.aliases)],
        "customerId": user.customer,
        "orgUnitPath": "/",
        "isMailboxSetup": user.mailbox,
        "includeInGlobalAddressList": True,
    }
    if user.aliases:
        value["aliases"] = list(user.aliases)
    if user.suspended:
        value["suspensionReason"] = "ADMIN"
    return _with_etag("user", value)


def list_users(call: Call) -> dict[str, Any]:
    """``users.list``: of a customer or one domain, by address; ``query`` knows the fields of the guide.

    https://developers.google.com/workspace/admin/directory/v1/guides/search-users
    """
    customer, domain = _scope_of(call)
    deleted = str(call.query.get("showDeleted") or "false").lower() == "true"
    if deleted:
        pool = [u for u in call.state.accounts.users.values() if u.deleted and u.customer == customer.id]
    else:
        pool = list(call.state.accounts.of_customer(customer.id))
    wanted = _matcher(str(call.query.get("query") or ""))
    users = [user for user in pool if (not domain or user.domain == domain) and wanted(user)]
    order = {"givenname": "given_name", "familyname": "family_name"}.get(
        str(call.query.get("orderBy") or "").lower(), "email"
    )
    reverse = call.query.get("sortOrder") == "DESCENDING"
    users.sort(key=lambda user: (str(getattr(user, order)), user.email), reverse=reverse)
    shown, more = _page(call, users, lambda user: user.id, 100)
    value: dict[str, Any] = {"users": [user_resource(user) for user in shown]} if shown else {}
    return {**_with_etag("users", value), **more}


def _matcher(query: str) -> Callable[[User], bool]:
    """``isSuspended=false email:ayako* name:'Sato'``: all terms have to match."""
    terms = re.findall(r"(\w+)([:=])(?:'([^']*)'|(\S+))", query)
    if query.strip() and not terms:
        raise invalid("Invalid Input: query", "invalid")
    tests: list[Callable[[User], bool]] = []
    for field, operator, quoted, bare in terms:
        tests.append(_term(field.lower(), operator, (quoted or bare).lower()))
    return lambda user: all(test(user) for test in tests)


def _term(field: str, operator: str, value: str) -> Callable[[User], bool]:
    flags: dict[str, Callable[[User], bool]] = {
        "issuspended": lambda user: user.suspended,
        "isadmin": lambda user: user.admin,
        "ismailboxsetup": lambda user: user.mailbox,
    }
    texts: dict[str, Callable[[User], list[str]]] = {
        "email": lambda user: user.addresses(),
        "name": lambda user: [user.name],
        "givenname": lambda user: [user.given_name],
        "familyname": lambda user: [user.family_name],
    }
    if field in flags and value in ("true", "false"):
        return lambda user: flags[field](user) == (value == "true")
    if field not in texts:
        raise invalid("Invalid Input: query", "invalid")
    if value.endswith("*"):
        return lambda user: any(text.lower().startswith(value[:-1]) for text in texts[field](user))
    if operator == "=":
        return lambda user: any(text.lower() == value for text in texts[field](user))
    return lambda user: any(value in text.lower() for text in texts[field](user))


def get_user(call: Call) -> dict[str, Any]:
    """``users.get``: by address, alias or id; a user of another customer is not to be seen."""
    user = call.state.accounts.user(call.path["userKey"])
    if user is None:
        raise _missing("userKey")
    if user.customer != _own(call).id:
        raise _not_authorized()
    return user_resource(user)


# Groups: https://developers.google.com/workspace/admin/directory/reference/rest/v1/groups


def _group_resource(group: Group) -> dict[str, Any]:
    value = {
        "id": group.id,
        "email": group.email,
        "name": group.name,
        "description": group.description,
        "directMembersCount": str(len(group.members)),
        "adminCreated": True,
    }
    return _with_etag("group", value)


def list_groups(call: Call) -> dict[str, Any]:
    """``groups.list``: of a customer, a domain, or those a user or group is in (``userKey``)."""
    key = call.query.get("userKey")
    if key:
        own = _own(call)
        user = call.state.accounts.user(key)
        inner = call.state.accounts.group(key)
        found_in = user.email if user else inner.email if inner else None
        if found_in is None:
            raise _missing("userKey")
        groups = [g for g in call.state.accounts.groups_of(found_in) if g.customer == own.id]
    else:
        customer, domain = _scope_of(call)
        groups = [
            g
            for g in call.state.accounts.groups.values()
            if g.customer == customer.id and (not domain or g.email.endswith("@" + domain))
        ]
    groups.sort(key=lambda group: group.email, reverse=call.query.get("sortOrder") == "DESCENDING")
    shown, more = _page(call, groups, lambda group: group.id, 200)
    value: dict[str, Any] = {"groups": [_group_resource(g) for g in shown]} if shown else {}
    return {**_with_etag("groups", value), **more}


def get_group(call: Call) -> dict[str, Any]:
    """``groups.get``."""
    return _group_resource(_group(call))


def _group(call: Call) -> Group:
    group = call.state.accounts.group(call.path["groupKey"])
    if group is None:
        raise _missing("groupKey")
    if group.customer != _own(call).id:
        raise _not_authorized()
    return group


# Members: https://developers.google.com/workspace/admin/directory/reference/rest/v1/members


def _member_resource(call: Call, address: str, role: str) -> dict[str, Any]:
    user, group = call.state.accounts.user(address), call.state.accounts.group(address)
    value = {"email": address, "role": role, "type": "GROUP" if group else "USER"}
    if user is not None or group is not None:
        value["id"] = user.id if user else group.id if group else ""
        value["status"] = "SUSPENDED" if user and user.suspended else "ACTIVE"
    return _with_etag("member", value)


def list_members(call: Call) -> dict[str, Any]:
    """``members.list``: direct members, or with ``includeDerivedMembership`` everybody within."""
    group = _group(call)
    members = dict(group.members)
    if call.query.get("includeDerivedMembership"):
        members.update({a: "MEMBER" for a in call.state.accounts.people_in(group) if a not in members})
    roles = {role.upper() for role in str(call.query.get("roles") or "").split(",") if role}
    chosen = [(a, role) for a, role in sorted(members.items()) if not roles or role in roles]
    shown, more = _page(call, chosen, lambda pair: pair[0], 200)
    value: dict[str, Any] = {"members": [_member_resource(call, a, r) for a, r in shown]} if shown else {}
    return {**_with_etag("members", value), **more}


def get_member(call: Call) -> dict[str, Any]:
    """``members.get``."""
    group = _group(call)
    address = _address(call)
    if address not in group.members:
        raise _missing("memberKey")
    return _member_resource(call, address, group.members[address])


def has_member(call: Call) -> dict[str, Any]:
    """``members.hasMember``: direct or through another group."""
    group, address = _group(call), _address(call)
    return {"isMember": address in group.members or address in call.state.accounts.people_in(group)}


def _address(call: Call) -> str:
    key = call.path["memberKey"]
    user, group = call.state.accounts.user(key), call.state.accounts.group(key)
    return user.email if user else group.email if group else key.lower()


# Customer and domains: https://developers.google.com/workspace/admin/directory/reference/rest/v1/customers


def get_customer(call: Call) -> dict[str, Any]:
    """``customers.get``."""
    own = _own(call)
    if call.path["customerKey"] not in ("my_customer", own.id):
        raise _not_authorized()
    created = datetime.fromtimestamp(own.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    value = {
        "id": own.id,
        "customerDomain": own.domains[0],
        "customerCreationTime": created,
        "language": "en",
    }
    return _with_etag("customer", value)


def list_domains(call: Call) -> dict[str, Any]:
    """``domains.list``."""
    own = _own(call)
    if call.path["customer"] not in ("my_customer", own.id):
        raise _not_authorized()
    shown = [
        _with_etag(
            "domain",
            {
                "domainName": name,
                "isPrimary": name == own.domains[0],
                "verified": True,
                "creationTime": str(int(own.created * 1000)),
            },
        )
        for name in own.domains
    ]
    return _with_etag("domains", {"domains": shown})


_V1 = "/admin/directory/v1"
_USER_SCOPES = scopes("admin.directory.user", "admin.directory.user.readonly")
_GROUP_SCOPES = scopes("admin.directory.group", "admin.directory.group.readonly")
_MEMBER_SCOPES = _GROUP_SCOPES | scopes("admin.directory.group.member", "admin.directory.group.member.readonly")
_VIEW = {
    "customFieldMask": Param(),
    "projection": Param(choices=("basic", "custom", "full")),
    "viewType": Param(choices=("admin_view", "domain_public")),
}
_GROUP = _V1 + "/groups/{groupKey}"

METHODS = (
    Method(
        "directory.users.list",
        "GET",
        _V1 + "/users",
        _USER_SCOPES | scopes("cloud-platform"),
        list_users,
        {
            **_PAGE,
            **_ORDER,
            **_VIEW,
            "customer": Param(),
            "domain": Param(),
            "query": Param(),
            "showDeleted": Param(),
        },
    ),
    Method("directory.users.get", "GET", _V1 + "/users/{userKey}", _USER_SCOPES, get_user, _VIEW),
    Method(
        "directory.groups.list",
        "GET",
        _V1 + "/groups",
        _GROUP_SCOPES,
        list_groups,
        {**_PAGE, **_ORDER, "customer": Param(), "domain": Param(), "userKey": Param()},
    ),
    Method("directory.groups.get", "GET", _GROUP, _GROUP_SCOPES, get_group),
    Method(
        "directory.members.list",
        "GET",
        _GROUP + "/members",
        _MEMBER_SCOPES,
        list_members,
        {**_PAGE, "includeDerivedMembership": Param("boolean"), "roles": Param()},
    ),
    Method("directory.members.get", "GET", _GROUP + "/members/{memberKey}", _MEMBER_SCOPES, get_member),
    Method("directory.members.hasMember", "GET", _GROUP + "/hasMember/{memberKey}", _MEMBER_SCOPES, has_member),
    Method(
        "directory.customers.get",
        "GET",
        _V1 + "/customers/{customerKey}",
        scopes("admin.directory.customer", "admin.directory.customer.readonly"),
        get_customer,
    ),
    Method(
        "directory.domains.list",
        "GET",
        _V1 + "/customer/{customer}/domains",
        scopes("admin.directory.domain", "admin.directory.domain.readonly"),
        list_domains,
    ),
)
