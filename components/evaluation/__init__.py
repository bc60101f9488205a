"""Models, held-out data -> metrics and the report; the only step that reads the test split."""
