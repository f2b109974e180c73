from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal
from html.parser import HTMLParser
from typing import Any

import jsonschema
import pytest

from tokenomics_plugin.pages import FORMATS, Report, render
from tokenomics_plugin.report import SCHEMA_VERSION, schema
from tokenomics_plugin.report.table import WIDTH, display_width

SUFFIX = {"text": "txt", "json": "json"}


def without_versions(output: str) -> str:
    """The output without what changes when a dependency does."""
    output = re.sub(r"genai-prices \d+(\.\d+)*", "genai-prices N", output)
    # Quantiles differ in the last digits from one release of scipy to the next.
    return re.sub(r"\d+\.\d{12,}(e-?\d+)?", lambda number: f"{float(number[0]):.9g}", output)


@pytest.mark.parametrize("form", SUFFIX)
def test_views_say_what_they_did(
    case: tuple[str, Report], form: str, assert_golden: Callable[[str, str], None]
) -> None:
    name, report = case
    assert_golden(f"{name}.{SUFFIX[form]}", without_versions(render(report, form)))


@pytest.mark.parametrize("form", FORMATS)
def test_every_view_can_be_written_as_utf8_and_ends_its_last_line(case: tuple[str, Report], form: str) -> None:
    output = render(case[1], form)
    assert output.encode().decode() == output
    assert output.endswith("\n")


def test_text_fits_the_screen_and_steers_no_terminal(case: tuple[str, Report]) -> None:
    for line in render(case[1], "text").removesuffix("\n").split("\n"):
        assert display_width(line) <= WIDTH
        assert line == line.rstrip()
        assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]", line)


def test_json_is_valid_against_its_schema(case: tuple[str, Report]) -> None:
    document = json.loads(render(case[1], "json"))
    jsonschema.Draft202012Validator(schema()).validate(document)
    assert document["schema_version"] == SCHEMA_VERSION


def test_the_schema_is_one_and_describes_every_key() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())

    def undescribed(part: Any, path: str) -> list[str]:
        found = []
        for key, value in part.get("properties", {}).items():
            resolved = schema()["$defs"][value["$ref"].split("/")[-1]] if "$ref" in value else value
            if "description" not in value and "description" not in resolved:
                found.append(f"{path}.{key}")
            found += undescribed(value.get("items", value), f"{path}.{key}")
        return found

    assert undescribed(schema(), "") == []
    for name, part in schema()["$defs"].items():
        assert undescribed(part, name) == []


@pytest.mark.parametrize(
    "spoil",
    [
        lambda document: document.pop("total"),
        lambda document: document.update(extra=1),
        lambda document: document["total"].update(cost_usd=0.5),
        lambda document: document["success_rate"].pop("withheld"),
    ],
    ids=["key missing", "key too many", "money as a float", "nested key missing"],
)
def test_the_schema_refuses_what_it_does_not_describe(
    busy_report: Report, spoil: Callable[[dict[str, Any]], None]
) -> None:
    document = json.loads(render(busy_report, "json"))
    spoil(document)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema()).validate(document)


def test_json_keeps_amounts_exact_and_the_unknown_null(busy_report: Report) -> None:
    document = json.loads(render(busy_report, "json"))
    assert document["total"]["cost_usd"] is None
    assert Decimal(document["total"]["priced_cost_usd"]) == busy_report.summary.total.priced_cost_usd
    assert document["success_rate"]["estimate"] == busy_report.summary.success_rate.estimate


def test_json_is_ascii_so_that_no_name_steers_what_shows_it(hostile_report: Report) -> None:
    output = render(hostile_report, "json")
    assert output.isascii()
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", output)
    names = {group["name"] for group in json.loads(output)["agents"]}
    assert "</script><script>alert(1)</script>" in names, "names are data: they come through unchanged"


class Page(HTMLParser):
    """What a browser would see of a page."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_no_name_becomes_a_tag_or_an_attribute(hostile_report: Report) -> None:
    page = Page(render(hostile_report, "html"))
    assert [attrs for tag, attrs in page.tags if tag == "script"] == [
        {"type": "application/json", "id": "data"},
        {},
        {},
    ]
    assert not {"img", "b", "iframe", "object", "form"} & {tag for tag, _ in page.tags}
    assert all(str(attrs["href"]).startswith("#") for tag, attrs in page.tags if tag == "a"), "links stay in the file"
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert any("</script><script>alert(1)</script>" in text for text in page.texts), "it is shown as text"


def test_the_page_refers_to_nothing_outside_itself(busy_report: Report) -> None:
    page = Page(render(busy_report, "html"))
    references = [(name, value) for _, attrs in page.tags for name, value in attrs.items() if name in ("src", "href")]
    assert {value for _, value in references} == {"data:,", "#report", "#finance", "#engineering", "#developer"}


def test_the_page_forbids_itself_everything_but_its_own_scripts(busy_report: Report) -> None:
    page = Page(render(busy_report, "html"))
    (policy,) = [attrs["content"] for _, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    directives = dict(part.split(" ", 1) for part in policy.split("; "))
    assert directives["default-src"] == "'none'"
    assert re.fullmatch(r"'sha256-[\w+/=]{44}' 'sha256-[\w+/=]{44}'", directives["script-src"])
