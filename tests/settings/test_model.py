"""What must hold between the settings: upstreams, and who may come in."""

import pytest
from pydantic import SecretStr, ValidationError

from relay.settings import ModelSettings, Settings, is_loopback

CANARY = "sk-canary-1f0d5c"


class TestUpstream:
    def test_one_url_is_one_upstream_with_the_timeouts_of_all(self, place):
        place.environment(
            RELAY_UPSTREAM_URL="http://h:1/v1/",
            RELAY_UPSTREAM_API_KEY=CANARY,
            RELAY_TIMEOUTS__TOTAL_S="9",
        )
        (upstream,) = place.load().all_upstreams()
        assert (upstream.name, upstream.base_url) == ("upstream", "http://h:1/v1")
        assert (upstream.timeouts.total_s, upstream.api_keys) == (9, (SecretStr(CANARY),))

    @pytest.mark.parametrize("where", ["environment", ".env"])
    def test_it_falls_back_to_the_names_of_the_openai_package(self, place, where):
        variables = {"OPENAI_BASE_URL": "http://h/v1", "OPENAI_API_KEY": CANARY}
        if where == "environment":
            place.environment(**variables)
        else:
            place.write(".env", "".join(f"{name}={value}\n" for name, value in variables.items()))
        settings = place.load()
        assert settings.upstream_url == "http://h/v1"
        assert settings.upstream_api_key == SecretStr(CANARY)

    def test_our_own_names_win_over_those_of_the_openai_package(self, place):
        place.environment(OPENAI_BASE_URL="http://other/v1", OPENAI_API_KEY="other")
        place.write("relay.toml", f"upstream_url = 'http://h/v1'\nupstream_api_key = '{CANARY}'")
        settings = place.load()
        assert settings.upstream_url == "http://h/v1"
        assert settings.upstream_api_key == SecretStr(CANARY)

    def test_a_key_without_an_address_makes_no_upstream(self, place):
        place.environment(OPENAI_API_KEY=CANARY)
        assert place.load().all_upstreams() == ()

    def test_a_list_of_upstreams_leaves_the_names_of_the_openai_package_alone(self, place):
        place.environment(OPENAI_BASE_URL="http://other/v1", OPENAI_API_KEY="other")
        place.write("relay.toml", "[[upstreams]]\nname = 'a'\nbase_url = 'http://h/v1'")
        settings = place.load()
        assert [one.base_url for one in settings.all_upstreams()] == ["http://h/v1"]
        assert settings.upstream_api_key is None

    def test_another_port_of_this_machine_is_another_server(self, place):
        place.environment(RELAY_UPSTREAM_URL="http://127.0.0.1:8001/v1")
        assert place.load().all_upstreams()


class TestDoor:
    @pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost"])
    def test_on_loopback_the_relay_may_be_open(self, place, host):
        place.environment(RELAY_HOST=host)
        assert is_loopback(place.load().host)

    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.com"])
    def test_elsewhere_it_refuses_unless_it_has_keys_or_is_told(self, place, host):
        place.environment(RELAY_HOST=host)
        assert f"open to everyone on {host}: set RELAY_API_KEYS" in place.fault()
        place.environment(RELAY_ALLOW_ANONYMOUS="true")
        assert place.load().allow_anonymous
        place.environment(RELAY_ALLOW_ANONYMOUS="", RELAY_API_KEYS="k1, k2,")
        assert [key.get_secret_value() for key in place.load().api_keys] == ["k1", "k2"]

    @pytest.mark.parametrize(
        ("host", "url"),
        [
            ("127.0.0.1", "http://127.0.0.1:8000"),
            ("localhost", "http://localhost:8000"),
            ("0.0.0.0", "http://127.0.0.1:8000"),
            ("::", "http://[::1]:8000"),
            ("::1", "http://[::1]:8000"),
            ("192.0.2.7", "http://192.0.2.7:8000"),
        ],
    )
    def test_the_address_is_one_that_this_machine_can_call(self, host, url):
        assert Settings(host=host, allow_anonymous=True).address == url


class TestInPython:
    def test_settings_take_what_they_are_given_and_leave_the_environment_alone(self, place):
        place.environment(RELAY_PORT="9001", OPENAI_BASE_URL="http://other/v1")
        settings = Settings(host="::1", models=(ModelSettings(id="m", targets=[{"local": True}]),))
        assert (settings.port, settings.host, settings.upstream_url) == (8000, "::1", None)

    def test_they_are_frozen_and_take_no_unknown_name(self):
        with pytest.raises(ValidationError, match="frozen"):
            Settings().port = 1
        with pytest.raises(ValidationError, match="prot"):
            Settings(prot=1)


class TestWayUp:
    """How an upstream is reached."""

    def upstream(self, place, lines: str):
        place.write("relay.toml", f"[[upstreams]]\nname = 'a'\nbase_url = 'http://h/v1'\n{lines}")
        return place

    def test_a_proxy_may_be_a_secret_and_is_not_shown(self, place):
        place.environment(PROXY=f"socks5h://me:{CANARY}@proxy:1080")
        [upstream] = self.upstream(place, "proxy = 'env:PROXY'").load().upstreams
        assert upstream.proxy == f"socks5h://me:{CANARY}@proxy:1080"
        assert CANARY not in repr(upstream)

    @pytest.mark.parametrize(
        ("lines", "fault"),
        [
            ("proxy = 'ftp://proxy'", "a proxy is http://"),
            ("proxy = 'proxy:3128'", "a proxy is http://"),
            ("proxy = 'http://[proxy'", "a proxy is http://"),
            ("proxy = 'http://p'\ntransport = 'direct'", "'direct' does not do proxy"),
            ("http2 = true\ntransport = 'm:a'", "'m:a' does not do http2"),
            ("transport = 'curl'", "transport"),
            ("ca_file = '/no/such/file'", "ca_file"),
            ("max_idle = -1", "max_idle"),
        ],
    )
    def test_what_cannot_be_meant_is_told(self, place, lines, fault):
        assert fault in self.upstream(place, lines).fault()

    def test_a_key_belongs_to_a_certificate(self, place):
        key = place.write("relay.key", "")
        assert (
            "key_file is the key of cert_file"
            in self.upstream(place, f"key_file = '{key}'").fault()
        )
