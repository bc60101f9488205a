"""What the report says of meta-training's sampler."""

from report_page import page
from report_variants import TASKS, sampled


def test_the_sources_of_meta_training_are_shown_with_why_others_were_left_out() -> None:
    shown = page(sampled())
    first, second, third, *_, last = TASKS
    words = f"drew rows of the target and of 2 of {len(TASKS)} sources. Before each of its 2 rounds"
    assert words in shown.text("sampled")
    assert shown.row("sampled", "sst2") == ["25.0%", "-", "target, in every round"]
    assert shown.row("sampled", first) == ["37.5%", "0.50", "trained on in round 1"]
    assert shown.row("sampled", second) == ["37.5%", "0.90", "trained on in round 2"]
    assert shown.row("sampled", third) == ["0.0%", "1.30", "represented by others"]
    assert shown.row("sampled", last)[-1] == "left out: its labels are among those learned worst"
    assert "sampled" not in page().texts


def test_a_source_of_several_rounds_is_named_with_all_of_them() -> None:
    content = sampled()
    rounds = content["schedule"]["rounds"]
    content["schedule"]["rounds"] = [*rounds, rounds[0]] + [{**each, "adapted": {}} for each in rounds]
    shown = page(content)
    assert shown.row("sampled", TASKS[0])[-1] == "trained on in rounds 1, 3 and 4"
    assert shown.row("sampled", TASKS[1])[-1] == "trained on in rounds 2 and 5"
