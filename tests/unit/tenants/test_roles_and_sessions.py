"""Cookies of sessions, and what a role may do (L31)."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.kit.errors import Forbidden
from app.tenants.actor import Actor, ActorKind, Permission, Role
from app.tenants.people import ASSIGNABLE
from app.tenants.sessions import cookie_value, read_cookie, token_hash


def actor(role: Role) -> Actor:
    return Actor(ActorKind.PERSON, uuid.uuid4(), role)


def test_a_cookie_reads_back_as_its_tenant_and_token() -> None:
    tenant = uuid.uuid4()
    assert read_cookie(cookie_value(tenant, "t" * 43)) == (tenant, "t" * 43)


@given(st.text(max_size=200))
def test_any_other_cookie_is_nobodys_and_never_an_error(value: str) -> None:
    found = read_cookie(value)
    assert found is None or cookie_value(*found).lower() == value.lower()


def test_token_hashes_tell_tokens_apart() -> None:
    assert token_hash("a") != token_hash("b")
    assert len(token_hash("a")) == 32


@pytest.mark.parametrize("role", [Role.OWNER, Role.OPERATOR, Role.ANALYST, Role.AUDITOR])
def test_four_roles_view_the_tenant(role: Role) -> None:
    assert actor(role).can(Permission.VIEW_TENANT)


def test_owner_and_operator_configure_and_nobody_else() -> None:
    assert {role for role in Role if actor(role).can(Permission.CONFIGURE)} == {Role.OWNER, Role.OPERATOR}


def test_only_owners_manage_people() -> None:
    assert {role for role in Role if actor(role).can(Permission.MANAGE_PEOPLE)} == {Role.OWNER}


def test_users_see_their_own_clicks_and_nothing_else() -> None:
    assert {permission for permission in Permission if actor(Role.USER).can(permission)} == {Permission.VIEW_OWN_CLICKS}


def test_a_missing_permission_is_refused_by_name() -> None:
    with pytest.raises(Forbidden, match="configure"):
        actor(Role.AUDITOR).require(Permission.CONFIGURE)


def test_every_role_can_be_given() -> None:
    assert set(ASSIGNABLE) == set(Role)
