import pytest

from tokenomics_plugin.waste.errors import is_deterministic, is_transient


@pytest.mark.parametrize(
    "error_type",
    [
        "TimeoutError",
        "openai.APITimeoutError",
        "RateLimitError",
        "anthropic.OverloadedError",
        "InternalServerError",
        "APIConnectionError",
        "ResourceExhausted",
        "408",
        "429",
        "500",
        "529",
    ],
)
def test_what_may_pass_by_itself_is_transient(error_type: str) -> None:
    assert is_transient(error_type)
    assert not is_deterministic(error_type)


@pytest.mark.parametrize(
    "error_type",
    [
        "ValidationError",
        "json.decoder.JSONDecodeError",
        "openai.BadRequestError",
        "NotFoundError",
        "PermissionDeniedError",
        "FileNotFoundError",
        "OutputParserException",
        "unknown_tool",
        "400",
        "422",
    ],
)
def test_what_must_fail_again_is_deterministic(error_type: str) -> None:
    assert is_deterministic(error_type)
    assert not is_transient(error_type)


@pytest.mark.parametrize("error_type", [None, "_OTHER", "tool_error", "ToolException", "APIError", "InvalidTimeout"])
def test_nobody_knows_what_a_name_that_says_neither_or_both_means(error_type: str | None) -> None:
    assert not is_transient(error_type)
    assert not is_deterministic(error_type)
