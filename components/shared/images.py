"""The container images that components run in: one place, one release tag."""

CPU_IMAGE = "gradsift/cpu:0.1.0"
TRAIN_IMAGE = "gradsift/train:0.1.0"
