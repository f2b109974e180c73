"""Why a request is not accepted, and how each protocol says so.

OTLP lets a client retry on few answers only (HTTP 429 and 503; gRPC RESOURCE_EXHAUSTED with `RetryInfo`,
and UNAVAILABLE), so the answer decides whether data is sent again or dropped: what can pass later must
get one of these, what never can must not.

Source: opentelemetry-proto, `docs/specification.md`, "Failures" of OTLP/gRPC and OTLP/HTTP.
"""

from __future__ import annotations

from enum import Enum

import grpc
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

__all__ = ["Refusal", "RefusedError"]

_MAX_MESSAGE_LENGTH = 500


class Refusal(Enum):
    """A reason, with its status in HTTP and in gRPC."""

    MALFORMED = (400, grpc.StatusCode.INVALID_ARGUMENT)
    UNAUTHENTICATED = (401, grpc.StatusCode.UNAUTHENTICATED)
    FORBIDDEN = (403, grpc.StatusCode.PERMISSION_DENIED)
    NOT_FOUND = (404, grpc.StatusCode.UNIMPLEMENTED)
    METHOD_NOT_ALLOWED = (405, grpc.StatusCode.UNIMPLEMENTED)
    TIMED_OUT = (408, grpc.StatusCode.CANCELLED)
    # INVALID_ARGUMENT: some clients retry RESOURCE_EXHAUSTED even without RetryInfo, and this never fits.
    TOO_LARGE = (413, grpc.StatusCode.INVALID_ARGUMENT)
    UNSUPPORTED = (415, grpc.StatusCode.INVALID_ARGUMENT)
    OVERLOADED = (429, grpc.StatusCode.RESOURCE_EXHAUSTED)
    UNAVAILABLE = (503, grpc.StatusCode.UNAVAILABLE)

    def __init__(self, http_status: int, grpc_code: grpc.StatusCode) -> None:
        self.http_status = http_status
        self.grpc_code = grpc_code


class RefusedError(Exception):
    """A request that is not accepted. The message is for the client alone: it may quote what was sent."""

    def __init__(self, refusal: Refusal, message: str, *, retry_after_s: int | None = None) -> None:
        self.message = _clip(message)
        super().__init__(self.message)
        self.refusal = refusal
        self.retry_after_s = retry_after_s

    @property
    def retry_info(self) -> RetryInfo | None:
        """When to come back, for a client that may."""
        if self.retry_after_s is None:
            return None
        info = RetryInfo()
        info.retry_delay.FromSeconds(self.retry_after_s)
        return info

    @property
    def status(self) -> Status:
        """The answer's body in OTLP/HTTP, and `grpc-status-details-bin` in gRPC."""
        code, _ = self.refusal.grpc_code.value
        status = Status(code=code, message=self.message)
        if (info := self.retry_info) is not None:
            status.details.add().Pack(info)
        return status


def _clip(message: str) -> str:
    """Short enough for an HTTP/2 header, and free of the lone surrogates that JSON allows and UTF-8 does not."""
    return message[:_MAX_MESSAGE_LENGTH].encode("utf-8", "replace").decode()
