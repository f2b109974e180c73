"""What this package raises on purpose: a value, the rule it broke, and the way out."""

__all__ = ["LocalLLMError", "MissingExtraError", "ModelLoadError", "PromptTooLongError", "UnsupportedSchemaError"]


class LocalLLMError(Exception):
    """Base of every error that this package raises on purpose."""


class MissingExtraError(LocalLLMError, ModuleNotFoundError):
    """An optional dependency is not installed; the message names the extra that brings it."""

    def __init__(self, module: str, *, extra: str = "local") -> None:
        super().__init__(f"{module} is not installed: run `pip install 'tokenomics-plugin[{extra}]'`")
        self.name = module


class ModelLoadError(LocalLLMError):
    """No model can be made of a name, a folder or a file."""


class PromptTooLongError(LocalLLMError, ValueError):
    """A prompt leaves no room in the model's context for a single new token."""


class UnsupportedSchemaError(LocalLLMError, ValueError):
    """A JSON schema or grammar that the grammar engine cannot enforce."""
