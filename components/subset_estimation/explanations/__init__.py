"""What explains the choice: pairs of tasks, a map of the tasks, simple stand-ins, a sentence."""
