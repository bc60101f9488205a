"""The KFP interface of promotion: is there anything new to learn from, and is what came out the best so far?"""

from kfp import dsl

from gradsift.components.shared.images import CPU_IMAGE, TRAIN_IMAGE


@dsl.component(base_image=CPU_IMAGE, install_kfp_package=False)
def compare_with_champion(data: dsl.Input[dsl.Dataset], settings: dict) -> str:
    """Say whether this run's data or settings differ from those of the registered model.

    Args:
        data: pointer to the prepared data.
        settings: what preflight resolved for promotion.

    Returns:
        `changed` where there is something to do, else `unchanged`.
    """
    from gradsift.components.shared.parameters.promotion import PromotionConfig

    config = PromotionConfig(**settings["config"])
    if not config.model_name:
        return "changed"

    from gradsift.components.promotion.freshness import is_changed
    from gradsift.components.shared.step_output import read_pointer
    from gradsift.components.shared.step_run import begin_step

    with begin_step("freshness", settings, {"model_name": config.model_name}) as tracker:
        changed = is_changed(config, read_pointer(data), settings["digest"], settings["output_uri"], tracker)
    return "changed" if changed else "unchanged"


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def promote_model(
    data: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    decision: dsl.Output[dsl.Markdown],
    settings: dict,
) -> None:
    """Register the fine-tuned model as candidate, and as champion if it is good enough.

    Args:
        data: pointer to the prepared data.
        model: pointer to the fine-tuned model.
        decision: what was decided, and why.
        settings: what preflight resolved for promotion.
    """
    from pathlib import Path

    from gradsift.components.promotion import step
    from gradsift.components.shared.parameters.promotion import PromotionConfig
    from gradsift.components.shared.step_output import read_pointer
    from gradsift.components.shared.step_run import begin_step
    from gradsift.components.shared.storage import atomic_file

    config, root = PromotionConfig(**settings["config"]), settings["output_uri"]
    with begin_step(step.STEP, settings, config.model_dump()) as tracker:
        made = step.promote(
            config, read_pointer(data), read_pointer(model), settings["digest"], root, tracker
        )
        tracker.metrics({"promoted": float(made.promoted)})
    with atomic_file(Path(decision.path)) as path:
        path.write_text(f"# Promotion\n\n{made.words}\n", encoding="utf-8")
