"""The KFP interface of promotion: is there anything new to learn from, and is what came out the best so far?"""

from kfp import dsl

from gradsift.components.shared.images import CPU_IMAGE, TRAIN_IMAGE


@dsl.component(base_image=CPU_IMAGE, install_kfp_package=False)
def compare_with_champion(
    data: dsl.Input[dsl.Dataset],
    output_uri: str,
    settings: str,
    model_name: str = "",
) -> str:
    """Say whether this run's data or settings differ from those of the registered model.

    Args:
        data: pointer to the prepared data.
        output_uri: run root, a local path or an s3:// address.
        settings: digest of the settings that decide what comes out.
        model_name: registered model in MLflow that the fine-tuned model becomes a version of, by the aliases
            `candidate` and `champion`; a run whose data and settings are those of a version that was judged ends
            early. Empty registers nothing.

    Returns:
        `changed` where there is something to do, else `unchanged`.
    """
    if not model_name:
        return "changed"

    from gradsift.components.promotion.config import PromotionConfig
    from gradsift.components.promotion.freshness import is_changed
    from gradsift.components.shared.step_output import read_pointer
    from gradsift.components.shared.step_run import open_step

    config = PromotionConfig(model_name=model_name)
    with open_step("freshness", output_uri, {"model_name": model_name}) as tracker:
        changed = is_changed(config, read_pointer(data), settings, output_uri, tracker)
    return "changed" if changed else "unchanged"


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def promote_model(
    data: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    decision: dsl.Output[dsl.Markdown],
    output_uri: str,
    settings: str,
    model_name: str = "",
    min_gain: float = 0.0,
) -> None:
    """Register the fine-tuned model as candidate, and as champion if it is good enough.

    Args:
        data: pointer to the prepared data.
        model: pointer to the fine-tuned model.
        decision: which version it is, and whether it took the champion's place, and why.
        output_uri: run root, a local path or an s3:// address.
        settings: digest of the settings that decide what comes out.
        model_name: registered model in MLflow that the fine-tuned model becomes a version of, by the aliases
            `candidate` and `champion`; a run whose data and settings are those of a version that was judged ends
            early. Empty registers nothing.
        min_gain: what a candidate's accuracy on the target's test split must be above the champion's, on the same
            rows, to take its place; 0 lets an equal one, a negative number a slightly worse one.
    """
    from dataclasses import asdict
    from pathlib import Path

    from gradsift.components.promotion import step
    from gradsift.components.promotion.config import PromotionConfig
    from gradsift.components.shared.step_output import read_pointer
    from gradsift.components.shared.step_run import open_step
    from gradsift.components.shared.storage import atomic_file

    config = PromotionConfig(model_name=model_name, min_gain=min_gain)
    with open_step(step.STEP, output_uri, asdict(config)) as tracker:
        made = step.promote(config, read_pointer(data), read_pointer(model), settings, output_uri, tracker)
        tracker.metrics({"promoted": float(made.promoted)})
    with atomic_file(Path(decision.path)) as path:
        path.write_text(f"# Promotion\n\n{made.words}\n", encoding="utf-8")
