"""What a training process makes of the Trainer's own records."""

from gradsift.components.shared.training_worker import loss_curve


def test_a_loss_curve_does_not_show_where_checkpoints_were_made() -> None:
    plain = [{"step": 3, "loss": 4.0}, {"step": 6, "loss": 2.0}, {"step": 7, "loss": 1.0}]
    resumed = [
        {"step": 1, "loss": 6.0},
        {"step": 3, "loss": 3.0},
        {"step": 5, "loss": 2.5},
        {"step": 6, "loss": 1.0},
        {"step": 7, "loss": 1.0},
        {"step": 7, "train_loss": 9.0},
    ]
    curve = [(3, 4.0), (6, 2.0), (7, 1.0)]
    assert loss_curve(plain, every=3, steps=7) == curve
    assert loss_curve(resumed, every=3, steps=7) == curve
