"""The vault: what is sealed opens for its own row, with any of the keys, and for nothing else."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waybridge.vault import Vault, VaultError, digest, short

OLD = b"the-old-secret-of-at-least-32-bytes!"
NEW = b"the-new-secret-of-at-least-32-bytes!"
ROW = "connections/acme-vans/settings"


def test_what_is_sealed_opens_and_shows_nothing():
    vault = Vault([NEW])
    sealed = vault.seal('{"client_secret": "hunter2"}', bound_to=ROW)

    assert vault.open(sealed, bound_to=ROW) == '{"client_secret": "hunter2"}'
    assert b"hunter2" not in sealed
    assert sealed != vault.seal('{"client_secret": "hunter2"}', bound_to=ROW)


def test_moved_to_another_row_it_does_not_open():
    vault = Vault([NEW])
    sealed = vault.seal("s", bound_to=ROW)

    with pytest.raises(VaultError, match="another row"):
        vault.open(sealed, bound_to="connections/other/settings")


def test_all_keys_open_and_the_first_seals():
    sealed = Vault([OLD]).seal("s", bound_to=ROW)
    both = Vault([NEW, OLD])

    assert both.open(sealed, bound_to=ROW) == "s"
    assert both.needs_reseal(sealed)
    again = both.seal(both.open(sealed, bound_to=ROW), bound_to=ROW)
    assert not both.needs_reseal(again)
    assert Vault([NEW]).open(again, bound_to=ROW) == "s"


def test_without_its_key_the_operator_is_told_what_to_do():
    sealed = Vault([OLD]).seal("s", bound_to=ROW)

    with pytest.raises(VaultError, match="secret_keys"):
        Vault([NEW]).open(sealed, bound_to=ROW)


@given(st.data())
def test_any_changed_bit_is_found(data):
    vault = Vault([NEW, OLD])
    sealed = bytearray(vault.seal("some secret", bound_to=ROW))
    bit = data.draw(st.integers(0, len(sealed) * 8 - 1))
    sealed[bit // 8] ^= 1 << bit % 8

    with pytest.raises(VaultError):
        vault.open(bytes(sealed), bound_to=ROW)


@given(st.binary(max_size=80))
def test_nonsense_never_opens_and_never_breaks(sealed):
    with pytest.raises(VaultError):
        Vault([NEW]).open(sealed, bound_to=ROW)
    assert Vault([NEW]).needs_reseal(sealed)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_comes_back(text):
    vault = Vault([NEW])

    assert vault.open(vault.seal(text, bound_to=ROW), bound_to=ROW) == text


@pytest.mark.parametrize("keys", [[], [b"short"], [NEW, b"short"]])
def test_short_keys_are_refused(keys):
    with pytest.raises(ValueError, match="32 bytes"):
        Vault(keys)


def test_the_key_of_tokens_is_not_the_key_of_the_vault():
    sealed = Vault([NEW]).seal("s", bound_to=ROW)

    assert NEW not in sealed
    assert hashlib.sha256(NEW).digest()[:4] not in sealed[:5]


def test_a_vault_shows_no_key():
    assert repr(Vault([NEW])) == "Vault(1 keys)"


def test_digests_take_any_text():
    assert digest("abc") == hashlib.sha256(b"abc").digest()
    assert short("abc") == "ba7816bf"
    assert len(digest("\ud800ý")) == 32
