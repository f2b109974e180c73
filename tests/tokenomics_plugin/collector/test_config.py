from pathlib import Path

import pytest

from tokenomics_plugin.collector import CollectorConfig, CollectorError


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "localhost"])
def test_loopback_needs_no_token(host: str) -> None:
    assert CollectorConfig(db=Path("x.duckdb"), host=host).token is None


# example.org may resolve to anything, also tomorrow.
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "192.168.1.5", "example.org", ""])
def test_off_loopback_without_a_token_it_refuses_to_start(host: str) -> None:
    with pytest.raises(CollectorError, match="without a bearer token"):
        CollectorConfig(db=Path("x.duckdb"), host=host)


def test_off_loopback_with_a_token_it_starts() -> None:
    assert CollectorConfig(db=Path("x.duckdb"), host="0.0.0.0", token="secret").host == "0.0.0.0"


@pytest.mark.parametrize("token", ["", " ", "line\nbreak", "schlüssel"], ids=["empty", "blank", "newline", "umlaut"])
def test_a_token_must_fit_into_a_header(token: str) -> None:
    with pytest.raises(CollectorError, match="printable ASCII"):
        CollectorConfig(db=Path("x.duckdb"), token=token)


def test_the_token_does_not_show_in_logs() -> None:
    assert "secret" not in repr(CollectorConfig(db=Path("x.duckdb"), token="secret"))


def test_a_budget_smaller_than_one_request_is_refused() -> None:
    with pytest.raises(CollectorError, match="max_in_flight_bytes"):
        CollectorConfig(db=Path("x.duckdb"), max_in_flight_bytes=2**20)
