"""Task suites: folders and Hugging Face datasets of many tasks, read and checked row by row."""
