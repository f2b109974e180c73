from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

import tokenomics_langchain

HEAVY = ("torch", "transformers", "tokenomics_local_llm", "starlette", "fastapi", "uvicorn", "duckdb", "pandas")


def python(program: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], check=True, capture_output=True, text=True, timeout=120
    ).stdout.strip()


def test_importing_the_handler_brings_neither_models_nor_servers() -> None:
    loaded = python(
        f"""
        import sys
        from tokenomics_langchain import TokenomicsCallbackHandler
        TokenomicsCallbackHandler()
        print([name for name in {HEAVY!r} if name in sys.modules])
        """
    )
    assert loaded == "[]"


@pytest.mark.parametrize("missing", ["langchain_core", "langgraph"])
def test_without_langchain_the_error_names_the_extra(missing: str) -> None:
    message = python(
        f"""
        import sys
        from importlib.abc import MetaPathFinder
        class Blocker(MetaPathFinder):
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] == {missing!r}:
                    raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
        sys.meta_path.insert(0, Blocker())
        try:
            import tokenomics_langchain
        except ImportError as error:
            print(type(error).__name__, error)
        """
    )
    assert message.startswith(f"MissingExtraError {missing}")
    assert message.endswith("run `pip install 'tokenomics-plugin[langchain]'`")


def test_the_package_lists_what_it_loads_on_demand() -> None:
    assert set(tokenomics_langchain.__all__) <= set(dir(tokenomics_langchain))
    assert all(getattr(tokenomics_langchain, name) for name in tokenomics_langchain.__all__)


def test_other_names_are_unknown() -> None:
    with pytest.raises(AttributeError, match="no attribute 'ChatRemoteLLM'"):
        _ = tokenomics_langchain.ChatRemoteLLM
