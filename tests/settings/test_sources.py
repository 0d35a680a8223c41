"""Settings come from every source in its order; faults are told at once, in one readable text."""

import re

import pytest

from relay.settings import Settings, load_settings

CANARY = "sk-canary-1f0d5c"


def test_without_any_source_every_setting_has_its_default(place):
    assert place.load() == Settings()


def test_the_working_directory_is_where_the_files_are_looked_for(place, monkeypatch):
    place.write(".env", "RELAY_PORT=9001")
    monkeypatch.chdir(place.folder)
    assert load_settings().port == 9001


class TestOrder:
    """relay.toml < .env < environment < flags."""

    def test_each_source_wins_over_those_before_it(self, place):
        place.write("relay.toml", 'port = 9001\nmode = "local"\nretries = 5\nlog_level = "debug"')
        place.write(".env", "RELAY_PORT=9002\nRELAY_MODE=auto\nRELAY_RETRIES=6\n")
        place.environment(RELAY_PORT="9003", RELAY_MODE="local")
        settings = place.load({"port": 9004})
        found = (settings.port, settings.mode, settings.retries, settings.log_level)
        assert found == (9004, "local", 6, "debug")

    def test_a_table_is_merged_name_by_name(self, place):
        place.write("relay.toml", "[timeouts]\nconnect_s = 1\nidle_s = 2\ntotal_s = 3")
        place.environment(RELAY_TIMEOUTS__IDLE_S="20")
        timeouts = place.load({"timeouts": {"total_s": "30"}}).timeouts
        assert (timeouts.connect_s, timeouts.idle_s, timeouts.total_s) == (1, 20, 30)
        assert timeouts.first_byte_s == 60

    def test_an_empty_text_counts_as_not_given_so_the_source_below_speaks(self, place):
        place.write("relay.toml", "port = 9001\n[timeouts]\nidle_s = 2")
        place.write(".env", "RELAY_PORT=\nRELAY_HOST\n")
        place.environment(RELAY_PORT="", RELAY_TIMEOUTS__IDLE_S=" ", RELAY_UPSTREAM_URL="")
        settings = place.load({"port": "", "local": None})
        assert (settings.port, settings.host, settings.timeouts.idle_s) == (9001, "127.0.0.1", 2)
        assert settings.upstream_url is None

    def test_names_in_the_environment_may_be_in_lower_case(self, place):
        place.environment(relay_port="9001")
        assert place.load().port == 9001


class TestConfigFile:
    @pytest.mark.parametrize("way", ["argument", "environment", ".env"])
    def test_another_file_can_be_named(self, place, way):
        place.write("other.toml", "port = 9001")
        place.write("relay.toml", "port = 9002")
        if way == "environment":
            place.environment(RELAY_CONFIG="other.toml")
        elif way == ".env":
            place.write(".env", "RELAY_CONFIG=other.toml")
        assert place.load(config="other.toml" if way == "argument" else None).port == 9001

    def test_a_named_file_must_be_there(self, place):
        assert "cannot read the configuration" in place.fault(config="missing.toml")
        assert "missing.toml: No such file" in place.fault(config="missing.toml")

    @pytest.mark.parametrize("text", [b"port 8000", b"\xff\xfe"])
    def test_a_file_that_is_not_toml_is_named(self, place, text):
        (place.folder / "relay.toml").write_bytes(text)
        assert "relay.toml is not valid TOML" in place.fault()

    def test_a_folder_in_its_place_is_a_readable_fault(self, place):
        (place.folder / "relay.toml").mkdir()
        assert "relay.toml: Is a directory" in place.fault()

    def test_the_tables_of_upstreams_and_models_are_read(self, place):
        place.write(
            "relay.toml",
            f"""
            [[upstreams]]
            name = "one"
            base_url = "https://api.example.com/v1/"
            api_keys = ["{CANARY}", "file:{place.write("key", "k2 ")}"]
            timeouts = {{ idle_s = 7 }}
            headers = {{ openai-organization = "org" }}

            [[models]]
            id = "vendor/*"
            targets = [{{ upstream = "one", model = "m" }}]
            """,
        )
        settings = place.load()
        (upstream,) = settings.all_upstreams()
        assert upstream.base_url == "https://api.example.com/v1"
        assert [key.get_secret_value() for key in upstream.api_keys] == [CANARY, "k2"]
        assert (upstream.timeouts.idle_s, upstream.timeouts.connect_s) == (7, 5)
        assert upstream.headers["openai-organization"].get_secret_value() == "org"
        assert settings.models[0].targets[0].model == "m"

    def test_the_same_tables_can_stand_as_json_in_the_environment(self, place):
        place.environment(
            RELAY_UPSTREAMS='[{"name": "one", "base_url": "http://h/v1"}]',
            RELAY_MODELS='[{"id": "m", "targets": [{"local": true}]}]',
        )
        settings = place.load()
        assert (settings.upstreams[0].name, settings.models[0].targets[0].local) == ("one", True)

    def test_json_that_is_none_is_a_fault_of_its_variable(self, place):
        place.environment(RELAY_UPSTREAMS=f'[{{"api_keys": "{CANARY}"')
        assert place.fault() == "RELAY_UPSTREAMS: it is not valid JSON"


class TestDotenv:
    def test_a_line_that_is_no_setting_is_named_by_its_number(self, place):
        place.write(".env", f"RELAY_PORT=1\n\nRELAY_API_KEYS {CANARY}\n")
        assert re.fullmatch(r".*\.env, line 3: write NAME=value", place.fault())

    def test_bytes_that_are_no_text_are_a_readable_fault(self, place):
        (place.folder / ".env").write_bytes(b"RELAY_PORT=\xff")
        assert place.fault().endswith(".env: it is not UTF-8 text")

    def test_a_folder_in_its_place_is_a_readable_fault(self, place):
        (place.folder / ".env").mkdir()
        assert place.fault().endswith(".env: Is a directory")

    def test_quotes_comments_and_export_are_understood(self, place):
        place.write(".env", "# mine\nexport RELAY_HOST='::1' # loopback\nRELAY_LOCAL=\"echo\"\n")
        assert (place.load().host, place.load().local) == ("::1", "echo")

    def test_names_of_other_programs_may_stand_beside_ours(self, place):
        place.write(".env", "POSTGRES_USER=me\n")
        assert place.load() == Settings()


class TestUnknownNames:
    @pytest.mark.parametrize(
        ("name", "meant"),
        [
            ("RELAY_PROT", "RELAY_PORT"),
            ("RELAY_UPSTREAM_KEY", "RELAY_UPSTREAM_API_KEY"),
            ("RELAY_TIMEOUTS__CONECT_S", "RELAY_TIMEOUTS__CONNECT_S"),
        ],
    )
    def test_in_the_environment_and_in_dotenv(self, place, name, meant):
        place.environment(**{name: CANARY})
        wanted = f"there is no such setting; did you mean {meant}?"
        assert place.fault() == f"{name}: {wanted}"
        place.environment(**{name: ""})
        assert place.fault() == f"{name}: {wanted}"
        place.write(".env", f"{name}={CANARY}")
        assert f"{name} in .env: {wanted}" in place.fault()

    def test_what_is_near_nothing_gets_no_suggestion(self, place):
        place.environment(RELAY_QQQQ="1")
        assert place.fault() == "RELAY_QQQQ: there is no such setting"

    @pytest.mark.parametrize(
        ("text", "path", "meant"),
        [
            ("prot = 1", "prot", "port"),
            ("[timeouts]\nconect_s = 1", "timeouts.conect_s", "connect_s"),
            ("[[upstreams]]\nname = 'a'\nbase_ur = 'x'", "upstreams[0].base_ur", "base_url"),
            (
                "[[upstreams]]\nname = 'a'\nbase_url = 'http://h'\ntimeouts = { idle = 1 }",
                "upstreams[0].timeouts.idle",
                "idle_s",
            ),
            (
                "[[models]]\nid = 'm'\ntargets = [{ locale = true }]",
                "models[0].targets[0].locale",
                "local",
            ),
        ],
    )
    def test_in_the_tables_of_a_file(self, place, text, path, meant):
        place.write("mine.toml", text)
        wanted = f"'{path}' in mine.toml: there is no such setting; did you mean {meant}?"
        assert wanted in place.fault(config="mine.toml").split("\n")

    def test_among_flags(self, place):
        fault = place.fault({"prot": "1", "timeouts": {"idle": "1"}})
        assert "--prot: there is no such setting; did you mean port?" in fault
        assert "--timeouts-idle: there is no such setting; did you mean idle_s?" in fault


class TestFaults:
    def test_all_of_them_are_told_at_once_each_by_the_name_its_source_has(self, place):
        place.write("relay.toml", 'retries = "many"\n[[upstreams]]\nname = "a b"')
        place.write(".env", "RELAY_WORKERS=0\n")
        place.environment(RELAY_PORT="99999", RELAY_MOD="x", RELAY_TIMEOUTS__IDLE_S="-1")
        named = [line.partition(":")[0] for line in place.fault({"mode": "both"}).split("\n")]
        assert sorted(named) == [
            "'retries' in relay.toml",
            "'upstreams[0].base_url' in relay.toml",
            "'upstreams[0].name' in relay.toml",
            "--mode",
            "RELAY_MOD",
            "RELAY_PORT",
            "RELAY_TIMEOUTS__IDLE_S",
            "RELAY_WORKERS in .env",
        ]

    def test_faults_between_settings_are_told_together_too(self, place):
        place.environment(RELAY_HOST="0.0.0.0", RELAY_MODE="remote")
        assert len(place.fault().split("\n")) == 2

    @pytest.mark.parametrize(
        ("variables", "told"),
        [
            ({"RELAY_MODE": "locall"}, "RELAY_MODE: input should be 'auto', 'remote' or 'local'"),
            ({"RELAY_PORT": "http"}, "RELAY_PORT: input should be a valid integer"),
            ({"RELAY_TIMEOUTS__IDLE_S": "nan"}, "RELAY_TIMEOUTS__IDLE_S: input should be"),
            ({"RELAY_UPSTREAM_URL": "localhost:1/v1"}, "starts with http:// or https://"),
            ({"RELAY_UPSTREAM_URL": "http://u:p@h/v1"}, "holds no user name or password"),
            ({"RELAY_UPSTREAM_URL": "http://h/v1?"}, "no query and no fragment"),
            ({"RELAY_UPSTREAM_URL": "http://h:port/v1"}, "the port of the base URL is malformed"),
            ({"RELAY_UPSTREAM_URL": "http://[::1/v1"}, "the base URL is malformed"),
            ({"RELAY_UPSTREAM_URL": "http://a b/v1"}, "no spaces"),
            ({"RELAY_UPSTREAM_URL": "http://127.0.0.1:8000/v1"}, "this relay's own address"),
            ({"OPENAI_BASE_URL": "http://localhost:8000/v1"}, "this relay's own address"),
            ({"OPENAI_BASE_URL": "nowhere"}, "OPENAI_BASE_URL: a base URL starts with"),
            ({"RELAY_API_KEYS": "a b"}, "RELAY_API_KEYS[0]: a key is printable ASCII"),
            ({"RELAY_MODE": "remote"}, "there is no upstream: set RELAY_UPSTREAM_URL"),
            ({"RELAY_CORS_ORIGINS": "*", "RELAY_CORS_CREDENTIALS": "1"}, "cannot go together"),
            ({"RELAY_CORS_ORIGINS": "null", "RELAY_CORS_CREDENTIALS": "1"}, "any page can be"),
            (
                {"RELAY_CORS_ORIGINS": "https://A.example/"},
                "cors_origins: 'https://A.example/' is no origin: write it as browsers do",
            ),
        ],
    )
    def test_the_text_says_what_is_wrong(self, place, variables, told):
        place.environment(**variables)
        assert told in place.fault()

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            (
                "upstream_url = 'http://h/v1'\n[[upstreams]]\nname='a'\nbase_url='http://h'",
                "not both",
            ),
            ("[upstreams]\nname = 'a'", "'upstreams' in relay.toml: a list is expected: write [["),
            ("timeouts = 5", "'timeouts' in relay.toml: a table is expected"),
            ("models = [5]", "'models[0]' in relay.toml: a table is expected"),
            ("[[upstreams]]\nname = 'local'\nbase_url = 'http://h'", "can be called 'local'"),
            ("[[models]]\nid = 'm'\ntargets = [{}]", "either an upstream or local = true"),
            (
                "[[models]]\nid = 'm'\ntargets = [{ upstream = 'opnai' }]\n"
                "[[upstreams]]\nname = 'openai'\nbase_url = 'http://h'",
                "'opnai', which is not there; did you mean openai?",
            ),
            (
                "[[models]]\nid = 'm'\ntargets = [{ local = true }]\n" * 2,
                "2 models have the id 'm'",
            ),
            (
                "[[upstreams]]\nname = 'a'\nbase_url = 'http://h'\n" * 2,
                "2 upstreams are called 'a'",
            ),
        ],
    )
    def test_the_text_says_what_is_wrong_in_a_file(self, place, text, told):
        place.write("relay.toml", text)
        assert told in place.fault()
