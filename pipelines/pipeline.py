"""The pipeline: its steps, wired."""

import inspect
from itertools import chain
from typing import Any

from kfp import dsl

from gradsift.components.data_preparation.component import prepare_data
from gradsift.components.evaluation.component import evaluate
from gradsift.components.fine_tuning.component import fine_tune_target, train_runs
from gradsift.components.gradient_extraction.component import extract_gradients
from gradsift.components.meta_training.component import meta_train
from gradsift.components.preflight.component import preflight
from gradsift.components.promotion.component import conclude, conclude_unchanged
from gradsift.components.shared.kubeflow_trainer.component import delete_leftovers
from gradsift.components.shared.parameters.pipeline_settings import SETTINGS, form_parameters
from gradsift.components.subset_estimation.component import estimate_subsets, plan_calibration
from gradsift.pipelines.platform import (
    mount_environment,
    mount_model_cache,
    set_resources,
    set_training_resources,
)

DESCRIPTION = """\
Fine-tunes a language model for a target task by choosing which other data sources to train on.
It trains once on everything, estimates thousands of subsets of the sources, fine-tunes on the best few to \
choose one, and proves on held-out data what the choice bought.
What: `suite` and `target` name the task, `sources` what to choose from (empty: all others), `base_model` the \
model; `output_uri` is where results are kept and found again.
How: `model_max_length`, `fine_tune_start`, `fine_tune_steps`, `calibrate_runs`, `evaluate_seeds`, \
`promote_model_name`; where: `cpu`, `memory`, `gpus`, `gpu_type`, `train_nodes` and `platform_...`.
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


COMPONENTS = (
    preflight,
    delete_leftovers,
    prepare_data,
    meta_train,
    extract_gradients,
    plan_calibration,
    train_runs,
    estimate_subsets,
    fine_tune_target,
    evaluate,
    conclude,
    conclude_unchanged,
)
RUN_TASK = ["python3", "-P", "-m", "gradsift.components.shared.process.task", "kfp.dsl.executor_main"]
RESOURCE_INPUTS = {"cpu_request", "memory_limit", "accelerator_type", "accelerator_count"}
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

    leftovers = delete_leftovers(nodes=form["train_nodes"], settings=form[SETTINGS])
    with dsl.ExitHandler(leftovers, name="select-and-fine-tune"):
        data = prepare_data(settings=resolved["data_preparation"])
        prepared, news = data.outputs["outputs"], data.outputs["Output"]
        with dsl.If(news == "changed", name="if-changed"):
            theta = meta_train(inputs=prepared, settings=resolved["meta_training"])
            meta_trained = theta.outputs["Output"]
            extracted = extract_gradients(inputs=meta_trained, settings=resolved["gradient_extraction"])
            gradients = extracted.outputs["Output"]
            plan = plan_calibration(inputs=gradients, settings=resolved["subset_estimation"])
            with dsl.ParallelFor(plan.output, name="calibration-runs") as planned:
                calibration = train_runs(settings=resolved["fine_tuning"], planned=planned)
            estimates = estimate_subsets(
                inputs=gradients, settings=resolved["subset_estimation"], calibration=plan.output
            ).after(calibration)
            tuned = fine_tune_target(inputs=estimates.outputs["Output"], settings=resolved["fine_tuning"])
            comparisons = tuned.outputs["Output"]
            with dsl.ParallelFor(comparisons, name="comparison-runs") as planned:
                compared = train_runs(settings=resolved["fine_tuning"], planned=planned)
            compared.set_display_name("train-runs")  # kfp numbers the second task of a component
            evaluation = evaluate(
                inputs=tuned.outputs["outputs"], settings=resolved["evaluation"], comparisons=comparisons
            ).after(compared)
            conclusion = conclude(inputs=evaluation.outputs["Output"], settings=resolved["promotion"])
        with dsl.If(news == "unchanged", name="if-unchanged"):
            early_conclusion = conclude_unchanged(settings=resolved["promotion"])

    small = (data, plan, estimates, evaluation, early_conclusion)
    large = {
        "training": (theta, calibration, tuned, compared),
        "extraction": (extracted,),
        "conclusion": (conclusion,),
    }
    set_resources(check, CHECK_CPU, CHECK_MEMORY, retry=False)
    mount_model_cache(check)
    set_resources(leftovers, CHECK_CPU, CHECK_MEMORY)
    for task in small:
        set_resources(task, resolved["small_cpu"], resolved["small_memory"])
    for kind, tasks in large.items():
        pod = {name: resolved[f"{kind}_{name}"] for name in ("cpu", "memory", "gpus")}
        for task in tasks:
            set_training_resources(task, **pod, **placement)
    for task in (check, leftovers, *small, *chain.from_iterable(large.values())):
        mount_environment(task, form["platform_secret"], form["platform_settings"])


def _with_choices(pipeline: Any) -> None:
    """Name the values of each choice, which Kubeflow's UI draws as a list: kfp 2.17 takes no `Literal`."""
    inputs = pipeline.pipeline_spec.root.input_definitions.parameters
    for name, parameter in form_parameters().items():
        for choice in parameter.choices:
            inputs[name].literals.add(string_value=choice)


def _without_the_unread(pipeline: Any) -> None:
    """Drop what nobody reads in the workflow of a run: its size has a limit, and each task stands there nine times.

    That is the source of the components, which their image has; what their arguments say of themselves; and inputs
    that kfp makes of a task's resources: KFP's driver reads the channels, which are inputs too.
    """
    places = {each.python_func.__name__: _place(each.python_func.__module__) for each in COMPONENTS}
    for executor in pipeline.pipeline_spec.deployment_spec["executors"].values():
        container = executor["container"]
        container["command"] = [*RUN_TASK, places[container["args"][-1]]]
    for component in pipeline.pipeline_spec.components.values():
        for definitions in (component.input_definitions, component.output_definitions):
            for each in (*definitions.parameters.values(), *definitions.artifacts.values()):
                each.ClearField("description")
        for task in component.dag.tasks.values():
            for name in RESOURCE_INPUTS & task.inputs.parameters.keys():
                del task.inputs.parameters[name]


def _place(module: str) -> str:
    """Return where a component stands below `components/`, as a task takes it."""
    return module.removeprefix("gradsift.components.").removesuffix(".component")


_with_choices(gradsift_pipeline)
_without_the_unread(gradsift_pipeline)
