"""What a step leaves behind: outputs under keys made of their inputs, with digests and pointers."""
