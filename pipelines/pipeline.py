"""The pipeline: its steps, wired."""

import inspect
from typing import Any

from kfp import dsl

from gradsift.components.calibration.component import plan_calibration
from gradsift.components.data_preparation.component import prepare_data
from gradsift.components.evaluation.component import evaluate
from gradsift.components.gradient_extraction.component import seal_gradients
from gradsift.components.meta_training.component import meta_train
from gradsift.components.preflight.component import preflight
from gradsift.components.promotion.component import compare_with_champion, promote_model
from gradsift.components.shared.parameters.pipeline_settings import SETTINGS, form_parameters
from gradsift.components.subset_estimation.component import estimate_subsets
from gradsift.components.target_finetuning.component import fine_tune_target
from gradsift.components.training_nodes.component import delete_leftovers
from gradsift.pipelines.loop_tasks import calibrate_group, extract_group
from gradsift.pipelines.platform import (
    mount_environment,
    mount_model_cache,
    set_resources,
    set_training_resources,
)

DESCRIPTION = """\
Fine-tunes a language model for a target task by choosing which other data sources to train on.
It trains once on everything, estimates thousands of subsets of the sources, fine-tunes on the best one, and \
proves on held-out data what the choice bought.
What: `suite` and `target` name the task, `sources` what to choose from (empty: all others), `base_model` the \
model; `output_uri` is where results are kept and found again.
How: `model_max_length`, `fine_tune_steps`, `calibrate_runs`, `promote_model_name`; where: `cpu`, `memory`, \
`gpus`, `gpu_type`, `train_nodes` and `platform_...`.
All other parameters go into `settings`, a mapping such as {"meta_epochs": 1}; PARAMETERS.md describes every one."""
CHECK_CPU, CHECK_MEMORY = "2", "8Gi"
"""What preflight gets, before any setting is resolved, and the task that cleans up after everything."""


def _with_form(pipeline: Any) -> Any:
    """Give a function of the form's fields their names, types, defaults and descriptions, which KFP reads."""
    form = form_parameters()
    kinds = {**{name: each.kind for name, each in form.items()}, SETTINGS: dict}
    defaults = {**{name: each.default for name, each in form.items()}, SETTINGS: {}}
    descriptions = {**{name: each.description for name, each in form.items()}, SETTINGS: SETTINGS_DESCRIPTION}
    pipeline.__signature__ = inspect.Signature(
        [
            inspect.Parameter(
                name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=defaults[name], annotation=kind
            )
            for name, kind in kinds.items()
        ]
    )
    lines = [f"    {name}: {text}" for name, text in descriptions.items()]
    pipeline.__doc__ = "\n".join([pipeline.__doc__, "", "Args:", *lines])
    return pipeline


SETTINGS_DESCRIPTION = "a mapping of all parameters that are no fields of the form."


@dsl.pipeline(name="gradsift", description=DESCRIPTION)
@_with_form
def gradsift_pipeline(*fields: Any) -> None:
    """Choose the sources for a target task and fine-tune on them."""
    form = dict(zip([*form_parameters(), SETTINGS], fields, strict=True))
    environment = {
        name: form[f"platform_{name}"] for name in ("s3_secret", "mlflow_secret", "hub_secret", "settings")
    }
    placement = {name: form[f"platform_{name}"] for name in ("node_selector", "tolerations")}
    check = preflight(**form)
    resolved = check.outputs
    placement["gpu_type"] = form["gpu_type"]
    large = {"cpu": form["cpu"], "memory": form["memory"], "gpus": resolved["gpus"], **placement}
    training = {name: resolved[f"training_{name}"] for name in ("cpu", "memory", "gpus")} | placement

    leftovers = delete_leftovers(nodes=form["train_nodes"])
    with dsl.ExitHandler(leftovers, name="run"):
        data = prepare_data(settings=resolved["data_preparation"])
        prepared = data.outputs["data"]
        news = compare_with_champion(data=prepared, settings=resolved["promotion"])
        with dsl.If(news.output == "changed", name="if-changed"):
            theta = meta_train(data=prepared, settings=resolved["meta_training"])
            meta_model = theta.outputs["model"]
            with dsl.ParallelFor(resolved["extraction_parts"], name="gradient-parts") as part:
                extracted = extract_group(
                    data=prepared,
                    model=meta_model,
                    step_settings=resolved["gradient_extraction"],
                    part=part,
                    **large,
                    **environment,
                )
            store = seal_gradients(
                data=prepared, model=meta_model, settings=resolved["gradient_extraction"]
            ).after(extracted)
            plan = plan_calibration(data=prepared, meta_model=meta_model, settings=resolved["calibration"])
            with dsl.ParallelFor(plan.output, name="calibration-runs") as planned:
                calibration = calibrate_group(
                    data=prepared,
                    step_settings=resolved["calibration_runs"],
                    planned=planned,
                    **training,
                    **environment,
                )
            estimates = estimate_subsets(
                data=prepared,
                model=meta_model,
                gradients=store.outputs["gradients"],
                calibration=plan.output,
                settings=resolved["subset_estimation"],
            ).after(calibration)
            selection = estimates.outputs["selection"]
            tuned = fine_tune_target(
                data=prepared, selection=selection, settings=resolved["target_finetuning"]
            )
            model = tuned.outputs["model"]
            evaluation = evaluate(
                data=prepared, selection=selection, model=model, settings=resolved["evaluation"]
            )
            with dsl.If(form["promote_model_name"] != "", name="if-registered"):
                promotion = promote_model(data=prepared, model=model, settings=resolved["promotion"]).after(
                    evaluation
                )

    set_resources(check, CHECK_CPU, CHECK_MEMORY, retry=False)
    mount_model_cache(check)
    set_resources(leftovers, CHECK_CPU, CHECK_MEMORY)
    for task in (data, news, store, plan, estimates):
        set_resources(task, resolved["small_cpu"], resolved["small_memory"])
    for task in (theta, tuned, evaluation):
        set_training_resources(task, **training)
    set_training_resources(promotion, **large)
    for task in (check, leftovers, data, news, theta, store, plan, estimates, tuned, evaluation, promotion):
        mount_environment(task, **environment)


def _without_descriptions(pipeline: Any) -> None:
    """Drop the descriptions of the components' arguments: they stand in the workflow many times, unseen."""
    for component in pipeline.pipeline_spec.components.values():
        for definitions in (component.input_definitions, component.output_definitions):
            for each in (*definitions.parameters.values(), *definitions.artifacts.values()):
                each.ClearField("description")


_without_descriptions(gradsift_pipeline)
