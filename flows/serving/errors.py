"""Errors as answers, in OpenAI's form."""

from __future__ import annotations

from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

__all__ = ["ApiError", "ErrorBody", "fault"]


class ErrorDetail(TypedDict):
    """Of an error."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(TypedDict):
    """The JSON of an error."""

    error: ErrorDetail


class ApiError(Exception):
    """An answer in OpenAI's form of an error."""

    def __init__(
        self, status: int, message: str, *, code: str | None = None, param: str | None = None, retry: int | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param, self.retry = status, message, code, param, retry

    def body(self) -> ErrorBody:
        """The JSON of the answer."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        if self.status == 429:
            kind = "rate_limit_error"
        message = self.message.encode(errors="replace").decode()  # it may quote half a character
        return {"error": {"message": message, "type": kind, "param": self.param, "code": self.code}}


def fault(number: str) -> ApiError:
    """What a client is told of an error of ours; the log has its traceback under the same number."""
    return ApiError(500, f"an error of the server; its log tells more under {number}", code="internal_error")
