"""LangChain's own tests for chat models, on SmolLM2-135M."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from langchain_core.language_models import BaseChatModel
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from tokenomics_langchain import ChatLocalLLM


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)  # on a busy machine, threads that wait for each other are the slowest part


class _Suite:
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatLocalLLM

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {}

    @property
    def standard_chat_model_params(self) -> dict[str, Any]:
        # Without the timeout, retries and key of a model that is reached over a network.
        return {"temperature": 0, "max_tokens": 60, "stop": [], "seed": 0}


class TestUnit(_Suite, ChatModelUnitTests):
    pass


class TestIntegration(_Suite, ChatModelIntegrationTests):
    pass
