"""Files of other tools into a store: OTLP as it is, OTLP in foreign dialects, and chat logs.

Each format is a way from a line to OTLP requests; reading, batches, bad lines and duplicates are the store's.
"""

from collections.abc import Callable, Mapping
from typing import BinaryIO, Final

from tokenomics_plugin.importing.chat import import_chat
from tokenomics_plugin.importing.chat_log import ChatLogError
from tokenomics_plugin.importing.openinference import import_openinference
from tokenomics_plugin.store import ImportResult, TraceStore, import_otlp_json

__all__ = ["FORMATS", "ChatLogError", "import_chat", "import_openinference", "import_otlp_json"]

FORMATS: Final[Mapping[str, Callable[[TraceStore, BinaryIO], ImportResult]]] = {
    "otlp": import_otlp_json,
    "openinference": import_openinference,
    "chat": import_chat,
}
"""The importers by the names that the command line has for them."""
