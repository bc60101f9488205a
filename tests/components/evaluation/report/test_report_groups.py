"""The report's part on groups: every model's gaps, what the limit cost, and the path of its multipliers."""

import re

from report_page import page
from report_variants import grouped

from gradsift.components.evaluation.report.report_groups import groups_of
from gradsift.components.shared.records.group_results import GroupReport


def test_groups_stand_beside_each_other_with_what_the_limit_cost() -> None:
    shown = page(grouped())
    text = shown.text("groups")
    assert "This compares 612 test rows of group north with 388 of other groups" in text
    assert "7 test rows have no group and are left out here." in text
    assert "With the limit the model is less accurate than without it (-1.5 points, -2.5 to -0.5)" in text
    assert "its covariance is +0.0600 instead of +0.2200; its parity gap is +9.0 instead of +19.0." in text
    assert "No limit could be set for trec" in text
    assert "Only 7 test rows are of other groups." in text
    free = shown.row("groups", "Chosen sources, no limit")
    assert free[0] == "82.5%81.5 to 83.5%"
    assert free[5:] == ["+19.0+18.0 to +20.0", "+9.5+8.5 to +10.5", "-", "+0.2200+0.2100 to +0.2300"]
    path = [row for row in shown.rows["groups"] if len(row) == 5][1:]
    assert [row[0] for row in path] == ["0", "5", "10", "15", "20", "25", "30", "35", "40"]
    assert path[-1][1] == "0.80"
    assert "groups" not in page().texts


def test_the_chart_has_room_for_the_names_of_the_models_with_and_without_the_limit() -> None:
    content = grouped()
    own = next(each for each in content["groups"]["models"] if each["name"] == "unconstrained")
    names = ["selected", "all", "target_only", "random", "unconstrained"]
    content["groups"]["models"] = [{**own, "name": name} for name in names]
    report = GroupReport.model_validate(content["groups"])
    labels = re.findall(r'class="label[^>]*>([^<]*)', str(groups_of(report)["group_trade_off"]))
    assert labels[:2] == ["Chosen sources", "Chosen sources, no limit"]


def test_the_estimated_gap_stands_beside_the_estimated_loss() -> None:
    shown = page(grouped())
    assert "A choice may have a gap of at most 12.0% on either side of zero." in shown.text("methods")
    header, *rows = shown.rows["methods"]
    column = header.index("Estimated gap")
    gaps = {row[column] for row in rows}
    assert {"+5.0", "+10.0"} <= gaps
    assert "Estimated gap" not in page().rows["methods"][0]


def test_without_a_limit_the_groups_are_only_measured() -> None:
    content = grouped()
    content["groups"] |= {"cost": None, "training": None, "models": content["groups"]["models"][:1]}
    text = page(content).text("groups")
    assert "With the limit" not in text
    assert "The limit in training" not in text
