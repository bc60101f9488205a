"""The pipeline: its steps, wired."""

import ast
import inspect
from typing import Any

from kfp import dsl

from gradsift.components.data_preparation.component import prepare_data
from gradsift.components.evaluation.component import evaluate
from gradsift.components.fine_tuning.component import fine_tune_target, plan_calibration, train_runs
from gradsift.components.gradient_extraction.component import extract_part, seal_gradients
from gradsift.components.meta_training.component import meta_train
from gradsift.components.preflight.component import preflight
from gradsift.components.promotion.component import compare_with_champion, promote_model
from gradsift.components.shared.kubeflow_trainer.component import delete_leftovers
from gradsift.components.shared.parameters.pipeline_settings import SETTINGS, form_parameters
from gradsift.components.subset_estimation.component import estimate_subsets
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
How: `model_max_length`, `fine_tune_steps`, `calibrate_runs`, `evaluate_seeds`, `promote_model_name`; where: \
`cpu`, `memory`, `gpus`, `gpu_type`, `train_nodes` and `platform_...`.
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


RUN_SOURCE = (
    'p=$(mktemp -d);printf "%s" "$0">$p/c.py;'
    '_KFP_RUNTIME=true python3 -m kfp.dsl.executor_main --component_module_path $p/c.py "$@"'
)
"""What KFP's own command does, in fewer characters."""
UNUSED_IMPORTS = {"import kfp", "from kfp.dsl import *"}
SETTINGS_DESCRIPTION = "a mapping of all parameters that are no fields of the form."


@dsl.pipeline(name="gradsift", description=DESCRIPTION)
@_with_form
def gradsift_pipeline(*fields: Any) -> None:
    """Choose the sources for a target task and fine-tune on them."""
    form = dict(zip([*form_parameters(), SETTINGS], fields, strict=True))
    placement = {
        "gpu_type": form["gpu_type"],
        "node_selector": form["platform_node_selector"],
        "tolerations": form["platform_tolerations"],
    }
    check = preflight(**form)
    resolved = check.outputs

    leftovers = delete_leftovers(nodes=form["train_nodes"])
    with dsl.ExitHandler(leftovers, name="run"):
        data = prepare_data(settings=resolved["data_preparation"])
        prepared = data.outputs["data"]
        news = compare_with_champion(data=prepared, settings=resolved["promotion"])
        with dsl.If(news.output == "changed", name="if-changed"):
            theta = meta_train(data=prepared, settings=resolved["meta_training"])
            meta_model = theta.outputs["model"]
            with dsl.ParallelFor(resolved["extraction_parts"], name="gradient-parts") as part:
                extracted = extract_part(
                    data=prepared, model=meta_model, settings=resolved["gradient_extraction"], part=part
                )
            store = seal_gradients(
                data=prepared, model=meta_model, settings=resolved["gradient_extraction"]
            ).after(extracted)
            plan = plan_calibration(data=prepared, meta_model=meta_model, settings=resolved["calibration"])
            with dsl.ParallelFor(plan.output, name="calibration-runs") as planned:
                calibration = train_runs(
                    data=prepared, settings=resolved["fine_tuning_runs"], planned=planned
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
                data=prepared, meta_model=meta_model, selection=selection, settings=resolved["fine_tuning"]
            )
            model = tuned.outputs["model"]
            comparisons = tuned.outputs["Output"]
            with dsl.ParallelFor(comparisons, name="comparison-runs") as planned:
                compared = train_runs(data=prepared, settings=resolved["fine_tuning_runs"], planned=planned)
            evaluation = evaluate(
                data=prepared,
                selection=selection,
                model=model,
                settings=resolved["evaluation"],
                comparisons=comparisons,
            ).after(compared)
            with dsl.If(form["promote_model_name"] != "", name="if-registered"):
                promotion = promote_model(data=prepared, model=model, settings=resolved["promotion"]).after(
                    evaluation
                )

    small = (data, news, store, plan, estimates, evaluation)
    large, trained = (extracted, promotion), (theta, calibration, tuned, compared)
    set_resources(check, CHECK_CPU, CHECK_MEMORY, retry=False)
    mount_model_cache(check)
    set_resources(leftovers, CHECK_CPU, CHECK_MEMORY)
    for task in small:
        set_resources(task, resolved["small_cpu"], resolved["small_memory"])
    for task in large:
        set_training_resources(task, form["cpu"], form["memory"], resolved["gpus"], **placement)
    for task in trained:
        cpu, memory, gpus = (resolved[f"training_{name}"] for name in ("cpu", "memory", "gpus"))
        set_training_resources(task, cpu, memory, gpus, **placement)
    for task in (check, leftovers, *small, *large, *trained):
        mount_environment(task, form["platform_secret"], form["platform_settings"])


def _without_texts(pipeline: Any) -> None:
    """Drop what the components' arguments and functions say of themselves: nobody sees it in the workflow.

    Each component's source stands nine times in the workflow of a run, whose size has a limit.
    """
    for executor in pipeline.pipeline_spec.deployment_spec["executors"].values():
        source = executor["container"]["command"][-1]
        executor["container"]["command"] = ["sh", "-ec", RUN_SOURCE, _without_the_unused(source)]
    for component in pipeline.pipeline_spec.components.values():
        for definitions in (component.input_definitions, component.output_definitions):
            for each in (*definitions.parameters.values(), *definitions.artifacts.values()):
                each.ClearField("description")


def _without_the_unused(source: str) -> str:
    """Drop docstrings and the two of KFP's imports that our components do not use."""
    tree = ast.parse(source)
    tree.body = [node for node in tree.body if ast.unparse(node) not in UNUSED_IMPORTS]
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and ast.get_docstring(node):
            del node.body[0]
    return ast.unparse(tree)


_without_texts(gradsift_pipeline)
