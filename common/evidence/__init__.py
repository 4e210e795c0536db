"""Evidence: what makes results wrong is looked for before a run."""
