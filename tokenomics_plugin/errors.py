"""What this package raises on bad input: a value, the rule it broke, and the way out."""

__all__ = ["MalformedLineError", "MalformedOtlpError", "MissingExtraError", "StoreError", "TokenomicsError"]


class TokenomicsError(Exception):
    """Base of every error that this package raises on purpose."""


class StoreError(TokenomicsError):
    """A store cannot be opened, read or written."""


class MissingExtraError(TokenomicsError, ModuleNotFoundError):
    """An optional dependency is not installed; the message names the extra that brings it."""

    def __init__(self, module: str, *, extra: str) -> None:
        super().__init__(f"{module} is not installed: run `pip install 'tokenomics-plugin[{extra}]'`")
        self.name = module
        self.extra = extra


class MalformedLineError(TokenomicsError, ValueError):
    """A line of a file that cannot be read as what the file is said to hold."""


class MalformedOtlpError(MalformedLineError):
    """Bytes or text that are not the OTLP request they claim to be."""
