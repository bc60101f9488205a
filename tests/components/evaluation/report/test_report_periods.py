"""What the report says of past periods in meta-training."""

from report_page import page
from report_variants import TASKS, over_time

from gradsift.components.evaluation.report.report_periods import periods_of
from gradsift.components.shared.records.sampling_schedule import SamplingSchedule


def test_past_periods_stand_in_order_of_time_with_their_shares_and_their_agreement_with_now() -> None:
    content = over_time()
    newest, middle, oldest = TASKS[1:4]
    content["selection"]["selected"] = [newest]
    shown = page(content)
    assert shown.row("periods", oldest) == ["2005", "70.0%", "0.50", "left out"]
    assert shown.row("periods", middle) == ["2006", "0.0%", "0.30", "left out"]
    assert shown.row("periods", newest) == ["2007", "10.0%", "0.10", "chosen"]
    assert shown.row("periods", "sst2") == ["2008", "20.0%", "-", "target"]
    assert [row[1] for row in shown.rows["periods"][-4:]] == ["2005", "2006", "2007", "2008"]
    assert f"drew most often is {oldest}. Recency would have begun with 2007." in shown.text("periods")
    assert "sampled" not in shown.texts
    assert "periods" not in page().texts


def test_an_earlier_schedule_stands_beside_the_agreement_that_it_counts_in() -> None:
    content = over_time()
    newest, middle, oldest = TASKS[1:4]
    content["schedule"]["earlier"] = {
        "origin": "version 3 of <reviews>",
        "cosines": {middle: 0.9, oldest: -0.1},
    }
    shown = page(content)
    assert "It began with the schedule of version 3 of <reviews> (“Before”)" in shown.text("periods")
    assert shown.row("periods", oldest) == ["2005", "70.0%", "-0.10", "0.30", "left out"]
    assert shown.row("periods", middle) == ["2006", "0.0%", "0.90", "0.50", "left out"]
    assert shown.row("periods", newest)[:4] == ["2007", "10.0%", "-", "0.10"]
    assert "It began" not in page(over_time()).text("periods")


def test_the_newest_past_period_may_be_the_best() -> None:
    content = over_time()
    shares = content["schedule"]["rounds"][-1]["shares"]
    content["schedule"]["rounds"][-1]["shares"] = shares | {TASKS[1]: 0.7, TASKS[3]: 0.1}
    text = page(content).text("periods")
    assert (
        f"drew most often is {TASKS[1]}. This is the newest one, with which recency would have begun" in text
    )


def test_no_period_agrees() -> None:
    content = over_time()
    for each in content["schedule"]["rounds"]:
        each["cosines"] = dict.fromkeys(each["cosines"], -0.1)
    assert "No source agreed, so rows were drawn by size." in page(content).text("periods")


def test_recency_measures_no_agreement() -> None:
    content = over_time()
    content["schedule"] |= {
        "sampler": "recency",
        "rounds": [{"shares": content["schedule"]["rounds"][0]["shares"]}],
    }
    shown = page(content)
    assert "by age alone" in shown.text("periods")
    assert len(shown.row("periods", TASKS[1])) == 3


def test_a_period_that_was_cut_into_parts_says_how_many_were_chosen() -> None:
    schedule = SamplingSchedule.model_validate(over_time()["schedule"])
    rows = {row.task: row for row in periods_of(schedule, [f"{TASKS[1]}#01", f"{TASKS[1]}#03"])["periods"]}
    assert (rows[TASKS[1]].chosen, rows[TASKS[1]].fate) == (True, "2 of its parts chosen")
    assert (rows[TASKS[2]].chosen, rows[TASKS[2]].fate) == (False, "left out")
