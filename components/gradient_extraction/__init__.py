"""theta*, tasks -> gradient store: a small projected gradient per example."""
