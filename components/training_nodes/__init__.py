"""Where training runs: in the pods of the steps, or on the nodes of TrainJobs that those pods launch."""
