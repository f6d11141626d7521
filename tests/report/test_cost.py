"""Tests what is said of the time and the money that a study took."""

import pytest

from krona_tune.record.records import read_records
from krona_tune.refusal import Refusal
from krona_tune.report.study_page import write_report
from krona_tune.study.devices import devices_of, price_of
from krona_tune.study.folder import StudyFolder
from krona_tune.study.formatting import format_money
from krona_tune.study.manifest import read_manifest
from krona_tune.study.request.study_spec import ResourcesSpec
from tests.report.pages import read


def test_time_and_what_early_stopping_saved_are_told(study: StudyFolder) -> None:
    text = read(write_report(study)).text
    table = text[text.index("Device hours sum") :]
    assert "COLA 6 3 completed, 1 stopped early, 1 diverged, 1 interrupted 22 s 2.2 s 0.01 45 s 1.0 MB 30 %" in table


@pytest.mark.parametrize("cores", [1, 4])
def test_with_a_price_money_stands_beside_device_hours(study: StudyFolder, cores: int) -> None:
    plain = write_report(study).read_text(encoding="utf-8")
    written = f"resources: {{cpus_per_trial: {cores}, price_per_hour: 1000}}\n"
    study.spec.write_text(f"model: tiny\n{written}", encoding="utf-8")
    page = write_report(study).read_text(encoding="utf-8")
    manifest = read_manifest(study.manifest)
    resources = ResourcesSpec(cpus_per_trial=cores, price_per_hour=1000)
    had, price = devices_of(resources, gpu=manifest.device == "cuda"), price_of(resources)
    assert price
    whole = price.of(map(had.filled_in, read_records(study.results).trials))
    assert whole > 0
    section = page[page.index('<h2 id="cost">') :].partition("</table>")[0]
    assert '<th scope="col" class="number">Money</th>' in section
    assert f'<td class="number" data-value="{whole}">{format_money(whole)}</td>' in section.partition("<tfoot>")[2]
    assert "money is 1,000.00 a device hour" in section
    assert f"times the devices of each ({had.text})" in section
    hours = f'<td class="number">{whole / 1000:.2f}</td>'
    assert hours in section.partition("<tfoot>")[2]
    assert section.count("</td>") == plain[plain.index('<h2 id="cost">') :].partition("</table>")[0].count("</td>") + 4
    assert "Money" not in plain
    assert "money" not in plain.partition('<h2 id="cost">')[2].partition("</table>")[0]


@pytest.mark.parametrize(
    ("written", "section"),
    [
        ("resources: {price_per_hour: x}", "resources"),
        ("search: {trials: few}", "search"),
        ("search: [7]", "search"),
    ],
)
def test_an_odd_section_of_an_edited_request_is_refused(study: StudyFolder, written: str, section: str) -> None:
    study.spec.write_text(f"{written}\n", encoding="utf-8")
    with pytest.raises(Refusal, match=rf"study\.yaml: its {section} can't be read"):
        write_report(study)
