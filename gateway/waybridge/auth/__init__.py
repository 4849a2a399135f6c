"""Who may do what: tokens of the gateway and of an outside issuer, and the API clients that fetch them."""

from waybridge.auth.clients import ClientRecord, Clients, TokenAnswer, TokenRequest, new_client_secret, secret_digest
from waybridge.auth.keysets import OutsideKeys
from waybridge.auth.principal import SCOPES, Principal, basic_credentials, bearer
from waybridge.auth.tokens import Auth

__all__ = [
    "SCOPES",
    "Auth",
    "ClientRecord",
    "Clients",
    "OutsideKeys",
    "Principal",
    "TokenAnswer",
    "TokenRequest",
    "basic_credentials",
    "bearer",
    "new_client_secret",
    "secret_digest",
]
