"""Sign in with Google, and the Admin console: what a browser and an application do."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Iterator
from html import unescape
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from connectors.emulators.google.accounts import NewUser, OAuthClient
from tests.contract.emulators.google.harness import (
    ADMIN,
    CUSTOMER,
    DIRECTORY,
    DOMAIN,
    MODIFY,
    USER,
    Workspace,
)

REDIRECT = "http://127.0.0.1:1/callback"
VERIFIER = "v" * 64
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()


@pytest.fixture
def browser(workspace: Workspace) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=workspace.base, trust_env=False) as client:
        yield client


@pytest.fixture
def application(workspace: Workspace) -> OAuthClient:
    return workspace.state.create_oauth_client([REDIRECT])


def forms(page: str) -> list[dict[str, str]]:
    """The fields of every form of a page, the button's name and value among them."""
    found = []
    for form in re.findall(r"<form.*?</form>", page, re.DOTALL):
        pairs = re.findall(r'<(?:input|button)[^>]*?name="([^"]*)"[^>]*?value="([^"]*)"', form)
        found.append({name: unescape(value) for name, value in pairs})
    return found


def asked(client: OAuthClient, **more: str) -> dict[str, str]:
    return {
        "client_id": client.client_id,
        "redirect_uri": REDIRECT,
        "response_type": "code",
        "scope": "openid email profile",
        "state": 'st&"<x>',
        "nonce": "n-1",
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
        **more,
    }


def picked(browser: httpx.Client, client: OAuthClient, address: str) -> dict[str, str]:
    """What comes back to the application after a person picks an account."""
    page = browser.get("/o/oauth2/v2/auth", params=asked(client))
    form = next(form for form in forms(page.text) if form.get("email") == address)
    answer = browser.post("/o/oauth2/v2/auth", data=form)
    assert answer.status_code == 302
    return {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["location"]).query).items()}


def exchange(browser: httpx.Client, client: OAuthClient, code: str, **more: str) -> httpx.Response:
    data = {
        "grant_type": "authorization_code",
        "code": code,
        "client_id": client.client_id,
        "client_secret": client.secret,
        "redirect_uri": REDIRECT,
        "code_verifier": VERIFIER,
        **more,
    }
    return browser.post("/token", data=data)


def test_a_person_signs_in_and_the_id_token_says_who_of_which_domain(
    workspace: Workspace, browser: httpx.Client, application: OAuthClient
) -> None:
    discovery = browser.get("/.well-known/openid-configuration").json()
    assert discovery["issuer"] == workspace.base
    back = picked(browser, application, ADMIN)
    assert back["state"] == 'st&"<x>'
    tokens = exchange(browser, application, back["code"]).json()
    keys = KeySet.import_key_set(browser.get(discovery["jwks_uri"]).json())
    claims = jwt.decode(tokens["id_token"], keys).claims
    assert (claims["iss"], claims["aud"], claims["nonce"]) == (workspace.base, application.client_id, "n-1")
    assert (claims["email"], claims["email_verified"], claims["hd"]) == (ADMIN, True, DOMAIN)
    assert claims["name"] == "Hana Sato"
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    about = browser.get(discovery["userinfo_endpoint"], headers=headers).json()
    assert about["sub"] == claims["sub"]
    again = exchange(browser, application, back["code"])
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")


def test_a_consumer_account_has_no_hosted_domain(
    workspace: Workspace, browser: httpx.Client, application: OAuthClient
) -> None:
    workspace.state.create_user(NewUser("somebody@mail.example", "Some Body"))
    tokens = exchange(browser, application, picked(browser, application, "somebody@mail.example")["code"]).json()
    keys = KeySet.import_key_set(browser.get("/oauth2/v3/certs").json())
    assert "hd" not in jwt.decode(tokens["id_token"], keys).claims


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"code_verifier": "w" * 64}, "invalid_grant"),
        ({"code_verifier": ""}, "invalid_grant"),
        ({"redirect_uri": "http://127.0.0.1:1/other"}, "redirect_uri_mismatch"),
        ({"client_secret": "wrong"}, "invalid_client"),
        ({"code": "4/0Aunknown"}, "invalid_grant"),
    ],
)
def test_a_code_is_worth_nothing_to_others(
    browser: httpx.Client, application: OAuthClient, changed: dict[str, str], error: str
) -> None:
    code = picked(browser, application, ADMIN)["code"]
    answer = exchange(browser, application, **{"code": code, **changed})
    assert answer.json()["error"] == error
    assert "id_token" not in answer.text


def test_a_code_expires_after_ten_minutes(
    workspace: Workspace, browser: httpx.Client, application: OAuthClient
) -> None:
    code = picked(browser, application, ADMIN)["code"]
    workspace.state.clock.advance(601)
    assert exchange(browser, application, code).json()["error"] == "invalid_grant"


def test_cancelling_goes_back_with_access_denied(browser: httpx.Client, application: OAuthClient) -> None:
    page = browser.get("/o/oauth2/v2/auth", params=asked(application))
    cancel = next(form for form in forms(page.text) if "cancel" in form)
    back = browser.post("/o/oauth2/v2/auth", data=cancel).headers["location"]
    assert parse_qs(urlsplit(back).query)["error"] == ["access_denied"]


@pytest.mark.parametrize("changed", [{"redirect_uri": "http://127.0.0.1:1/evil"}, {"client_id": "nobody"}])
def test_nothing_is_sent_to_an_address_that_is_not_registered(
    browser: httpx.Client, application: OAuthClient, changed: dict[str, str]
) -> None:
    for method, data in (("GET", None), ("POST", {**asked(application, **changed), "user": ADMIN})):
        params = asked(application, **changed) if method == "GET" else {}
        answer = browser.request(method, "/o/oauth2/v2/auth", params=params, data=data)
        assert answer.status_code in (400, 401)
        assert "location" not in answer.headers


def test_the_page_offers_people_of_the_hinted_domain_only_and_no_suspended_ones(
    workspace: Workspace, browser: httpx.Client, application: OAuthClient
) -> None:
    workspace.state.create_domain("other.example", "C0other", [NewUser("eve@other.example", "Eve <b>Other</b>")])
    everybody = browser.get("/o/oauth2/v2/auth", params=asked(application)).text
    assert "eve@other.example" in everybody
    assert "<b>Other</b>" not in everybody
    assert "old.account" not in everybody
    own = browser.get("/o/oauth2/v2/auth", params=asked(application, hd=DOMAIN)).text
    assert USER in own
    assert "eve@other.example" not in own


# Admin console


def enter(browser: httpx.Client, query: dict[str, str] | None = None) -> str:
    """Sign in to the Admin console; the page with the table."""
    page = browser.get("/admin/ac/owl/domainwidedelegation", params=query or {})
    form = next(form for form in forms(page.text) if form.get("email") == ADMIN)
    return browser.post("/admin/sign-in", data=form, follow_redirects=True).text


def authorize(browser: httpx.Client, page: str, **fields: str) -> httpx.Response:
    form = next(form for form in forms(page) if "authorize" in form)
    return browser.post("/admin/domainwidedelegation", data={"csrf": form["csrf"], **fields})


def test_an_administrator_delegates_and_takes_it_back(workspace: Workspace, browser: httpx.Client) -> None:
    client_id = workspace.key["client_id"]
    workspace.state.revoke_delegation(CUSTOMER, client_id)
    query = {"clientIdToAdd": client_id, "clientScopeToAdd": f"{MODIFY},{DIRECTORY}", "overwriteClientId": "true"}
    page = enter(browser, query)
    assert f'value="{client_id}"' in page
    answer = authorize(browser, page, client_id=client_id, scopes=f" {MODIFY} , {DIRECTORY} ")
    assert answer.status_code == 200
    assert workspace.state.accounts.customers[CUSTOMER].delegations[client_id].scopes == [MODIFY, DIRECTORY]
    delete = next(form for form in forms(answer.text) if "authorize" not in form and "client_id" in form)
    browser.post("/admin/domainwidedelegation/delete", data=delete)
    assert workspace.state.accounts.customers[CUSTOMER].delegations == {}


@pytest.mark.parametrize(
    ("client_id", "scopes", "said"),
    [
        ("12345", MODIFY, "does not exist"),
        ("known", "gmail.modify", "Invalid scope"),
        ("known", " ", "Invalid scope"),
        ("known", MODIFY, "already"),
    ],
)
def test_a_wrong_entry_is_explained_and_changes_nothing(
    workspace: Workspace, browser: httpx.Client, client_id: str, scopes: str, said: str
) -> None:
    known = workspace.key["client_id"]
    before = dict(workspace.state.accounts.customers[CUSTOMER].delegations)
    page = enter(browser)
    answer = authorize(browser, page, client_id=known if client_id == "known" else client_id, scopes=scopes)
    assert answer.status_code == 400
    assert said in answer.text
    assert workspace.state.accounts.customers[CUSTOMER].delegations == before


def test_only_an_administrator_with_a_form_of_the_console_changes_the_table(
    workspace: Workspace, browser: httpx.Client
) -> None:
    user = workspace.state.user(USER)
    assert browser.post("/admin/sign-in", data={"user": user.id}).status_code == 403
    client_id = workspace.key["client_id"]
    delete = {"client_id": client_id, "csrf": secrets.token_hex(8)}
    browser.post("/admin/domainwidedelegation/delete", data=delete)
    enter(browser)
    browser.post("/admin/domainwidedelegation/delete", data=delete)
    assert client_id in workspace.state.accounts.customers[CUSTOMER].delegations
