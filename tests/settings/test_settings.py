"""Settings: the file, the environment, the secret, and what is said when something is wrong."""

import re
import stat
import threading
import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel

from waybridge import configuration
from waybridge.errors import ConfigurationError
from waybridge.settings import Settings, load

DOCS = Path(__file__).parents[2] / "docs" / "configuration.md"
SECRET = "a-secret-that-is-long-enough-to-be-one"


def loaded(folder: Path, text: str = "", **environ: str) -> Settings:
    (folder / "waybridge.toml").write_text(text)
    return load(cwd=folder, environ=environ)


def refusal(folder: Path, text: str = "", **environ: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        loaded(folder, text, **environ)
    return str(caught.value)


def test_no_configuration_at_all_works(tmp_path):
    settings = load(cwd=tmp_path, environ={"HOME": "/"})

    assert settings.database_url == f"sqlite+aiosqlite:///{tmp_path}/waybridge.db"
    assert settings.base_url == settings.share_base_url == "http://127.0.0.1:8080"
    assert [instance.id for instance in settings.instances] == ["default"]
    assert settings.bus_url == "memory://"


def test_the_first_start_makes_a_secret_that_later_starts_read(tmp_path):
    first = load(cwd=tmp_path, environ={})
    again = load(cwd=tmp_path, environ={})

    assert first.secrets == again.secrets
    assert len(first.secrets[0]) >= 32
    assert stat.S_IMODE((tmp_path / "waybridge.key").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["waybridge.key"]


def test_processes_that_start_together_share_one_secret(tmp_path):
    barrier = threading.Barrier(8)
    seen = []

    def start():
        barrier.wait()
        seen.append(load(cwd=tmp_path, environ={}).secrets)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(seen) == 8
    assert len(set(seen)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["waybridge.key"]


def test_a_race_lost_after_looking_keeps_the_winners_secret(tmp_path, monkeypatch):
    winner = load(cwd=tmp_path, environ={}).secrets
    monkeypatch.setattr(Path, "exists", lambda self: False)

    assert load(cwd=tmp_path, environ={}).secrets == winner


@pytest.mark.parametrize("content", [b"short\n", b"\xff" * 40])
def test_a_key_file_that_is_none_is_refused(tmp_path, content):
    (tmp_path / "waybridge.key").write_bytes(content)

    assert "waybridge.key" in refusal(tmp_path)


def test_configured_keys_make_no_key_file(tmp_path):
    settings = loaded(tmp_path, f'secret_keys = ["{SECRET}", "{SECRET}2"]')

    assert settings.secrets == (SECRET.encode(), f"{SECRET}2".encode())
    assert not (tmp_path / "waybridge.key").exists()


def test_a_short_key_is_refused_without_being_shown(tmp_path):
    said = refusal(tmp_path, f'secret_keys = ["{SECRET}", "hunter2"]')

    assert "secret_keys" in said
    assert "key 1 is shorter than 32 bytes" in said
    assert "hunter2" not in said


def test_key_length_is_counted_in_bytes(tmp_path):
    assert loaded(tmp_path, f'secret_keys = ["{"ä" * 16}"]').secrets == (("ä" * 16).encode(),)


def test_the_whole_file_of_the_documentation_is_read(tmp_path):
    settings = loaded(
        tmp_path,
        f"""
        public_base_url = "https://track.example.com/"
        share_page_base_url = "https://t.example.com"
        database_url = "postgresql://u:p@db/waybridge"
        bus_url = "nats://bus:4222"
        secret_keys = ["{SECRET}"]
        history_days = 0
        metrics_listen = ""
        [server]
        trusted_proxies = ["10.0.0.0/8", "2001:db8::/32"]
        [auth]
        jwks_url = "https://id.example.com/jwks.json?v=2"
        issuer = "https://id.example.com/"
        [webhooks]
        allow_private_targets = true
        [limits]
        sockets_per_token = 3
        [[instances]]
        id = "acme"
        embed_origins = ["https://Portal.acme.example"]
        brand = {{ color = "#00ff00" }}
        [[connections]]
        id = "acme-vans"
        provider = "mycartracks"
        instance_id = "acme"
        [connections.settings]
        client_secret = "s3cret"
        [plugins]
        disabled = ["mqtt"]
        [plugins.eta_osrm]
        url = "http://osrm"
        """,
    )

    assert settings.base_url == "https://track.example.com"
    assert settings.share_base_url == "https://t.example.com"
    assert settings.database_url == "postgresql+asyncpg://u:p@db/waybridge"
    assert str(settings.trusted_networks[1]) == "2001:db8::/32"
    assert settings.limits.sockets_per_token == 3
    assert settings.instances[0].embed_origins == ("https://portal.acme.example",)
    assert settings.instances[0].brand.color == "#00ff00"
    assert settings.instances[0].brand.name is None
    assert settings.connections[0].settings == {"client_secret": "s3cret"}
    assert settings.plugins.tables == {"eta_osrm": {"url": "http://osrm"}}


def test_the_environment_wins_over_the_file(tmp_path):
    settings = loaded(
        tmp_path,
        """
        history_days = 3
        [server]
        host = "::1"
        port = 1
        [[connections]]
        id = "a"
        provider = "x"
        settings = { user = "u" }
        """,
        WAYBRIDGE_SERVER__PORT="99",
        WAYBRIDGE_SECRET_KEYS=f'["{SECRET}"]',
        WAYBRIDGE_WEBHOOKS__ALLOW_PRIVATE_TARGETS="true",
        WAYBRIDGE_WEBHOOKS__RETRY_SECONDS="1, 2.5",
        WAYBRIDGE_SERVER__TRUSTED_PROXIES="10.0.0.0/8,127.0.0.1/32",
        WAYBRIDGE_METRICS_LISTEN="",
        WAYBRIDGE_CONNECTIONS__0__SETTINGS__PASSWORD="12345",
        WAYBRIDGE_CONNECTIONS__1__ID="b",
        WAYBRIDGE_CONNECTIONS__1__PROVIDER="y",
        WAYBRIDGE_PLUGINS__ETA_OSRM__URL="http://osrm",
        WAYBRIDGE_TOKEN="read by the client commands",
    )

    assert settings.history_days == 3
    assert settings.base_url == "http://[::1]:99"
    assert settings.secrets == (SECRET.encode(),)
    assert settings.webhooks.allow_private_targets is True
    assert settings.webhooks.retry_seconds == (1, 2.5)
    assert settings.server.trusted_proxies == ("10.0.0.0/8", "127.0.0.1/32")
    assert settings.metrics_listen == ""
    assert [connection.id for connection in settings.connections] == ["a", "b"]
    assert settings.connections[0].settings == {"user": "u", "password": "12345"}
    assert settings.plugins.tables == {"eta_osrm": {"url": "http://osrm"}}


def test_the_command_line_wins_over_the_environment(tmp_path):
    environ = {"WAYBRIDGE_SERVER__PORT": "99", "WAYBRIDGE_SERVER__HOST": "0.0.0.0"}

    settings = load(cwd=tmp_path, environ=environ, overrides={"server": {"port": 7}})

    assert settings.base_url == "http://127.0.0.1:7"
    assert settings.on("127.0.0.1", 5).base_url == "http://127.0.0.1:5"


def test_nothing_is_read_that_was_not_handed_in(tmp_path, monkeypatch):
    monkeypatch.setenv("WAYBRIDGE_SERVER__PORT", "99")
    monkeypatch.setenv("WAYBRIDGE_SERVR__PORT", "99")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "waybridge.toml").write_text("history_days = 3\n")
    (tmp_path / ".env").write_text("WAYBRIDGE_HISTORY_DAYS=4\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    alone = Settings(secret_keys=[SECRET])
    loaded_elsewhere = load(cwd=elsewhere, environ={})

    assert (alone.server.port, alone.history_days) == (8080, 7)
    assert (loaded_elsewhere.server.port, loaded_elsewhere.history_days) == (8080, 7)


def test_sources_are_forgotten_after_a_load_that_fails(tmp_path):
    refusal(tmp_path, "history_days = -1", WAYBRIDGE_SERVER__PORT="99")

    assert Settings(secret_keys=[SECRET]).server.port == 8080


def test_the_command_line_leaves_the_rest_of_a_table_to_the_file(tmp_path):
    (tmp_path / "waybridge.toml").write_text("[server]\nhost = '::1'\nport = 1\n[[instances]]\nid = 'a'\n")
    environ = {"WAYBRIDGE_SERVER__TRUSTED_PROXIES": "10.0.0.0/8", "WAYBRIDGE_INSTANCES__0__NAME": "A"}

    settings = load(cwd=tmp_path, environ=environ, overrides={"server": {"port": 7}})

    assert settings.base_url == "http://[::1]:7"
    assert settings.server.trusted_proxies == ("10.0.0.0/8",)
    assert [(instance.id, instance.name) for instance in settings.instances] == [("a", "A")]


def test_another_file_can_be_named(tmp_path):
    (tmp_path / "other.toml").write_text("[server]\nport = 5\n")

    assert load(Path("other.toml"), cwd=tmp_path, environ={}).server.port == 5
    assert load(cwd=tmp_path, environ={"WAYBRIDGE_CONFIG": str(tmp_path / "other.toml")}).server.port == 5


@pytest.mark.parametrize(
    ("text", "key", "near"),
    [
        ("databse_url = ''", "databse_url", "database_url"),
        ("[server]\nprot = 1", "server.prot", "server.port"),
        ("port = 1", "port", "server.port"),
        ("[limts]\n", "limts", "limits"),
        ("[limits]\npublic_request_per_minute = 1", "limits.public_request_per_minute", "limits.public_requests_per"),
        ("[[instances]]\nid = 'a'\nembed_origin = []", "instances[0].embed_origin", "instances[0].embed_origins"),
        (
            "[[connections]]\nid = 'a'\nprovider = 'x'\nsetings = {}",
            "connections[0].setings",
            "connections[0].settings",
        ),
        (
            "[[instances]]\nid = 'a'\nbrand = {colour = '#000000'}",
            "instances[0].brand.colour",
            "instances[0].brand.color",
        ),
    ],
)
def test_an_unknown_key_names_the_nearest(tmp_path, text, key, near):
    said = refusal(tmp_path, text)

    assert f"{key}: unknown key" in said
    assert f"did you mean {near}" in said


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("WAYBRIDGE_SERVR__PORT", "WAYBRIDGE_SERVER__PORT"),
        ("WAYBRIDGE_SERVER__PROT", "WAYBRIDGE_SERVER__PORT"),
        ("WAYBRIDGE_SERVER_PORT", "WAYBRIDGE_SERVER__PORT"),
        ("WAYBRIDGE_PORT", "WAYBRIDGE_SERVER__PORT"),
        ("WAYBRIDGE_SECRET_KEY", "WAYBRIDGE_SECRET_KEYS"),
        ("WAYBRIDGE_CONNECTIONS__0__SETINGS__KEY", "WAYBRIDGE_CONNECTIONS__0__SETTINGS__KEY"),
    ],
)
def test_a_misspelt_environment_name_is_refused(tmp_path, name, near):
    said = refusal(tmp_path, **{name: "hunter2"})

    assert f"{name}: unknown setting; did you mean {near}?" in said
    assert "hunter2" not in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[server]\nport = '8080'", "server.port: must be a valid integer"),
        ("[server]\nport = 70000", "server.port: must be less than or equal to 65535"),
        ("[server]\nport = true", "server.port: must be a valid integer"),
        ("history_days = nan", "history_days: must be a finite number"),
        ("history_days = -1", "history_days: must be greater than or equal to 0"),
        ("public_base_url = 'ftp://x'", "public_base_url: must be an address"),
        ("public_base_url = 'https://u:p@x'", "public_base_url: must be an address"),
        ("public_base_url = 'https://x/?q'", "public_base_url: must be an address"),
        ("database_url = 'mysql://x'", "database_url: must begin with"),
        ("bus_url = 'redis://x'", "bus_url: must be memory:// or nats://"),
        ("metrics_listen = 'nine'", "metrics_listen: must be HOST:PORT"),
        ("api_prefixes = ['api']", "api_prefixes: must be paths"),
        ("[server]\ntrusted_proxies = ['10.0.0.1/8']", "server.trusted_proxies[0]: must be a network"),
        ("[auth]\njwks_url = 'https://x'", "auth: jwks_url and issuer belong together"),
        ("[auth]\njwks_url = 'https://x'\nissuer = 'waybridge'", "auth: issuer waybridge is the gateway's own"),
        ("[auth]\nalgorithms = ['HS256']", "auth.algorithms[0]: must be 'RS256', 'ES256' or 'EdDSA'"),
        ("[map]\nbasemap = 'google'", "map.basemap: String should match"),
        ("[brand]\ncolor = 'red;}'", "brand.color: String should match"),
        ("[[instances]]\nid = 'a b'", "instances[0].id: must be 1 to 64"),
        ("[[instances]]\nid = 'a'\n[[instances]]\nid = 'a'", "two instances have the id a"),
        ("[[instances]]\nid = 'a'\nembed_origins = ['https://x/path']", "must be an origin"),
        ("[[instances]]\nid = 'a'\nembed_origins = ['https://x; script-src *']", "must be an"),
        ("[[connections]]\nid = 'c'\nprovider = 'x'\ninstance_id = 'nope'", "there is no instance nope"),
        ("[[connections]]\nid = 'native'\nprovider = 'x'", "the id native belongs to the provider native"),
        ("[[connections]]\nprovider = 'x'", "connections[0].id: Field required"),
        ("[plugins]\ndisbled = ['x']", "plugins: disbled: is no table"),
        ("a =", "is not valid TOML"),
    ],
)
def test_a_bad_value_is_said_in_a_sentence(tmp_path, text, said):
    refused = refusal(tmp_path, text)

    assert said in refused
    assert "\n" not in refused


@pytest.mark.parametrize("repeated", ["c", "native"])
def test_a_connection_id_stands_once(tmp_path, repeated):
    provider = "native" if repeated == "native" else "x"
    entry = f"[[connections]]\nid = '{repeated}'\nprovider = '{provider}'\n"

    assert f"two connections have the id {repeated}" in refusal(tmp_path, entry + entry)


def test_native_may_be_set_for_each_instance_and_no_other_id_twice(tmp_path):
    instances = "[[instances]]\nid = 'a'\n[[instances]]\nid = 'b'\n"
    entries = "[[connections]]\nid = '{id}'\nprovider = 'native'\ninstance_id = 'a'\n"
    entries += "[[connections]]\nid = '{id}'\nprovider = 'native'\ninstance_id = 'b'\n"

    assert len(loaded(tmp_path, instances + entries.format(id="native")).connections) == 2
    assert "two connections" in refusal(tmp_path, instances + entries.format(id="mine"))


def test_files_that_cannot_be_read_are_said(tmp_path):
    (tmp_path / "latin.toml").write_bytes(b"a = '\xe4'")

    for name, said in (("absent.toml", "there is no such file"), ("latin.toml", "not UTF-8"), (".", "cannot be read")):
        with pytest.raises(ConfigurationError, match=said):
            load(Path(name), cwd=tmp_path, environ={})


def test_one_level_set_whole_and_in_part_is_refused(tmp_path):
    said = refusal(tmp_path, WAYBRIDGE_SERVER="x", WAYBRIDGE_SERVER__PORT="1")

    assert "WAYBRIDGE_SERVER__PORT: a level above it is set as a whole" in said


def test_a_gap_in_a_list_is_refused(tmp_path):
    assert "there is no 1" in refusal(tmp_path, WAYBRIDGE_INSTANCES__2__ID="x")


def test_secrets_are_in_no_repr(tmp_path):
    canary = "canary-in-every-place-that-holds-a-secret"
    settings = loaded(
        tmp_path,
        f"""
        secret_keys = ["{canary}"]
        database_url = "postgresql+asyncpg://u:{canary}@h/d"
        bus_url = "nats://u:{canary}@h"
        [[connections]]
        id = "a"
        provider = "x"
        settings = {{ key = "{canary}" }}
        [plugins.p]
        key = "{canary}"
        """,
    )
    assert settings.secrets == (canary.encode(),)

    assert canary not in repr(settings)
    assert canary not in str(settings)


def test_settings_cannot_be_changed(tmp_path):
    settings = loaded(tmp_path)

    with pytest.raises(Exception, match="frozen"):
        settings.history_days = 1
    with pytest.raises(Exception, match="frozen"):
        settings.server.port = 1


def keys_of(model: type[BaseModel]) -> list[str]:
    return list(model.model_fields)


def table_of(heading: str) -> dict[str, str]:
    text = DOCS.read_text()
    start = re.search(rf"^## {re.escape(heading)}(:.*)?$", text, re.MULTILINE)
    assert start, f"docs/configuration.md has no heading {heading}"
    section = text[start.end() :].split("\n## ")[0]
    return {row[0]: row[1] for row in re.findall(r"^\| `(\w+)` \| (.+?) \| .{10,} \|$", section, re.MULTILINE)}


def sections() -> list[tuple[str, type[BaseModel]]]:
    found: list[tuple[str, type[BaseModel]]] = []
    for name, field in Settings.model_fields.items():
        entry = configuration._entry(field.annotation)
        for shape, model in ((f"`[{name}]`", field.annotation), (f"`[[{name}]]`", entry)):
            if isinstance(model, type) and issubclass(model, BaseModel):
                found.append((shape, model))
    return found


@pytest.mark.parametrize(("heading", "model"), sections())
def test_every_setting_of_a_table_has_its_paragraph_and_default(heading, model):
    table = table_of(heading)

    assert sorted(table) == sorted(keys_of(model))
    for key, field in model.model_fields.items():
        assert_default(table[key], field)


def test_every_setting_of_the_top_level_has_its_paragraph_and_default():
    named = {re.sub(r"[`\[\]]", "", heading) for heading, _ in sections()}
    table = table_of("Top level")

    assert sorted(table) == sorted(set(keys_of(Settings)) - named)
    for key in table:
        assert_default(table[key], Settings.model_fields[key])


def assert_default(said, field):
    if said in ("required", "none", "`{}`"):
        assert field.is_required() or not field.get_default(call_default_factory=True) or said == "`{}`"
        return
    value = tomllib.loads(f"x = {said.strip('`')}")["x"]
    default = field.get_default(call_default_factory=True)
    assert (list(default) if isinstance(default, tuple) else default) == value
