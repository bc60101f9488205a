"""The KFP interface of subset estimation."""

from kfp import dsl

from gradsift.components.shared.images import CPU_IMAGE


@dsl.component(base_image=CPU_IMAGE, install_kfp_package=False)
def estimate_subsets(
    data: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    gradients: dsl.Input[dsl.Dataset],
    selection: dsl.Output[dsl.Artifact],
    output_uri: str,
    calibration: list = [],
    estimator: str = "gauss_newton",
    method: str = "forward_stepwise",
    ridge: float = 10.0,
    stopping: str = "minimum",
    required_tasks: list = [],
    excluded_tasks: list = [],
    max_tasks: int = 0,
    max_rows: int = 0,
    random_subsets: int = 1000,
    subset_fraction: float = 0.5,
    ensemble_top: int = 0,
    ensemble_threshold: float = 0.0,
    random_baseline_draws: int = 20,
    seed: int = 0,
    fine_tune_steps: int = 40,
) -> None:
    """Estimate the target's loss for many subsets of the auxiliary tasks and choose one.

    Args:
        data: pointer to the prepared data that the store must be of; the chosen rows are written for other
            trainers.
        model: pointer to the meta-trained model that the store must be of.
        gradients: pointer to the gradient store.
        selection: pointer to the estimates and the selection.
        output_uri: run root, a local path or an s3:// address.
        calibration: the calibration runs that are planned, and done by now, each as a JSON text.
        estimator: `gauss_newton` (one damped Gauss-Newton step, its cost independent of the number of rows)
            or `logistic` (the paper's logistic regression with margins as offsets, converged).
        method: the selection method whose subset is the step's choice: `forward_stepwise`,
            `random_ensemble` or `best_of_m`; the others are run too and shown beside it.
        ridge: c, the strength of the ridge in units of the mean curvature tr(H)/d of a train row. It stands
            for how far fine-tuning moves: a short one (few steps, low learning rate) wants a large c. The
            default is where estimates ranked truly trained subsets best on a target that is not in the demo
            (see the README); choose it by calibration runs where there are any.
        stopping: which subset on the path of `forward_stepwise` is taken: `minimum`, the last one, with the
            lowest estimate; or `one_standard_error`, the smallest one whose estimate is within one standard
            error of the difference to that.
        required_tasks: names of auxiliary tasks that every choice must hold.
        excluded_tasks: names of auxiliary tasks that no choice may hold.
        max_tasks: largest number of auxiliary tasks to choose; 0 means no limit.
        max_rows: largest number of train rows that the chosen auxiliary tasks may have together; 0 means no
            limit.
        random_subsets: m, the number of random subsets behind random ensemble and best of m.
        subset_fraction: size of a random subset as a share of the auxiliary tasks.
        ensemble_top: how many tasks random ensemble keeps; 0 lets `ensemble_threshold` decide.
        ensemble_threshold: random ensemble keeps the tasks whose mean estimate T_i is below the mean of all
            random subsets by more than this, in nats.
        random_baseline_draws: random subsets of the selection's size that the random baseline is the mean
            of.
        seed: seed of the random subsets and of resampling.
        fine_tune_steps: optimizer steps of the final fine-tuning; with a fixed number of them the ridge grows
            with a subset's rows, with 0 (a fixed number of epochs) it does not.
    """
    from dataclasses import asdict

    from gradsift.components.shared.step_output import read_pointer
    from gradsift.components.shared.step_run import run_step
    from gradsift.components.shared.true_losses import PlannedRuns, gather
    from gradsift.components.subset_estimation import step
    from gradsift.components.subset_estimation.config import SubsetEstimationConfig

    config = SubsetEstimationConfig(
        estimator=estimator,
        method=method,
        ridge=ridge,
        ridge_scaling="per_row" if fine_tune_steps else "absolute",
        stopping=stopping,
        required_tasks=required_tasks,
        excluded_tasks=excluded_tasks,
        max_tasks=max_tasks,
        max_rows=max_rows,
        random_subsets=random_subsets,
        subset_fraction=subset_fraction,
        ensemble_top=ensemble_top,
        ensemble_threshold=ensemble_threshold,
        random_baseline_draws=random_baseline_draws,
        seed=seed,
    )
    prepared = read_pointer(data)
    origin = {"data_digest": prepared.digest, "model_digest": read_pointer(model).digest}
    run_step(
        step.STEP,
        output_uri,
        asdict(config),
        lambda _: step.estimate_subsets(
            config,
            read_pointer(gradients),
            output_uri,
            origin,
            prepared,
            gather([PlannedRuns.model_validate_json(each) for each in calibration], output_uri),
        ),
        selection,
    )
