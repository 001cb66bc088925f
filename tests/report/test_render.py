"""Pages show every number of the results and none of their own."""

import copy
import re
from html.parser import HTMLParser

import pytest
from report_samples import CASES, NAME, alpha, bare, estimate, sample

from bvpo_analysis.report import drawings, formatting, render
from bvpo_analysis.report.sections import Column, Section, Table, table
from bvpo_analysis.tables import jsonable


@pytest.fixture(scope="module", params=CASES)
def case(request):
    return CASES[request.param]()


@pytest.fixture(scope="module")
def page(case):
    return render.render_html(case)


@pytest.fixture(scope="module")
def html():
    return render.render_html(sample())


@pytest.fixture(scope="module")
def markdown():
    return render.render_markdown(sample())


class Reader(HTMLParser):
    """Text of a page, its ids and links, and whether its tags are balanced."""

    VOID = frozenset({"meta", "br", "hr", "img", "link", "input"})

    def __init__(self, page):
        super().__init__()
        self.open, self.words, self.ids, self.targets, self.tags = [], [], [], [], []
        self.feed(page)
        self.close()

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self._see(tag, attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self._see(tag, attrs)

    def _see(self, tag, attrs):
        self.tags.append(tag)
        for key, value in attrs:
            if key == "id":
                self.ids.append(value)
            if key == "href":
                self.targets.append(value)
            assert key not in ("src", "onload", "onclick"), (tag, key)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)


# --------------------------------------------------------------------------------------------- the formatter


@pytest.mark.parametrize(
    ("value", "low", "high", "text"),
    [
        (0.343, 0.281, 0.4149, "0.34 [0.28, 0.41]"),
        (0.31637, 0.28238, 0.34693, "0.316 [0.282, 0.347]"),
        (4.93, 0.313, 9.55, "4.9 [0.3, 9.6]"),
        (151.2, 120.1, 190.4, "151 [120, 190]"),
        (2.2e-06, -2.13e-05, 2.49e-05, "0.2 × 10⁻⁵ [−2.1, 2.5] × 10⁻⁵"),
        (-0.0208, -0.0529, 0.0114, "−0.021 [−0.053, 0.011]"),
        (-0.001, -0.6, 0.6, "0.0 [−0.6, 0.6]"),
        (0.5, 0.2, None, "0.50 [0.20, unbounded]"),
        (0.5, None, 0.8, "0.50 [unbounded, 0.80]"),
        (1.0, 1.0, 1.0, "1"),
        (0.0, 0.0, 0.0, "0"),
        (0.21886, 0.21886, 0.21886, "0.219"),
        (None, None, None, "n/a"),
    ],
)
def test_digits_follow_the_interval(value, low, high, text):
    shown = formatting.estimate_text({"value": value, "se": 0.1, "ci_low": low, "ci_high": high})
    assert shown == text


def test_null_ends_without_a_standard_error_are_no_interval():
    assert formatting.estimate_text({"value": 0.5, "se": None, "ci_low": None, "ci_high": None}) == "0.5"
    assert formatting.estimate_text(None) == "n/a"


def test_weights_say_what_kind_of_set_they_have():
    assert formatting.weight_parts(alpha("n", -0.44, 0.474, 3.046, "complement")) == ("−0.44", "outside (0.47, 3.05)")
    assert formatting.weight_parts(alpha("n", 0.4, None, None, "line")) == ("0.4", "[unbounded]")
    assert formatting.weight_parts(alpha("n", 0.5, None, None, "line", degenerate=True)) == ("not determined", "")
    assert formatting.weight_parts(alpha("n", 0.4, None, 0.9, "half-line")) == ("0.40", "[unbounded, 0.90]")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (NAME, {"target": "population", "batch_size": "16", "traces": "1", "kappa": "1"}),
        (
            "alpha_star.per_prompt.K4.kappa0.01",
            {"target": "per_prompt", "batch_size": "", "traces": "4", "kappa": "0.01"},
        ),
        ("alpha_star.population.B2.5.K1.kappa1e-05", {"target": "population", "batch_size": "2.5", "kappa": "1e-05"}),
        ("something else", {"target": "something else"}),
    ],
)
def test_names_of_weights_are_read(name, expected):
    found = render.target_of(name)
    assert {key: found[key] for key in expected} == expected


# ------------------------------------------------------------------------------------------------- the pages


def first_screen(results):
    """Value and interval of every number that the first screen must show."""
    head = results["headline"]
    yield formatting.recommended_parts(head["alpha"])
    yield formatting.weight_parts(head["alpha"])
    for row in head["errors"]:
        yield formatting.estimate_parts(row["mse"])
        yield formatting.estimate_parts(row["relative"])
    if head["half_regret"]["value"] is not None:
        yield formatting.percent_parts(head["half_regret"])
    yield formatting.estimate_parts(head["batch_equivalent"])
    if head["traces_worth"]:
        yield formatting.estimate_parts(head["traces_worth"])


def test_the_first_screen_shows_every_headline_number(case, page):
    text = Reader(page).text
    screen = text[: text.index("Alerts")]
    assert case["headline"]["alpha"]["name"] in screen
    assert "mixing pays" in screen
    for value, interval in first_screen(case):
        assert f"{value} {interval}".strip() in screen or (value in screen and interval in screen)


def test_markdown_shows_the_same(case):
    text = render.render_markdown(case)
    for value, interval in first_screen(case):
        assert f"{value} {interval}".strip() in text


def test_every_estimate_of_the_tables_is_in_both_pages(html, markdown):
    results, text = sample(), Reader(html).text
    rows = [
        row[key] for row in results["estimators"] for key in ("bias_sq", "trace_var", "data_var", "mse", "relative")
    ]
    rows += [row[key] for row in results["groups"] for key in ("bias_e_sq", "var_t", "trace_var")]
    rows += list(results["moments"].values())
    for item in rows:
        assert formatting.estimate_text(item) in text
        assert formatting.estimate_text(item) in markdown
    for row in results["alpha_grid"]:
        assert " ".join(formatting.grid_parts(row)).strip() in text


def test_the_page_is_well_formed_and_self_contained(page):
    reader = Reader(page)
    assert reader.open == []
    assert len(reader.ids) == len(set(reader.ids))
    assert all(target.startswith("#") and target[1:] in reader.ids for target in reader.targets)
    assert "http" not in page
    assert "src=" not in page
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)
    assert not {"script", "link", "img", "iframe"} & set(reader.tags)


def test_every_figure_has_words(html):
    for name in ("mse_alpha", "estimators", "alpha_grid", "groups"):
        assert f'aria-labelledby="fig-{name}-title fig-{name}-desc"' in html
        assert re.search(rf'<desc id="fig-{name}-desc">[^<]{{20,}}</desc>', html)


def test_text_from_outside_is_escaped(html, markdown):
    assert "tiny &lt;lrm&gt;" in html
    assert "Only 64 prompts &lt;so far&gt;." in html
    assert r"y' = y \| else" in markdown
    assert r"tiny \<lrm\>" in markdown


def test_every_claim_shows_its_two_numbers_and_its_condition(html, markdown):
    """Catches swapped columns, a claim left out, and a bound turned round."""
    page = Reader(html).text
    assert "Mixing always pays costs < gains | & so on ≤ 1.01 2.52" in page
    assert "The mix has the error of α_κ ≤ 1 ≤ 0.502 0.412 ± 0.0012 Bates & Granger 1969" in page
    assert r"| Mixing always pays | costs \< gains \| & so on | ≤ 1.01 | 2.52 |" in markdown
    assert "| The mix has the error of α_κ ≤ 1 | ≤ 0.502 | 0.412 ± 0.0012 | Bates & Granger 1969 |" in markdown
    assert page.index("Mixing always pays") < page.index("The mix has the error")


def test_step_sizes_show_smoothness_kappa_and_runs(html, markdown):
    """Catches a kappa in the column of the other optimiser, a bound claimed where kappa exceeds 1, swapped counts."""
    page = Reader(html).text
    assert "L is 3.22 " in page
    assert "2980 in Adam" in page.replace("\u2009", "")
    assert "| 0.01 | 0.0322 | 0.812 [0.765, 0.859] | 14.1 [12.8, 15.4] | 29.8 | none, κ \\> 1 |" in markdown
    assert "| 0.298 | applies |" in markdown
    assert "29.8 none, κ > 1" in page
    assert "0.298 none" not in page
    assert "8 of 8 (κ up to 101, none at the others)" in page
    assert "15 of 16 (κ" not in page
    assert "| g_t alone | 1 | 0.693 | 0.517 | 0.123 | 0.457 | 15 of 16 |" in markdown


def test_an_unknown_smoothness_is_said(html):
    """Catches numbers of the model in the box in the report of another model."""
    page = Reader(render.render_html(bare())).text
    assert "The smoothness of this model is not measured." in page
    assert "in Adam's metric" not in page


def test_warnings_come_first(html):
    assert html.index("Only 64 prompts") < html.index("α* is uncertain")


def test_no_alert_is_said():
    assert "no check of these data raised an alert" in render.render_html(bare())
    assert "no check of these data raised an alert" in render.render_markdown(bare())


def test_a_negative_square_is_explained_and_shown(html, markdown):
    for text in (Reader(html).text, markdown):
        assert "is drawn as zero there" in text
        assert "−0.021 [−0.053, 0.011]" in text


def test_configuration_and_provenance_are_complete(html, markdown):
    results = sample()
    for text in (Reader(html).text, markdown):
        text = text.replace("\u2009", " ")
        for word in ("20251", "3fa9", "b7c2", "31.2", "provenance.kept", "3.11.2", "775 MiB", "31 234", "42.1"):
            assert word in text
        for key in results["config"]:
            assert key.replace("_", " ") in text.replace("parameters (regular", "params")


def test_markdown_tables_have_even_rows(case):
    block = []
    for row in [*render.render_markdown(case).splitlines(), ""]:
        if row.startswith("|"):
            block.append(len(re.findall(r"(?<!\\)\|", row)))
            continue
        assert len(set(block)) <= 1
        assert len(block) != 1
        block = []


def test_markdown_names_the_figures_that_are_written(tmp_path):
    text = render.render_markdown(sample())
    written = {path.name for path in drawings.write_figures(sample(), tmp_path)}
    named = set(re.findall(r"\]\(figures/([\w.]+)\)", text))
    assert len(named) == 5
    assert named <= written
    assert all(name.replace(".png", suffix) in written for name in named for suffix in (".pdf", ".csv"))


def test_rendering_twice_gives_the_same_bytes(html, markdown):
    assert render.render_html(sample()) == html
    assert render.render_markdown(sample()) == markdown


def test_rendering_leaves_the_results_alone():
    results = sample()
    before = copy.deepcopy(results)
    render.render_html(results)
    render.summary_table(results)
    assert results == before


@pytest.mark.parametrize(
    "change",
    [
        {"cost": None},
        {"versions": None},
        {"alerts": None},
        {"exact": None},
        {"model": {}},
        {"claims": None},
        {"step_sizes": None},
    ],
)
def test_missing_parts_are_tolerated(change):
    results = sample() | change
    Reader(render.render_html(results))
    assert render.render_markdown(results)


# ------------------------------------------------------------------------------------------------ sections as data


def with_section():
    """Results with one section that has a column of every kind."""
    kinds = ["words", "symbol", "code", "number", "estimate", "percent", "weight", "yes"]
    row = ["g_t | <K>", "|b_e|²", "alpha_star.x", 1234.5, estimate(0.519, 0.0213), estimate(0.1957, 0.013), None, True]
    other = ["none", "", "n", None, None, None, alpha(NAME, 0.61723, 0.51, 0.73), False]
    tables = (table("every kind", [(f"column {kind}", kind) for kind in kinds], [row, other], best=1),)
    section = Section("kinds", "Kinds of columns", "Kinds", ("Before g_t.",), tables, ("After.",))
    return sample() | jsonable({"sections": [section]})


def test_a_section_is_shown_whole_in_both_pages():
    results = with_section()
    page, markdown = render.render_html(results), render.render_markdown(results)
    reader = Reader(page)
    assert reader.open == []
    assert "kinds" in reader.ids
    assert "#kinds" in reader.targets
    for text in (reader.text, markdown):
        for words in ("Kinds of columns", "Before", "After.", "column weight", "alpha_star.x", "1230", "yes", "no"):
            assert words in text
        assert formatting.estimate_text(estimate(0.519, 0.0213)) in text
        assert "19.6 %" in text
        assert "0.62" in text
    assert "&lt;K&gt;" in page
    assert markdown.index("### Kinds of columns") > markdown.index("## Appendix")


def test_tables_of_sections_have_even_rows():
    markdown = render.render_markdown(with_section())
    start = markdown.index("### Kinds of columns")
    lines = [x for x in markdown[start:].split("\n### ")[0].splitlines() if x.startswith("|")]
    assert len(lines) == 4
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1


def test_rows_must_fit_their_columns():
    with pytest.raises(ValueError, match="has 1 columns, got a row of 2"):
        Table("short", (Column("a", "number"),), ((1, 2),))
    with pytest.raises(ValueError, match="unknown kind of column 'integer'"):
        Column("a", "integer")


# ------------------------------------------------------------------------------------------------ the terminal


def test_the_terminal_table_is_short_and_complete(case):
    table = render.summary_table(case)
    lines = table.splitlines()
    assert len(lines) <= 12
    assert max(map(len, lines)) <= 100
    assert table.isascii()
    assert case["headline"]["alpha"]["name"] in table
    for row in case["headline"]["errors"]:
        assert formatting.ascii_text(formatting.estimate_text(row["relative"])) in table
    assert formatting.ascii_text(formatting.estimate_text(case["headline"]["traces_worth"])) in table
    assert "mixing pays" in table
    assert lines[-1].startswith("alerts")


def test_a_long_verdict_is_cut():
    results = sample()
    results["headline"]["verdict"]["reason"] = "word " * 200
    lines = render.summary_table(results).splitlines()
    assert len(lines) == 12
    assert max(map(len, lines)) <= 100
