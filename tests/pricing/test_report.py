"""What is shown: nobody else's markdown, no more findings than fit, an image of earlier runs."""

from __future__ import annotations

import base64
import re
from datetime import datetime, timezone
from xml.etree import ElementTree

from clustrix_prefect.pricing.checks import Asked, Evidence, Finding, Level
from clustrix_prefect.pricing.fetch import Fetch, PriceList
from clustrix_prefect.pricing.history import Record, last_passed_counts, trend
from clustrix_prefect.pricing.report import summary, table, verdict
from clustrix_prefect.pricing.thresholds import DEFAULT

HOSTILE = "a|b [x](javascript:alert(1)) <img src=x> `c` *d*\nrow"
NOW = datetime.now(timezone.utc)


def asked(provider: str = "aws") -> Asked:
    fetch = Fetch(provider=provider, source="x", authentication="none", started_at=NOW)
    return Asked(provider=provider, answer=PriceList((), fetch))


def failures(number: int) -> list[Finding]:
    evidence = (Evidence(text=HOSTILE, instance_type=HOSTILE, region="us-east-1"),)
    return [
        Finding(Level.FAILURE, f"check{n}", "aws", f"{HOSTILE} {n}", evidence)
        for n in range(number)
    ]


def test_a_state_names_ten_failures() -> None:
    lines = verdict([asked()], failures(12)).message.split("\n- ")
    assert lines[0].startswith("Degraded: 12 failures (aws: check0, check1, ")
    assert len(lines) == 1 + 10
    assert lines[-1].endswith("and 2 more")


def test_the_first_line_is_the_verdict_with_its_time_and_failures_come_first() -> None:
    page = summary([asked("gcp"), asked("aws")], failures(1), baseline="", image="data:,")
    first = page.partition("\n")[0].replace("\\", "")
    assert re.match(r"\*\*Degraded: 1 failure.*\*\* \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$", first)
    assert page.index("| aws |") < page.index("| gcp |")


def test_texts_of_others_are_no_markdown() -> None:
    page = summary([asked()], failures(1), baseline=HOSTILE, image="data:,")
    assert "[x](" not in page
    assert "<img" not in page.replace("\\<img", "")
    (row, evidence) = table(asked(), failures(1), DEFAULT)
    for text in (row["note"], evidence["type"], evidence["note"]):
        assert "a\\|b \\[x\\]" in text
        assert "\n" not in text


def test_what_is_to_be_typed_is_code() -> None:
    finding = Finding(Level.FAILURE, "availability", "aws", "Type `pip install 'x[aws]'`.", ())
    page = summary([asked()], [finding], baseline="Approve with `approve_prices`.", image="data:,")
    assert "Type `pip install 'x[aws]'`." in page
    assert "`approve_prices`" in page


def record(number: int, **fields: object) -> Record:
    usual = {
        "at": f"2026-01-{number:02d}T06:00:00+00:00",
        "failures": 0,
        "warnings": 0,
        "prices": 100 * number,
        "passed": ("aws",),
        "counts": {"aws": {"us-east-1": number}, "gcp": {"us-central1": number}},
    }
    return Record(**{**usual, **fields})  # type: ignore[arg-type]


def test_a_record_comes_back_from_an_artifact() -> None:
    assert Record.of_metadata(record(3).as_metadata()) == record(3)
    assert Record.of_metadata({"validation": "{}"}) is None
    assert Record.of_metadata(None) is None


def test_counts_of_the_last_run_that_passed() -> None:
    runs = [record(1), record(2), record(3, passed=("gcp",), failures=1)]
    assert last_passed_counts(runs) == {"aws": {"us-east-1": 2}, "gcp": {"us-central1": 3}}


def test_the_image_of_earlier_runs() -> None:
    runs = [record(1), record(2, warnings=1), record(3, failures=2)]
    kind, _, data = trend(runs).partition(",")
    assert kind == "data:image/svg+xml;base64"
    image = ElementTree.fromstring(base64.b64decode(data))
    bars = image.findall("{http://www.w3.org/2000/svg}rect")
    assert [bar.get("fill") for bar in bars] == ["#3c9d5f", "#f0ad4e", "#d9534f"]
    assert [float(bar.get("height") or 0) for bar in bars] == [20, 40, 60]
    assert trend([]).startswith("data:image/svg+xml")
